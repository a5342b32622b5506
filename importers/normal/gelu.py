"""GELU (Hendrycks & Gimpel 2016) written out, x (1 + erf(x / √2)) / 2, as one operator again.

Exporters to ONNX before opset 20 have no other way to write it; one operator needs a fifth of the passes over the tensor.
"""

import math
from collections.abc import Callable

import torch
from torch import fx

from banscan.importers.normal.penultimate import shape

aten = torch.ops.aten

# the value of an argument that is one number or a constant that holds one
Number = Callable[[object], float | None]
# constants in files are float32 or float16
CLOSE = 1e-3


def fuse(module: fx.GraphModule, number: Number) -> None:
    """Puts one operator where a GELU is written out."""
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target is not aten.erf.default:
            continue
        x, scale = _scaled(node.args[0], number)
        last = _last(node, x, number) if x is not None and math.isclose(scale, math.sqrt(0.5), rel_tol=CLOSE) else None
        # a constant of one element may still add axes
        if last is None or len(shape(last)) != len(shape(x)):
            continue
        with module.graph.inserting_after(last):
            fused = module.graph.call_function(aten.gelu.default, (x,))
        fused.meta = dict(last.meta)
        last.replace_all_uses_with(fused)
    module.graph.eliminate_dead_code()


def _scaled(value: object, number: Number) -> tuple[fx.Node | None, float]:
    """The node and the factor that this is their product of."""
    if not isinstance(value, fx.Node):
        return None, 0.0
    if value.target in (aten.mul.Tensor, aten.div.Tensor):
        first, second = value.args
        factor = number(second)
        if isinstance(first, fx.Node) and factor:
            return first, 1 / factor if value.target is aten.div.Tensor else factor
        factor = number(first)
        if value.target is aten.mul.Tensor and isinstance(second, fx.Node) and factor is not None:
            return second, factor
    return value, 1.0


def _last(erf: fx.Node, x: fx.Node, number: Number) -> fx.Node | None:
    """The node that holds x (1 + erf) / 2; None where no node does."""
    node = _only_user(erf)
    if node is None or node.target is not aten.add.Tensor or node.kwargs or 1.0 not in map(number, node.args):
        return None
    factor, times = 1.0, 0
    while times < 2:
        user = _only_user(node)
        if user is None or user.target not in (aten.mul.Tensor, aten.div.Tensor):
            return None
        if user.target is aten.div.Tensor and user.args[0] is not node:
            return None
        other = user.args[1] if user.args[0] is node else user.args[0]
        value = number(other)
        if value is None:
            inner, value = _scaled(other, number)
            if inner is not x:
                inner, value = (x, 1.0) if other is x else (None, 0.0)
            if inner is None or user.target is aten.div.Tensor:
                return None
            times += 1
        factor = factor / value if user.target is aten.div.Tensor and value else factor * value
        node = user
        if times == 1 and math.isclose(factor, 0.5, rel_tol=CLOSE):
            return node
    return None


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None
