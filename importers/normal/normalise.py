"""The one normal form: what every importer's traced graph becomes, whatever the file was."""

import math
from functools import partial
from typing import Any, cast

import torch
from torch import fx

from banscan.errors import ModelError
from banscan.importers.model import Folding, Input, Neuron, Source, TracedModel, output_node
from banscan.importers.normal import (
    batch,
    checks,
    folding,
    fusing,
    gelu,
    heads,
    merged,
    neurons,
    offsets,
    penultimate,
    products,
    scales,
    tail,
    views,
)
from banscan.importers.normal.constants import scalar

aten = torch.ops.aten

# values per image: a ResNet50 at 224x224 has fewer than a million in its widest layer
LARGEST_ACTIVATION = 1 << 28
# ImageNet's largest version has 21,841
MOST_CLASSES = 1 << 15
IDENTITIES = frozenset(
    {aten.clone.default, aten.detach.default, aten.detach_.default, aten.alias.default, aten.contiguous.default, aten.dropout.default}
)
# where an operator is told that it is in training
TRAINING: dict[Any, int] = {aten.batch_norm.default: 5, aten.dropout.default: 2}
CASTS = frozenset({aten.to.dtype, aten.to.dtype_layout, aten.to.device, aten.to.other, aten._to_copy.default, aten.type_as.default})


def normalise(module: fx.GraphModule, spec: Input, source: Source) -> TracedModel:
    """Brings a traced graph into the normal form.

    Raises:
        ModelError: the graph is no image classifier with weights.
    """
    try:
        return _normalised(module, spec, source)
    except ModelError as error:
        path = str(source.path)
        raise error if str(error).startswith(path) else ModelError(f"{path}: {error}") from error


def _normalised(module: fx.GraphModule, spec: Input, source: Source) -> TracedModel:
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    # torch.export wraps inputs and outputs in pytrees; a plain function of one tensor is all that is needed
    module.graph.set_codegen(fx.graph.CodeGen())
    check_mode(module)
    drop_identities(module)
    module.graph.eliminate_dead_code()
    batch.check_apart(module)
    foldings: dict[str, Folding] = {}
    folding.fold_constants(module, foldings)
    products.to_linear(module, foldings)
    scales.bring_forward(module)
    merged.split(module)
    gelu.fuse(module, partial(scalar, module))
    offsets.cancel(module)
    fusing.fuse_bias(module, foldings)
    statistics = fusing.fold_batch_norm(module, foldings)
    axis = next((i for i, s in enumerate(penultimate.shape(tail.unwrap(module))) if not isinstance(s, int)), 0)
    stripped, rest = tail.strip(module)
    cleaned(module)
    views.check_batch(module)
    shape = penultimate.shape(output_node(module.graph).args[0])
    if len(shape) != 2 or not isinstance(shape[1], int) or shape[1] < 2:
        raise ModelError(f"the output has shape {penultimate.pretty(shape)}; expected logits [batch, classes] of an image classifier")
    if shape[1] > MOST_CLASSES:
        raise ModelError(f"the output has {shape[1]:,} classes; expected an image classifier with at most {MOST_CLASSES:,}")
    check_sizes(module)
    views.average_features(module, foldings)
    cleaned(module)
    layers, anatomy = _anatomy(module, foldings)
    model = TracedModel(
        module=module,
        input=spec,
        classes=shape[1],
        neurons=layers,
        features=anatomy.features,
        spatial=anatomy.spatial,
        classifier=anatomy.classifier,
        stripped=stripped,
        source=source,
        foldings=foldings,
        statistics=statistics,
        tail=rest,
        output_axis=axis,
    )
    return checks.checked(model)


def _anatomy(module: fx.GraphModule, foldings: dict[str, Folding]) -> tuple[tuple[Neuron, ...], penultimate.Anatomy]:
    """The layers of neurons, and which of them are the classifier, once the classifier is as simple as it can be written."""
    while True:
        layers = neurons.find(module)
        anatomy = penultimate.find(module.graph, {layer.node for layer in layers})
        if anatomy is None:
            raise ModelError(_no_anatomy(layers))
        if not heads.simplify(module, foldings, anatomy):
            return layers, anatomy
        cleaned(module)


def _no_anatomy(layers: tuple[Neuron, ...]) -> str:
    """Why no classifier is found."""
    if not layers:
        return "no linear layer or convolution leads to the output; expected an image classifier"
    return (
        "the output is put together from several branches, each with a last layer of its own, such as the networks of an ensemble or "
        "probabilities of several views of an image; export one network, or average the features in front of one last layer"
    )


def cleaned(module: fx.GraphModule) -> None:
    """Without what the output does not need."""
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()


def check_mode(module: fx.GraphModule) -> None:
    """Raises ModelError for a graph in which an image's answer depends on the others of its batch, or on chance."""
    for node in module.graph.nodes:
        place = TRAINING.get(node.target) if node.op == "call_function" else None
        if place is not None and len(node.args) > place and node.args[place] is True and not _drops_nothing(node):
            raise ModelError(f"{node.name} was exported in training mode; call model.eval() before export")


def _drops_nothing(node: fx.Node) -> bool:
    return node.target is aten.dropout.default and bool(node.args[1] == 0)


def drop_identities(module: fx.GraphModule) -> None:
    """Copies, dropout and what an exporter asserts: an inference graph needs none of them."""
    for node in list(module.graph.nodes):
        if node.op == "call_function" and (node.target in IDENTITIES or _casts_nothing(node)):
            node.replace_all_uses_with(cast(fx.Node, node.args[0]))
            module.graph.erase_node(node)
        elif node.op == "call_function" and node.target is aten._assert_tensor_metadata.default:
            module.graph.erase_node(node)


def _casts_nothing(node: fx.Node) -> bool:
    """A cast to the type that a tensor has."""
    if node.target not in CASTS or not isinstance(node.args[0], fx.Node):
        return False
    before, after = node.args[0].meta.get("val"), node.meta.get("val")
    return isinstance(before, torch.Tensor) and isinstance(after, torch.Tensor) and before.dtype == after.dtype


def check_sizes(module: fx.GraphModule) -> None:
    """Raises ModelError where a tensor in between is larger than any classifier needs; computing it would exhaust the memory."""
    image = next(n for n in module.graph.nodes if n.op == "placeholder")
    for node in penultimate.depends_on(module.graph, image):
        count = math.prod(s for s in penultimate.shape(node) if isinstance(s, int))
        if count > LARGEST_ACTIVATION:
            raise ModelError(f"{node.name} makes {count:,} values for an image; the file is damaged or hostile")
