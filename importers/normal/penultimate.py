"""Finds the classifier, the penultimate features and the spatial map before pooling, from the graph alone.

A tensor is a candidate when every path from the image to the logits runs through it (a dominator of the logits). Walking back from the
logits over these, the first one with a weighted layer behind it holds the penultimate features, and those layers are the classifier.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx


@dataclass(frozen=True)
class Anatomy:
    """Names of fx nodes: the features [N, F] or [N, C, H, W], the map or tokens before pooling, if any, the classifier's layers."""

    features: str
    spatial: str | None
    classifier: tuple[str, ...]


def find(graph: fx.Graph, weighted: set[str]) -> Anatomy | None:
    """The anatomy of a graph whose layers with constant weights are `weighted`, or None when none of them leads to the logits."""
    image = next(n for n in graph.nodes if n.op == "placeholder")
    logits: fx.Node = next(n for n in reversed(graph.nodes) if n.op == "output").args[0]
    data = depends_on(graph, image)
    parent = dominators(graph, image, data)
    chain = [logits]
    while chain[-1] is not image and chain[-1] in parent:
        chain.append(parent[chain[-1]])
    candidates = [n for n in chain if isinstance(n.meta.get("val"), torch.Tensor)]
    for i, node in enumerate(candidates):
        behind = {n for n in between(node, logits, data) if n.name in weighted}
        if behind:
            classifier = tuple(n.name for n in graph.nodes if n in behind)
            return None if node is image else Anatomy(node.name, _spatial(candidates[i:], image), classifier)
    return None


def depends_on(graph: fx.Graph, image: fx.Node) -> set[fx.Node]:
    """The nodes whose tensors are computed from the image; its shape does not count."""
    data = {image}
    for node in graph.nodes:
        tensor = isinstance(node.meta.get("val"), torch.Tensor | tuple | list)
        if node.op == "call_function" and tensor and any(i in data for i in node.all_input_nodes):
            data.add(node)
    return data


def dominators(graph: fx.Graph, image: fx.Node, data: set[fx.Node]) -> dict[fx.Node, fx.Node]:
    """The immediate dominator of every node that depends on the image (Cooper, Harvey & Kennedy 2001, on an acyclic graph)."""
    parent, depth = {image: image}, {image: 0}
    for node in graph.nodes:
        inputs = [i for i in node.all_input_nodes if i in parent]
        if node not in data or node is image or not inputs:
            continue
        common = inputs[0]
        for other in inputs[1:]:
            while common is not other:
                if depth[common] >= depth[other]:
                    common = parent[common]
                else:
                    other = parent[other]
        parent[node], depth[node] = common, depth[common] + 1
    return parent


def between(start: fx.Node, end: fx.Node, data: set[fx.Node]) -> set[fx.Node]:
    """Nodes after `start` up to and with `end`, for a `start` that dominates `end`."""
    seen: set[fx.Node] = set()
    waiting = [end]
    while waiting:
        node = waiting.pop()
        if node is start or node in seen or node not in data:
            continue
        seen.add(node)
        waiting += node.all_input_nodes
    return seen


def _spatial(chain: list[fx.Node], image: fx.Node) -> str | None:
    for node in chain:
        sizes = shape(node)
        if node is image:
            return None
        # wherever its channels are, a map, or a row of tokens, has more than one axis that is longer than 1
        if len(sizes) in (3, 4) and sum(not isinstance(s, int) or s > 1 for s in sizes[1:]) > 1:
            return node.name
    return None


def shape(node: Any) -> tuple[Any, ...]:
    """The sizes of a node's tensor; a free batch is symbolic."""
    value = node.meta.get("val")
    return tuple(value.shape) if isinstance(value, torch.Tensor) else ()


def pretty(sizes: tuple[Any, ...]) -> str:
    """Sizes for a message, with a free one as 'batch'."""
    return "[" + ", ".join(str(s) if isinstance(s, int) else "batch" for s in sizes) + "]"
