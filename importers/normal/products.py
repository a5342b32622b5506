"""Matrix products with a constant operand, in whatever way they are written, as linear layers: that is what neurons are looked for as."""

from typing import Any, cast

import torch
from torch import Tensor, fx

from banscan.importers.model import Folding, Part
from banscan.importers.normal.constants import attribute, constant
from banscan.importers.normal.functions import laid_out, rows
from banscan.importers.normal.penultimate import shape

aten = torch.ops.aten

PRODUCTS = frozenset({aten.matmul.default, aten.mm.default, aten.bmm.default})
SUMS = frozenset({aten.addmm.default, aten.baddbmm.default})
TURNS = frozenset({aten.permute.default, aten.transpose.int, aten.t.default, aten.numpy_T.default, aten.mT.default})


def to_linear(module: fx.GraphModule, foldings: dict[str, Folding]) -> None:
    """Puts a linear layer where a matrix product has a constant operand on one side."""
    for node in list(module.graph.nodes):
        if node.op != "call_function":
            continue
        with module.graph.inserting_before(node):
            made = _made(module, foldings, node)
        if made is not None:
            made.meta["val"] = node.meta["val"]
            node.replace_all_uses_with(made)
            module.graph.erase_node(node)
    cancel_turns(module)
    module.graph.eliminate_dead_code()


def _made(module: fx.GraphModule, foldings: dict[str, Folding], node: fx.Node) -> fx.Node | None:
    if node.target in PRODUCTS:
        return _product(module, foldings, node, *cast(Any, node.args[:2]))
    if node.target in SUMS:
        added, first, second = cast(Any, node.args[:3])
        product = _product(module, foldings, node, first, second)
        if product is None:
            return None
        alpha, beta = (node.kwargs.get(key, 1) for key in ("alpha", "beta"))
        if alpha != 1:
            product = _new(module, aten.mul.Tensor, (product, alpha), node.meta["val"])
        if beta != 1:
            added = _new(module, aten.mul.Tensor, (added, beta), added.meta["val"])
        return _new(module, aten.add.Tensor, (product, added), node.meta["val"])
    return _einsum(module, foldings, node) if node.target is aten.einsum.default else None


def _product(module: fx.GraphModule, foldings: dict[str, Folding], node: fx.Node, first: fx.Node, second: fx.Node) -> fx.Node | None:
    """first @ second; None unless one of them is a constant matrix, or several that are one."""
    held = _matrix(module, second)
    x, right = (first, True) if held is not None else (second, False)
    held = held or _matrix(module, first)
    if held is None or len(shape(x)) < 2 or attribute(module, x) is not None:
        return None
    place, value = held
    found = Folding(rows, (str(place.target),), (Part(0), right))
    weight = constant(module, node, found.compute([value]), f"{node.name}_weight")
    foldings[str(weight.target)] = found
    x = x if right else _turned(module, x)
    x_value = x.meta["val"]
    result = _new(module, aten.linear.default, (x, weight), x_value.new_empty((*x_value.shape[:-1], weight.meta["val"].shape[0])))
    if not right:
        result = _turned(module, result)
    sizes = shape(node)
    if len(shape(result)) == len(sizes):
        return result
    if sum(not isinstance(s, int) for s in sizes) > 1:
        return None
    return _new(module, aten.reshape.default, (result, [s if isinstance(s, int) else -1 for s in sizes]), node.meta["val"])


def _matrix(module: fx.GraphModule, node: Any) -> tuple[fx.Node, Tensor] | None:
    """A constant vector or matrix, with axes of size 1 in front or repeated for every image; None for anything else."""
    if isinstance(node, fx.Node) and node.target is aten.expand.default:
        source, target = cast(fx.Node, node.args[0]), shape(node)
        own = attribute(module, source)
        if own is None or own.dim() < 2 or tuple(own.shape[-2:]) != target[-2:]:
            return None
        node = source
    value = attribute(module, node)
    if value is None or not value.is_floating_point() or value.dim() < 1 or value.shape[:-2].numel() != 1:
        return None
    return node, value


def _new(module: fx.GraphModule, target: Any, args: tuple[Any, ...], value: Any) -> fx.Node:
    node = module.graph.create_node("call_function", target, args, name=str(target.__name__).partition(".")[0])
    node.meta["val"] = value
    return node


