"""The one normal form: what every importer's traced graph becomes, whatever the file was."""

import math
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import fx

from banscan.errors import ModelError
from banscan.importers.model import Folding, Input, Source, TracedModel, output_node
from banscan.importers.normal import folding, gelu, neurons, penultimate, tail
from banscan.importers.normal.constants import scalar

aten = torch.ops.aten

# values per image: a ResNet50 at 224x224 has fewer than a million in its widest layer
LARGEST_ACTIVATION = 1 << 28
IDENTITIES = frozenset({aten.clone.default, aten.detach.default, aten.alias.default, aten.contiguous.default, aten.dropout.default})


def normalise(module: fx.GraphModule, spec: Input, source: Source) -> TracedModel:
    """Brings a traced graph into the normal form.

    Raises:
        ModelError: the graph is no image classifier with weights.
    """
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    # torch.export wraps inputs and outputs in pytrees; a plain function of one tensor is all that is needed
    module.graph.set_codegen(fx.graph.CodeGen())
    drop_identities(module)
    foldings: dict[str, Folding] = {}
    folding.fold_constants(module, foldings)
    gelu.fuse(module, partial(scalar, module))
    folding.fuse_bias(module, foldings)
    statistics = folding.fold_batch_norm(module, foldings)
    stripped = tail.strip(module)
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
    shape = penultimate.shape(output_node(module.graph).args[0])
    if len(shape) == 2 and shape[1] == 1:
        stripped = (*stripped, tail.ONE_LOGIT)
        shape = tail.two_logits(module)
    check_sizes(module, source.path)
    if len(shape) != 2 or not isinstance(shape[1], int) or shape[1] < 2:
        raise ModelError(
            f"{source.path}: the output has shape {penultimate.pretty(shape)}; expected logits [batch, classes] of an image classifier"
        )
    try:
        with torch.no_grad():
            module(spec.example())
    except RuntimeError as error:
        raise ModelError(f"{source.path}: the graph cannot be computed ({str(error).strip().splitlines()[0]}); export it again") from error
    layers = neurons.find(module)
    anatomy = penultimate.find(module.graph, {layer.node for layer in layers})
    if anatomy is None:
        raise ModelError(f"{source.path}: no linear layer or convolution leads to the output; expected an image classifier")
    return TracedModel(
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
    )


def drop_identities(module: fx.GraphModule) -> None:
    """Copies, dropout and what an exporter asserts: an inference graph needs none of them."""
    for node in list(module.graph.nodes):
        if node.op == "call_function" and node.target in IDENTITIES:
            node.replace_all_uses_with(cast(fx.Node, node.args[0]))
            module.graph.erase_node(node)
        elif node.op == "call_function" and node.target is aten._assert_tensor_metadata.default:
            module.graph.erase_node(node)


def check_sizes(module: fx.GraphModule, path: Path) -> None:
    """Raises ModelError where a tensor in between is larger than any classifier needs; computing it would exhaust the memory."""
    image = next(n for n in module.graph.nodes if n.op == "placeholder")
    for node in penultimate.depends_on(module.graph, image):
        count = math.prod(s for s in penultimate.shape(node) if isinstance(s, int))
        if count > LARGEST_ACTIVATION:
            raise ModelError(f"{path}: {node.name} makes {count:,} values for an image; the file is damaged or hostile")
