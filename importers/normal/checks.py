"""What was read, tried on a few images: whether the logits are logits, and the features penultimate ones."""

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
    """Images [8, ...] in the input's layout: noise and smooth ones, from 0 to 1 and around 0, one from 0 to 255, one black."""
    example = spec.example()
    channels, height, width = example.shape[1:] if spec.layout == "NCHW" else example.permute(0, 3, 1, 2).shape[1:]
    generator = torch.Generator().manual_seed(0)
    coarse = F.interpolate(torch.rand(5, channels, 4, 4, generator=generator), size=(height, width), mode="bilinear")
    noise = torch.rand(2, channels, height, width, generator=generator)
    x = torch.cat((noise, coarse[:2], coarse[2:3] * 4 - 2, coarse[3:4] * 255, coarse[4:] - 0.5, torch.zeros(1, channels, height, width)))
    return x if spec.layout == "NCHW" else x.permute(0, 2, 3, 1).contiguous()


@torch.no_grad()
def computed(module: fx.GraphModule, spec: Input) -> Tensor:
    """What the graph gives for the pictures, [8, classes].

    Raises:
        ModelError: it cannot be computed.
    """
    try:
        result: Tensor = module(pictures(spec))
    except RuntimeError as error:
        raise ModelError(f"the graph cannot be computed ({str(error).strip().splitlines()[0]}); export it again") from error
    return result


def are_probabilities(outputs: Tensor) -> bool:
    """Whether none is negative and those of each image sum to the same, 1 or 100."""
    total = outputs.sum(1)
    return bool((outputs >= 0).all()) and bool(total[0] > 0) and torch.allclose(total, total[0].expand(len(total)), rtol=1e-2)


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


@torch.no_grad()
def doubts(model: TracedModel) -> tuple[str, ...]:
    """What speaks against the features being the penultimate ones, and the classifier one linear layer.

    Raises:
        ModelError: the classifier cannot be told from the rest.
    """
    node = next(n for n in model.module.graph.nodes if n.name == model.features)
    told = []
    front, back = model.split(model.features)
    features = front(pictures(model.input))
    logits = back(features)
    middle = back((features[:4] + features[4:]) / 2)
    straight = (logits[:4] + logits[4:]) / 2
    if not torch.allclose(middle, straight, rtol=1e-2, atol=1e-3 * float(straight.abs().max())):
        told.append("the logits are not linear in what was taken for the features")
    sizes = [s for s in shape(node)[2:] if s != 1]
    if sizes and not _covered(model, sizes):
        told.append(f"what was taken for the features is a map of {'x'.join(map(str, sizes))}")
    if len(model.classifier) > MOST_LAYERS:
        told.append(f"{len(model.classifier)} layers were taken for the classifier")
    return tuple(told)


def _covered(model: TracedModel, sizes: list[Any]) -> bool:
    """Whether the kernel of a single convolution covers the whole map, so that it is a linear layer on all of it."""
    nodes = {n.name: n for n in model.module.graph.nodes}
    layer = nodes[model.classifier[0]]
    return len(model.classifier) == 1 and [s for s in shape(layer)[2:] if s != 1] == [] and shape(layer)[2:] != () and bool(sizes)
