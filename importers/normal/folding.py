"""Constants that follow from others: computed once, and what is added or scaled behind a layer goes into its weight and bias."""

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.utils._pytree as pytree
from torch import Tensor, fx

from banscan.importers.model import Folding, Part
from banscan.importers.normal.constants import attribute, constant
from banscan.importers.normal.neurons import KINDS

aten = torch.ops.aten


def fold_constants(module: fx.GraphModule, foldings: dict[str, Folding]) -> None:
    """Computes once what depends on no image: transposed weights, scaled biases."""
    for node in list(module.graph.nodes):
        inputs = node.all_input_nodes
        if node.op != "call_function" or not inputs or not all(attribute(module, i) is not None for i in inputs):
            continue
        args, kwargs = _with_parts(node, inputs)
        found = Folding(cast(Callable[..., Any], node.target), tuple(str(i.target) for i in inputs), args, kwargs)
        result = found.compute([cast(Tensor, attribute(module, i)) for i in inputs])
        if isinstance(result, Tensor):
            folded = constant(module, node, result, node.name)
            foldings[str(folded.target)] = found
            node.replace_all_uses_with(folded)
            module.graph.erase_node(node)


def _with_parts(node: fx.Node, inputs: list[fx.Node]) -> Any:
    """Arguments with a `Part` for every constant; fx has lists of its own, in which only its nodes can stand."""

    def part(value: Any) -> Any:
        return Part(inputs.index(value)) if isinstance(value, fx.Node) else value

    return pytree.tree_map(part, (tuple(node.args), dict(node.kwargs)))


def fuse_bias(module: fx.GraphModule, foldings: dict[str, Folding]) -> None:
    """A constant added to a layer that has no bias is its bias; some exporters write it so."""
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target is not aten.add.Tensor or len(node.args) != 2 or node.kwargs:
            continue
        for layer, other in (node.args, node.args[::-1]):
            value = _bias(module, layer, other) if isinstance(layer, fx.Node) else None
            if not isinstance(layer, fx.Node) or value is None:
                continue
            bias = constant(module, layer, value, node.name)
            if isinstance(other, fx.Node):
                foldings[str(bias.target)] = Folding(flattened, (str(other.target),))
            layer.args = (*layer.args[:2], bias, *layer.args[3:])
            node.replace_all_uses_with(layer)
            module.graph.erase_node(node)
            break


def _bias(module: fx.GraphModule, layer: fx.Node, added: object) -> Tensor | None:
    """What is added to a layer as its bias [channels]; None where it is none, where others read the layer, or where it has one."""
    value = torch.tensor([float(added)]) if isinstance(added, int | float) else attribute(module, added)
    kind = KINDS.get(layer.target)
    weight = attribute(module, layer.args[1]) if kind in ("conv", "linear") else None
    taken = len(layer.args) > 2 and layer.args[2] is not None
    if value is None or weight is None or taken or len(layer.users) != 1:
        return None
    channels = weight.shape[0]
    trailing = weight.dim() - 2 if kind == "conv" else 0
    flat = value.reshape(value.shape[: value.dim() - trailing]) if value.shape[value.dim() - trailing :].numel() == 1 else None
    if flat is None or flat.numel() != channels or (flat.dim() and flat.shape[-1] != channels):
        return None
    return flat.reshape(channels)


def fold_batch_norm(module: fx.GraphModule, foldings: dict[str, Folding]) -> frozenset[str]:
    """A batch norm that alone reads a convolution or linear layer goes into its weights.

    So a model gives the same verdict whether its exporter folded the batch norm or not. Others stay and are neurons of their own. Returns
    the names of all running means and variances.
    """
    statistics: set[str] = set()
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target is not aten.batch_norm.default:
            continue
        statistics.update(str(a.target) for a in node.args[3:5] if isinstance(a, fx.Node))
        layer = cast(fx.Node, node.args[0])
        if layer.op != "call_function" or KINDS.get(layer.target) not in ("conv", "linear") or len(layer.users) != 1:
            continue
        bias = layer.args[2] if len(layer.args) > 2 else None
        parts = (layer.args[1], bias, *node.args[1:5])
        values = [attribute(module, a) for a in parts]
        if values[0] is None or values[4] is None or values[5] is None:
            continue
        there = [i for i, value in enumerate(values) if value is not None]
        given: list[Part | None] = [Part(there.index(i)) if i in there else None for i in range(len(values))]
        names = tuple(str(cast(fx.Node, parts[i]).target) for i in there)
        new = []
        for what, function in (("weight", scaled), ("bias", shifted)):
            found = Folding(function, names, (*given, cast(float, node.args[7])))
            folded = constant(module, layer, found.compute([v for v in values if v is not None]), f"{layer.name}_{what}")
            foldings[str(folded.target)] = found
            new.append(folded)
        layer.args = (layer.args[0], *new, *layer.args[3:])
        node.replace_all_uses_with(layer)
        module.graph.erase_node(node)
    return frozenset(statistics)


def scaled(weight: Tensor, bias: Tensor | None, gamma: Tensor | None, beta: Tensor | None, mean: Tensor, var: Tensor, eps: float) -> Tensor:
    """The weight of a layer with its batch norm in it."""
    scale = (var + eps).rsqrt()
    scale = scale if gamma is None else scale * gamma
    return weight * scale.reshape(-1, *(1,) * (weight.dim() - 1))


def shifted(
    weight: Tensor, bias: Tensor | None, gamma: Tensor | None, beta: Tensor | None, mean: Tensor, var: Tensor, eps: float
) -> Tensor:
    """The bias of a layer with its batch norm in it; the weight does not count."""
    scale = (var + eps).rsqrt()
    scale = scale if gamma is None else scale * gamma
    shift = -mean * scale if bias is None else (bias - mean) * scale
    return shift if beta is None else shift + beta


def flattened(value: Tensor) -> Tensor:
    """A bias written with axes of one for the places of a map."""
    return value.flatten()


# what a folding may call beside torch's operators
FUNCTIONS: dict[str, Callable[..., Tensor]] = {f"folding.{f.__name__}": f for f in (scaled, shifted, flattened)}
