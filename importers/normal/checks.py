"""What was read, tried on a few images: whether the logits are logits, and the features penultimate ones."""

from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, fx
from torch.nn import functional as F

from banscan.errors import ModelError
from banscan.importers.model import Input, TracedModel, output_node
from banscan.importers.normal.penultimate import shape

aten = torch.ops.aten

# the smallest number of float32 whose logarithm is finite
SMALLEST = 1e-37
# more layers behind the features than a usual head has
MOST_LAYERS = 3
PROBABILITIES = "log of probabilities"


def pictures(spec: Input) -> Tensor:
    """Images [6, ...] in the input's layout: noise and smooth ones, from 0 to 1, around 0, from 0 to 255, and a black one."""
    example = spec.example()
    channels, height, width = example.shape[1:] if spec.layout == "NCHW" else example.permute(0, 3, 1, 2).shape[1:]
    generator = torch.Generator().manual_seed(0)
    smooth = F.interpolate(torch.rand(4, channels, 4, 4, generator=generator), size=(height, width), mode="bilinear")
    noise = torch.rand(1, channels, height, width, generator=generator)
    x = torch.cat((noise, smooth[:1], smooth[1:2] * 255, smooth[2:3], smooth[3:] * 4 - 2, torch.zeros(1, channels, height, width)))
    return x if spec.layout == "NCHW" else x.permute(0, 2, 3, 1).contiguous()


@torch.no_grad()
def checked(model: TracedModel) -> TracedModel:
    """The model with what is not sure of it, and with logits where its output was still probabilities.

    Raises:
        ModelError: it cannot be computed, its features cannot be told from the rest, or its output holds labels.
    """
    front, back = model.split(model.features)
    try:
        features = front(pictures(model.input))
        outputs = back(features)
    except (RuntimeError, IndexError, ValueError, TypeError) as error:  # what tracing lets pass, as an axis that a tensor does not have
        raise ModelError(f"the graph cannot be computed ({str(error).strip().splitlines()[0]}); export it again") from error
    if are_labels(outputs):
        raise ModelError("its output is a label for each image, and its logits were not found; export the model with its logits as output")
    if are_probabilities(outputs):
        tail = take_logarithm(model.module, model.tail)
        model = replace(model, tail=tail, stripped=(*model.stripped, PROBABILITIES))
        back = model.split(model.features)[1]
    return replace(model, doubts=doubts(model, features, back))


def are_probabilities(outputs: Tensor) -> bool:
    """Whether none is negative and those of each image sum to the same, 1 or 100."""
    total = outputs.sum(1)
    return bool((outputs >= 0).all()) and any(torch.allclose(total, torch.full_like(total, whole), rtol=1e-2) for whole in (1, 100))


def are_labels(outputs: Tensor) -> bool:
    """Whether all are 0 or 1 and one for each image is 1."""
    return bool(((outputs == 0) | (outputs == 1)).all()) and bool((outputs.sum(1) == 1).all())


def take_logarithm(module: fx.GraphModule, tail: fx.GraphModule | None) -> fx.GraphModule:
    """Makes logits of the probabilities [N, classes] that a graph returns; the graph from these to what the file answers."""
    out = output_node(module.graph)
    node = cast(fx.Node, out.args[0])
    with module.graph.inserting_before(out):
        for target, args in ((aten.clamp_min.default, (SMALLEST,)), (aten.log.default, ())):
            following = module.graph.call_function(target, (node, *cast(Any, args)))
            following.meta["val"] = node.meta["val"]
            node = following
    out.args = (node,)
    module.recompile()
    graph = fx.Graph()
    probabilities = graph.call_function(aten.exp.default, (graph.placeholder("logits"),))
    if tail is None:
        graph.output(probabilities)
        return fx.GraphModule({}, graph)
    entry = next(n for n in tail.graph.nodes if n.op == "placeholder")
    with tail.graph.inserting_after(entry):
        back = tail.graph.call_function(aten.exp.default, (entry,))
    entry.replace_all_uses_with(back, delete_user_cb=lambda user: user is not back)
    tail.recompile()
    return tail


def doubts(model: TracedModel, features: Tensor, back: fx.GraphModule) -> tuple[str, ...]:
    """What speaks against these being the penultimate features, and what is `back` of them one linear layer."""
    node = next(n for n in model.module.graph.nodes if n.name == model.features)
    told = []
    half = len(features) // 2
    back = unrounded(back)
    logits = back(features)
    middle = back((features[:half] + features[half:]) / 2)
    straight = (logits[:half] + logits[half:]) / 2
    # a scan looks for numbers that are none itself
    if torch.isfinite(straight).all() and not torch.allclose(middle, straight, rtol=1e-2, atol=1e-3 * float(straight.abs().max())):
        told.append("the logits are not linear in what was taken for the features")
    sizes = [s for s in shape(node)[2:] if s != 1]
    if sizes and not _covered(model, sizes):
        told.append(f"what was taken for the features is a map of {'x'.join(map(str, sizes))}")
    if len(model.classifier) > MOST_LAYERS:
        told.append(f"{len(model.classifier)} layers were taken for the classifier")
    return tuple(told)


def unrounded(back: fx.GraphModule) -> fx.GraphModule:
    """A graph without its roundings: steps of what is a line are no doubt of it."""
    graph = fx.Graph()
    graph.output(graph.graph_copy(back.graph, {}))
    for node in graph.nodes:
        if node.target is aten.round.default:
            node.replace_all_uses_with(cast(fx.Node, node.args[0]))
            graph.erase_node(node)
    return fx.GraphModule(back, graph)


def _covered(model: TracedModel, sizes: list[Any]) -> bool:
    """Whether the kernel of a single convolution covers the whole map, so that it is a linear layer on all of it."""
    nodes = {n.name: n for n in model.module.graph.nodes}
    layer = nodes[model.classifier[0]]
    return len(model.classifier) == 1 and [s for s in shape(layer)[2:] if s != 1] == [] and shape(layer)[2:] != () and bool(sizes)
