"""From the constants that a graph reads back to the weights that the file holds, and what stands in the way."""

from typing import cast

import torch
from torch import Tensor, fx

from banscan.errors import ModelError
from banscan.importers.model import Neuron, TracedModel, attribute_named


def roles(model: TracedModel, neuron: Neuron) -> tuple[str, str | None]:
    """Names of the constants that are a neuron layer's weight and bias in the graph."""
    node = next(n for n in model.module.graph.nodes if n.name == neuron.node)
    bias = node.args[2] if len(node.args) > 2 else None
    return str(cast(fx.Node, node.args[1]).target), str(bias.target) if isinstance(bias, fx.Node) else None


def writable(model: TracedModel) -> dict[str, Tensor]:
    """Copies of the file's weights that neuron layers are made of; running statistics and everything else stay as they are.

    Raises:
        ModelError: a weight that two layers share, which cannot be tuned for one of them alone, or none that can be written back.
    """
    readers: dict[str, dict[str, list[str]]] = {}
    for neuron in model.neurons:
        for name in roles(model, neuron):
            for part in () if name is None else _parts(model, name) - model.statistics:
                readers.setdefault(part, {}).setdefault(neuron.node, []).append(str(name))
    weights = {name: attribute_named(model.module, name).detach().clone() for name in readers if name in model.source.weights}
    if not weights:
        raise ModelError(f"{model.source.path}: none of its weights can be written back; cannot repair it")
    for name, layers in readers.items():
        if len(layers) > 1 and _overlap(model, name, list(layers.values())):
            told = f"the layers {' and '.join(list(layers)[:2])} share the weight {model.source.weights.get(name, name)!r}"
            raise ModelError(f"{model.source.path}: {told}, which cannot be tuned for one of them alone; cannot repair it")
    return weights


def check_invertible(model: TracedModel) -> None:
    """Raises ModelError where a layer's weights follow from the file's in a way that changed ones cannot be led back through."""
    generator = torch.Generator().manual_seed(0)
    names = [name for neuron in model.neurons for name in roles(model, neuron) if name is not None and name not in model.statistics]
    own = {name: attribute_named(model.module, name) for name in names}
    wanted = {name: value * (1 + 0.1 * torch.rand(value.shape, generator=generator)) for name, value in own.items()}
    reached = model.constants(written(model, wanted))
    for neuron in model.neurons:
        name = roles(model, neuron)[0]
        if name in wanted and not torch.allclose(
            reached.get(name, own[name]), wanted[name], rtol=1e-3, atol=1e-5 * float(wanted[name].abs().max())
        ):
            raise ModelError(f"{model.source.path}: the weight of {neuron.node} is computed from others in the graph; cannot write it back")


def _parts(model: TracedModel, name: str) -> set[str]:
    """What a constant was computed from, down to what the file holds."""
    if name not in model.foldings:
        return {name}
    return {leaf for part in model.foldings[name].parts for leaf in _parts(model, part)}


def _overlap(model: TracedModel, name: str, readers: list[list[str]]) -> bool:
    """Do two layers read the same values of a weight? One tensor may hold the weights of several layers, each in a part of its own."""
    leaf = attribute_named(model.module, name).detach().clone()
    read = sum(
        (_pulled(model, name, leaf, {c: torch.ones_like(attribute_named(model.module, c)) for c in group}) != 0) for group in readers
    )
    return bool((cast(Tensor, read) > 1).any())


def _pulled(model: TracedModel, name: str, leaf: Tensor, against: dict[str, Tensor]) -> Tensor:
    """The gradient of sum(constant * against) over these constants with respect to a weight of the file."""
    leaf = leaf.detach().requires_grad_()
    known = model.constants({name: leaf})
    total = torch.stack([(known[c] * value).sum() for c, value in against.items()]).sum()
    # a batch norm's shift has no part in the weight that it is folded into
    (gradient,) = torch.autograd.grad(total, leaf) if total.requires_grad else (torch.zeros_like(leaf),)
    return gradient


def written(model: TracedModel, constants: dict[str, Tensor]) -> dict[str, Tensor]:
    """The file's weights that fold into these constants of the graph, or as near to them as the file can hold.

    A constant follows from one weight by scaling and moving its values, so that weight is found from the transposed map; of several that
    lead to the same bias the one with the largest effect is taken. Channels whose scale is 0 in the file stay as they are.
    """
    weights = writable(model)
    for which in (0, 1):  # biases depend on nothing that is changed for the weights before them
        wanted: dict[str, list[str]] = {}
        for neuron in model.neurons:
            name = roles(model, neuron)[which]
            leaf = None if name is None or name not in constants else _leaf(model, name, weights)
            if leaf is not None:
                wanted.setdefault(leaf, []).append(str(name))
        for leaf, names in wanted.items():
            now = model.constants(weights)
            ones = {n: torch.ones_like(constants[n]) for n in names}
            scale = _pulled(model, leaf, weights[leaf], ones)
            missing = _pulled(model, leaf, weights[leaf], {n: constants[n] - now.get(n, attribute_named(model.module, n)) for n in names})
            # the map scales every value by itself: once by pulling the difference back, once more by its square
            alive = scale.abs() > 1e-12
            weights[leaf] = weights[leaf] + torch.where(alive, missing / torch.where(alive, scale, 1.0) ** 2, 0.0)
    return weights


def _leaf(model: TracedModel, name: str, weights: dict[str, Tensor]) -> str | None:
    """The file's weight that a constant's values can be set by."""
    shape = attribute_named(model.module, name)
    found: tuple[float, str] | None = None
    for part in _parts(model, name):
        if part in weights and weights[part].numel() >= shape.numel():
            effect = _pulled(model, part, weights[part], {name: torch.ones_like(shape)}).abs()
            if int((effect > 0).sum()) <= shape.numel():
                found = max(found or (0.0, ""), (float(effect[effect > 0].median()) if (effect > 0).any() else 0.0, part))
    return None if found is None or found[0] == 0 else found[1]