def _turned(module: fx.GraphModule, node: fx.Node) -> fx.Node:
    """The last two axes exchanged; what was exchanged already is taken back."""
    rank = len(shape(node))
    order = _order(node)
    if order == [*range(rank - 2), rank - 1, rank - 2]:
        return cast(fx.Node, node.args[0])
    return _new(module, aten.transpose.int, (node, -2, -1), node.meta["val"].transpose(-2, -1))


def _order(node: fx.Node) -> list[int] | None:
    """The order in which a node leaves the axes of its input; None for what is no permutation."""
    if node.op != "call_function" or node.target not in TURNS:
        return None
    rank = len(shape(node))
    if node.target is aten.permute.default:
        return [d % rank for d in cast(Any, node.args[1])]
    order = list(range(rank))
    if node.target is aten.numpy_T.default:
        return order[::-1]
    first, second = cast(Any, node.args[1:]) if node.target is aten.transpose.int else (-2, -1)
    if rank >= 2:
        order[first], order[second] = order[second], order[first]
    return order


def cancel_turns(module: fx.GraphModule) -> None:
    """Permutations that bring the axes back to where they were, one behind the other."""
    for node in list(module.graph.nodes):
        second = _order(node)
        before = node.args[0] if second is not None else None
        first = _order(before) if isinstance(before, fx.Node) else None
        if second is not None and first is not None and [first[i] for i in second] == list(range(len(second))):
            node.replace_all_uses_with(cast(fx.Node, cast(fx.Node, before).args[0]))
            module.graph.erase_node(node)


def _einsum(module: fx.GraphModule, foldings: dict[str, Folding], node: fx.Node) -> fx.Node | None:
    """Of two operands one of which is constant, with no letter in all three places: the other's axes in order, a linear layer, in order."""
    operands = cast(Any, node.args[1])
    equation = str(node.args[0]).replace(" ", "")
    if len(operands) != 2 or "." in equation:
        return None
    constants = [attribute(module, o) for o in operands]
    side = 1 if constants[1] is not None else 0
    value, x = constants[side], operands[1 - side]
    if value is None or constants[1 - side] is not None:
        return None
    left, _, out = equation.partition("->")
    letters = left.split(",")
    own, theirs = letters[side], letters[1 - side]
    if "->" not in equation:
        out = "".join(sorted(c for c in set(own + theirs) if (own + theirs).count(c) == 1))
    summed = [c for c in theirs if c not in out]
    free, new = [c for c in theirs if c in out], [c for c in own if c not in summed]
    plain = all(len(set(part)) == len(part) for part in (own, theirs, out))
    if not plain or not summed or set(summed) != set(own) - set(new) or set(free) & set(new) or set(out) != set(free) | set(new):
        return None
    sizes = dict(zip(theirs, shape(x), strict=True)) | dict(zip(own, value.shape, strict=True))
    if not all(isinstance(sizes[c], int) for c in summed):
        return None
    found = Folding(laid_out, (str(operands[side].target),), (Part(0), [own.index(c) for c in (*new, *summed)], len(new)))
    weight = constant(module, node, found.compute([value]), f"{node.name}_weight")
    foldings[str(weight.target)] = found
    fake = x.meta["val"]
    order = [theirs.index(c) for c in (*free, *summed)]
    if order != list(range(len(order))):
        fake = fake.permute(order)
        x = _new(module, aten.permute.default, (x, order), fake)
    if len(summed) > 1:
        fake = fake.flatten(len(free))
        x = _new(module, aten.flatten.using_ints, (x, len(free), -1), fake)
    fake = fake.new_empty((*fake.shape[: len(free)], *weight.meta["val"].shape[:1]))
    result = _new(module, aten.linear.default, (x, weight), fake)
    if len(new) != 1:
        fake = fake.unflatten(-1, [int(sizes[c]) for c in new]) if new else fake.squeeze(-1)
        args = (result, -1, [int(sizes[c]) for c in new]) if new else (result, -1)
        result = _new(module, aten.unflatten.int if new else aten.squeeze.dim, args, fake)
    order = [(*free, *new).index(c) for c in out]
    return result if order == list(range(len(order))) else _new(module, aten.permute.default, (result, order), node.meta["val"])
