"""Whether a network works with attention."""

from typing import Any

import torch
from torch import fx

aten = torch.ops.aten

SOFT = frozenset({aten.softmax.int, aten._softmax.default})
MIXING = frozenset({aten.matmul.default, aten.bmm.default, aten.einsum.default})


def attends(module: fx.GraphModule) -> bool:
    """Whether a softmax inside the network weights other values."""
    return any(
        node.target is aten.scaled_dot_product_attention.default or (node.target in SOFT and any(_reaches(u, MIXING) for u in node.users))
        for node in module.graph.nodes
    )


def _reaches(node: fx.Node, targets: frozenset[Any], steps: int = 3) -> bool:
    """Whether one of the operations follows within a few views and casts."""
    return node.target in targets or (steps > 0 and any(_reaches(u, targets, steps - 1) for u in node.users))
