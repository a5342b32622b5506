"""Does every image have its own answer? Seen in the sizes of a traced graph, whose number of images is a symbol."""

from typing import Any

import torch
from torch import Tensor, fx

from banscan.errors import ModelError

aten = torch.ops.aten

# operators along one axis, whose result keeps it: the place of that argument, and its default
ALONG: dict[Any, tuple[int, int | None]] = {
    aten.softmax.int: (1, None),
    aten._softmax.default: (1, None),
    aten.log_softmax.int: (1, None),
    aten._log_softmax.default: (1, None),
    aten.cumsum.default: (1, None),
    aten.cumprod.default: (1, None),
    aten.logcumsumexp.default: (1, None),
    aten.cummax.default: (1, None),
    aten.cummin.default: (1, None),
    aten.sort.default: (1, -1),
    aten.argsort.default: (1, -1),
}
# products: of each operand, its place and the axis that is summed over
SUMMED: dict[Any, tuple[tuple[int, int], ...]] = {
    aten.linear.default: ((0, -1), (1, -1)),
    aten.mm.default: ((0, -1), (1, 0)),
    aten.bmm.default: ((0, -1), (1, 1)),
    aten.addmm.default: ((1, -1), (2, 0)),
    aten.baddbmm.default: ((1, -1), (2, 1)),
    aten.matmul.default: ((0, -1),),
}
# operators on maps, which are to have their images on the first axis
MAPS = ("conv", "max_pool", "avg_pool", "adaptive", "upsample", "grid_sampler", "batch_norm", "instance_norm", "group_norm")
# what changes sizes and mixes nothing, or reads no values
MOVING = frozenset(
    [
        aten.new_zeros.default,
        aten.new_ones.default,
        aten.new_full.default,
        aten.reshape.default,
        aten.view.default,
        aten.flatten.using_ints,
        aten.unflatten.int,
        aten._unsafe_view.default,
        aten.repeat.default,
    ]
)
# what takes values from places
TAKING = frozenset([aten.index.Tensor, aten.index_select.default, aten.gather.default, aten.take.default, aten.embedding.default])
ARITHMETIC = frozenset(["add", "sub", "mul", "div", "pow", "rsub", "maximum", "minimum", "full", "scalar_tensor"])


def check_apart(module: fx.GraphModule) -> None:
    """Raises ModelError where an image's answer depends on the other images, or on how many there are."""
    places: set[fx.Node] = set()
    for node in module.graph.nodes:
        if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
            continue
        if _is_place(node, node.target, places):
            places.add(node)
        elif _mixes(node, node.target) or (places.intersection(node.all_input_nodes) and node.target not in TAKING):
            name = node.target.overloadpacket.__name__
            raise ModelError(f"{node.name} ({name}) computes with several images at once; a classifier must answer each image by itself")


def _is_place(node: fx.Node, target: torch._ops.OpOverload, places: set[fx.Node]) -> bool:
    """Whether integers are computed with the number of images, as places in a tensor of all of them."""
    value = _value(node)
    if not isinstance(value, Tensor) or value.is_floating_point() or value.dtype == torch.bool:
        return False
    return bool(places.intersection(node.all_input_nodes)) or _counts(node, target.overloadpacket.__name__)


def _counts(node: fx.Node, name: str) -> bool:
    """Whether arithmetic has the number of images among its numbers."""
    return name in ARITHMETIC and any(isinstance(_value(a), torch.SymInt | torch.SymFloat) for a in _operands(node, name))


def _mixes(node: fx.Node, target: torch._ops.OpOverload) -> bool:
    tensors = [value for value in map(_value, node.all_input_nodes) if isinstance(value, Tensor)]
    name = target.overloadpacket.__name__
    if _counts(node, name):
        return True
    most = max(map(_free, tensors), default=0)
    if not most:
        return False
    if target in ALONG:
        place, default = ALONG[target]
        axis = node.args[place] if len(node.args) > place else node.kwargs.get("dim", default)
        return not isinstance(axis, int) or _free_at(tensors[0], axis)
    if target in SUMMED:
        return any(_free_at(_value(node.args[place]), axis) for place, axis in SUMMED[target])
    if name.startswith(MAPS) and any(_free_at(tensors[0], axis) for axis in range(1, tensors[0].dim())):
        return True
    results = _value(node)
    parts = results if isinstance(results, list | tuple) else [results]
    return target not in MOVING and any(isinstance(part, Tensor) and _free(part) < most for part in parts)


def _operands(node: fx.Node, name: str) -> tuple[Any, ...]:
    """Arguments that are numbers to compute with, not sizes."""
    return node.args[1:] if name == "full" else node.args


def _value(node: Any) -> Any:
    return node.meta.get("val") if isinstance(node, fx.Node) else None


def _free(value: Tensor) -> int:
    """Axes whose size depends on the number of images."""
    return sum(not isinstance(size, int) for size in value.shape)


def _free_at(value: Any, axis: int) -> bool:
    if not isinstance(value, Tensor):
        return False
    return -value.dim() <= axis < value.dim() and not isinstance(value.shape[axis], int)
