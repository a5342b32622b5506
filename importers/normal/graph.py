"""The one normal form: an ATen-level torch.fx graph with its neurons, its penultimate features and where it came from."""

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, fx

from banscan.errors import ModelError
from banscan.importers.normal import gelu, penultimate
from banscan.importers.normal.penultimate import Anatomy

aten = torch.ops.aten

EXAMPLE_SIZE = 224
CONVOLUTIONS = frozenset({aten.conv1d.default, aten.conv2d.default, aten.conv3d.default})
KINDS: dict[Any, str] = {
    **dict.fromkeys(CONVOLUTIONS, "conv"),
    aten.linear.default: "linear",
    aten.batch_norm.default: "norm",
}
# what stands behind the logits of two classes, undone for the comparison with the source: 1 - p beside p, and one logit for both
PAIR, ONE_LOGIT = "Concat", "one logit for two classes"
# values per image: a ResNet50 at 224x224 has fewer than a million in its widest layer
LARGEST_ACTIVATION = 1 << 28
LARGEST_SIDE = 1 << 13
IDENTITIES = frozenset({aten.clone.default, aten.detach.default, aten.alias.default, aten.contiguous.default, aten.dropout.default})
TAIL: dict[Any, str] = {
    aten.softmax.int: "Softmax",
    aten._softmax.default: "Softmax",
    aten.log_softmax.int: "LogSoftmax",
    aten._log_softmax.default: "LogSoftmax",
    aten.sigmoid.default: "Sigmoid",
    aten.argmax.default: "ArgMax",
}


@dataclass(frozen=True)
class Source:
    """Where a model came from.

    Attributes:
        opset: ONNX's; None for other formats.
        batch: the batch size that the file fixes, or None.
        precision: of the file's weights: "float32", "float16", "bfloat16" or "8 bits"; the traced graph is float32 always.
        output: the name of the output that was read, in a file that names them.
        labels: the file's own names of the classes.
        weights: what the file calls the constants of the graph that it holds, and that can be written back.
    """

    path: Path
    format: str
    producer: str
    opset: int | None
    sha256: str
    batch: int | None
    precision: str = "float32"
    output: str | None = None
    labels: tuple[str, ...] | None = None
    weights: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Input:
    """What the model takes: float images of this layout ("NCHW" or "NHWC"); a size of None is free.

    `flat` where the file wants the values of an image in one row; the traced graph takes images and flattens them itself.
    """

    name: str
    layout: str
    channels: int
    height: int | None
    width: int | None
    flat: bool = False

    def sized(self, size: tuple[int, int] | None) -> "Input":
        """With a size that is still free set to this one."""
        if size is None:
            return self
        return replace(self, height=self.height or size[0], width=self.width or size[1])

    def example(self) -> Tensor:
        """Two black images to trace with; a free size is one that every usual stem takes."""
        height, width = self.height or EXAMPLE_SIZE, self.width or EXAMPLE_SIZE
        return torch.zeros(2, *((self.channels, height, width) if self.layout == "NCHW" else (height, width, self.channels)))


def image_input(path: Path, name: str, sizes: list[int | None]) -> Input:
    """The input whose image axes have these three sizes, None for a free one.

    Raises:
        ModelError: none of the outer two can be channels, or a size that no image has.
    """
    if any(size is not None and not 0 < size <= LARGEST_SIDE for size in sizes):
        shown = "x".join(str(size or "?") for size in sizes)
        raise ModelError(f"{path}: the input {name!r} is {shown}; expected images of at most {LARGEST_SIDE} pixels a side")
    first, second, third = sizes
    if first in (1, 3):
        return Input(name, "NCHW", int(first), second, third)
    if third in (1, 3):
        return Input(name, "NHWC", int(third), first, second)
    raise ModelError(f"{path}: the input {name!r} has no axis of 1 or 3 channels; expected grey or RGB images")


def flat_input(path: Path, name: str, count: int) -> Input:
    """Square images whose values stand in one row: grey, or RGB as numpy flattens them [height, width, 3].

    Raises:
        ModelError: no square image has this many values.
    """
    for channels in (1, 3):
        side = math.isqrt(max(0, min(count, 3 * LARGEST_SIDE**2)) // channels)
        if side * side * channels == count and side > 1:
            return Input(name, "NHWC", channels, side, side, flat=True)
    raise ModelError(f"{path}: the input {name!r} is a row of {count} values, which is no square grey or RGB image; expected images")


@dataclass(frozen=True)
class Neuron:
    """A layer of neurons: one fx node with `channels` outputs on `axis`, and the activation behind it if nothing else reads it."""

    node: str
    kind: str
    channels: int
    axis: int
    act: str | None


@dataclass(frozen=True)
class Folding:
    """How a constant of the graph follows from others: `compute` of the `parts`, given by their names in this order."""

    compute: Callable[..., Tensor]
    parts: tuple[str, ...]


@dataclass(frozen=True)
class TracedModel:
    """A classifier in normal form.

    `module` maps images [N, ...] in the input's layout to logits [N, classes], float32, N free, its parameters frozen attributes.
    `neurons` are in execution order, the classifier's own last ones included; `classifier` names those behind the features; `stripped`
    names what was taken off behind the logits, last first. `foldings` holds the constants that were computed from others, in order, and
    `statistics` the names of the running means and variances: with them `constants` follows changed weights to where the graph reads them.
    """

    module: fx.GraphModule
    input: Input
    classes: int
    neurons: tuple[Neuron, ...]
    features: str
    spatial: str | None
    classifier: tuple[str, ...]
    stripped: tuple[str, ...]
    source: Source
    foldings: dict[str, Folding]
    statistics: frozenset[str]

    def constants(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """The constants that differ when some of the file's own `weights` do; gradients flow back to these."""
        known = dict(weights)
        for name, folding in self.foldings.items():
            if any(part in known for part in folding.parts):
                parts = (known[p] if p in known else attribute_named(self.module, p) for p in folding.parts)
                known[name] = folding.compute(*parts).to(self.device)  # the file may name a device
        return known

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The file's own names of the classes, where it has one for each."""
        labels = self.source.labels
        return labels if labels is not None and len(labels) == self.classes else None

    @property
    def device(self) -> torch.device:
        """Where the constants are."""
        return next((value.device for value in (*self.module.parameters(), *self.module.buffers())), torch.device("cpu"))

    def logits(self, images: Tensor) -> Tensor:
        """Logits [N, classes] of preprocessed images [N, ...], on the model's device."""
        return cast(Tensor, self.module(images.to(self.device)))

    def split(self, node: str) -> tuple[fx.GraphModule, fx.GraphModule]:
        """The graph cut at a node that every path to the logits runs through: images → node, node → logits."""
        return _split(self.module, node)


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
    fold_constants(module, foldings)
    gelu.fuse(module, partial(scalar, module))
    fuse_bias(module, foldings)
    kept = foldings, fold_batch_norm(module, foldings)
    stripped = strip_tail(module)
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
    shape = penultimate.shape(output_node(module.graph).args[0])
    if len(shape) == 2 and shape[1] == 1:
        stripped = (*stripped, ONE_LOGIT)
        shape = two_logits(module)
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
    neurons = find_neurons(module)
    anatomy: Anatomy | None = penultimate.find(module.graph, {n.node for n in neurons})
    if anatomy is None:
        raise ModelError(f"{source.path}: no linear layer or convolution leads to the output; expected an image classifier")
    return TracedModel(module, spec, shape[1], neurons, anatomy.features, anatomy.spatial, anatomy.classifier, stripped, source, *kept)


def output_node(graph: fx.Graph) -> fx.Node:
    return cast(fx.Node, next(n for n in reversed(graph.nodes) if n.op == "output"))


def attribute_named(module: fx.GraphModule, name: str) -> Tensor:
    """The constant of this name."""
    value: Tensor = operator.attrgetter(name)(module)
    return value


def attribute(module: fx.GraphModule, node: Any) -> Tensor | None:
    """The constant that a get_attr node stands for, or None for anything else."""
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    value: Any = attribute_named(module, cast(str, node.target))
    return value if isinstance(value, Tensor) else None


def scalar(module: fx.GraphModule, value: object) -> float | None:
    """The value of an argument that is a number or a constant of one element; None for any other."""
    if isinstance(value, int | float):
        return float(value)
    held = attribute(module, value)
    return float(held) if held is not None and held.numel() == 1 else None


def constant(module: fx.GraphModule, before: fx.Node, value: Tensor, name: str) -> fx.Node:
    """Adds a frozen parameter and a node for it."""
    name = "folded_" + name.replace(".", "_")
    module.register_buffer(name, value.detach().clone().contiguous())
    with module.graph.inserting_before(before):
        node = module.graph.get_attr(name)
    node.meta["val"] = value
    return node


def drop_identities(module: fx.GraphModule) -> None:
    for node in list(module.graph.nodes):
        if node.op == "call_function" and node.target in IDENTITIES:
            node.replace_all_uses_with(cast(fx.Node, node.args[0]))
            module.graph.erase_node(node)
        elif node.op == "call_function" and node.target is aten._assert_tensor_metadata.default:
            module.graph.erase_node(node)


def fold_constants(module: fx.GraphModule, foldings: dict[str, Folding]) -> None:
    """Computes once what depends on no image: transposed weights, scaled biases."""
    for node in list(module.graph.nodes):
        inputs = node.all_input_nodes
        if node.op != "call_function" or not inputs or not all(attribute(module, i) is not None for i in inputs):
            continue
        compute = _call(cast(Callable[..., Any], node.target), node.args, node.kwargs, inputs)
        result = compute(*(cast(Tensor, attribute(module, i)) for i in inputs))
        if isinstance(result, Tensor):
            folded = constant(module, node, result, node.name)
            foldings[str(folded.target)] = Folding(compute, tuple(str(i.target) for i in inputs))
            node.replace_all_uses_with(folded)
            module.graph.erase_node(node)


def _call(function: Callable[..., Any], args: Any, kwargs: Any, inputs: list[fx.Node]) -> Callable[..., Any]:
    def compute(*values: Tensor) -> Any:
        given = dict(zip(inputs, values, strict=True))
        placed = fx.map_arg((args, kwargs), lambda n: given[n])
        return function(*placed[0], **placed[1])

    return compute


def fuse_bias(module: fx.GraphModule, foldings: dict[str, Folding]) -> None:
    """A constant added to a layer that has no bias is its bias; some exporters write it so."""
    for node in list(module.graph.nodes):
        if node.op != "call_function" or node.target is not aten.add.Tensor or len(node.args) != 2 or node.kwargs:
            continue
        for layer, other in (node.args, node.args[::-1]):
            value = torch.tensor([float(other)]) if isinstance(other, int | float) else attribute(module, other)
            if value is None or not isinstance(layer, fx.Node) or len(layer.users) != 1:
                continue
            kind = KINDS.get(layer.target)
            weight = attribute(module, layer.args[1]) if kind in ("conv", "linear") else None
            if weight is None or (len(layer.args) > 2 and layer.args[2] is not None):
                continue
            channels = weight.shape[0]
            trailing = weight.dim() - 2 if kind == "conv" else 0
            flat = value.reshape(value.shape[: value.dim() - trailing]) if value.shape[value.dim() - trailing :].numel() == 1 else None
            if flat is None or flat.numel() != channels or (flat.dim() and flat.shape[-1] != channels):
                continue
            bias = constant(module, layer, flat.reshape(channels), node.name)
            if isinstance(other, fx.Node):
                foldings[str(bias.target)] = Folding(torch.flatten, (str(other.target),))
            layer.args = (*layer.args[:2], bias, *layer.args[3:])
            node.replace_all_uses_with(layer)
            module.graph.erase_node(node)
            break


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
        there = tuple(i for i, value in enumerate(values) if value is not None)
        names = tuple(str(cast(fx.Node, parts[i]).target) for i in there)
        new = []
        for what, function in (("weight", _scaled), ("bias", _shifted)):
            compute = _given(function, there, cast(float, node.args[7]))
            folded = constant(module, layer, compute(*(v for v in values if v is not None)), f"{layer.name}_{what}")
            foldings[str(folded.target)] = Folding(compute, names)
            new.append(folded)
        layer.args = (layer.args[0], *new, *layer.args[3:])
        node.replace_all_uses_with(layer)
        module.graph.erase_node(node)
    return frozenset(statistics)


def _given(function: Callable[..., Tensor], there: tuple[int, ...], eps: float) -> Callable[..., Tensor]:
    """`function` of the six tensors of a layer and its batch norm, of which only those at the places `there` exist."""

    def compute(*values: Tensor) -> Tensor:
        every: list[Tensor | None] = [None] * 6
        for i, value in zip(there, values, strict=True):
            every[i] = value
        return function(*every, eps)

    return compute


def _scaled(
    weight: Tensor, bias: Tensor | None, gamma: Tensor | None, beta: Tensor | None, mean: Tensor, var: Tensor, eps: float
) -> Tensor:
    scale = (var + eps).rsqrt()
    scale = scale if gamma is None else scale * gamma
    return weight * scale.reshape(-1, *(1,) * (weight.dim() - 1))


def _shifted(
    weight: Tensor, bias: Tensor | None, gamma: Tensor | None, beta: Tensor | None, mean: Tensor, var: Tensor, eps: float
) -> Tensor:
    scale = (var + eps).rsqrt()
    scale = scale if gamma is None else scale * gamma
    shift = -mean * scale if bias is None else (bias - mean) * scale
    return shift if beta is None else shift + beta


def strip_tail(module: fx.GraphModule) -> tuple[str, ...]:
    """Takes probabilities and labels off the end, down to the logits; the names of what it took, last first."""
    stripped = []
    out = output_node(module.graph)
    value: Any = out.args[0]
    while isinstance(value, tuple | list):
        value = value[0]
    while isinstance(value, fx.Node) and value.op == "call_function":
        pair = _pair(module, value)
        if pair is not None:
            stripped.append(PAIR)
            value = pair
        elif value.target in TAIL:
            stripped.append(TAIL[value.target])
            value = value.args[0]
        else:
            break
    out.args = (value,)
    return tuple(stripped)


def _pair(module: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """The p [N, 1] of a concatenation of 1 - p and p, as scikit-learn's exporter writes two classes."""
    if node.target is not aten.cat.default or len(cast(Any, node.args[0])) != 2:
        return None
    first, second = cast(tuple[fx.Node, fx.Node], node.args[0])
    if first.target is aten.rsub.Scalar:
        taken, one = first.args[:2]
    elif first.target is aten.sub.Tensor:
        one, taken = first.args[:2]
    else:
        return None
    value = attribute(module, one) if isinstance(one, fx.Node) else one
    return second if taken is second and value is not None and bool(torch.all(torch.as_tensor(value) == 1)) else None


def two_logits(module: fx.GraphModule) -> tuple[Any, ...]:
    """Gives a classifier of one logit z [N, 1] the two (-z/2, z/2), whose softmax is z's sigmoid; the new shape."""
    out = output_node(module.graph)
    logit = cast(fx.Node, out.args[0])
    factors = constant(module, out, torch.tensor([-0.5, 0.5]), "two_logits")
    with module.graph.inserting_before(out):
        both = module.graph.call_function(aten.mul.Tensor, (logit, factors))
    both.meta["val"] = logit.meta["val"].expand(-1, 2)
    out.args = (both,)
    module.recompile()
    return penultimate.shape(both)


def check_sizes(module: fx.GraphModule, path: Path) -> None:
    """Raises ModelError where a tensor in between is larger than any classifier needs; computing it would exhaust the memory."""
    image = next(n for n in module.graph.nodes if n.op == "placeholder")
    for node in penultimate.depends_on(module.graph, image):
        count = math.prod(s for s in penultimate.shape(node) if isinstance(s, int))
        if count > LARGEST_ACTIVATION:
            raise ModelError(f"{path}: {node.name} makes {count:,} values for an image; the file is damaged or hostile")


def find_neurons(module: fx.GraphModule) -> tuple[Neuron, ...]:
    neurons = []
    for node in module.graph.nodes:
        kind = KINDS.get(node.target) if node.op == "call_function" else None
        if kind is None or attribute(module, node.args[1] if kind != "norm" else node.args[3]) is None:
            continue
        axis = -1 if kind == "linear" else 1
        users = list(node.users)
        relu = len(users) == 1 and users[0].op == "call_function" and users[0].target in (aten.relu.default, aten.relu_.default)
        neurons.append(Neuron(node.name, kind, int(node.meta["val"].shape[axis]), axis, "relu" if relu else None))
    return tuple(neurons)


def _split(module: fx.GraphModule, name: str) -> tuple[fx.GraphModule, fx.GraphModule]:
    cut = next(n for n in module.graph.nodes if n.name == name)
    trunk, head = fx.Graph(), fx.Graph()
    known: dict[fx.Node, fx.Node] = {}
    for node in module.graph.nodes:
        known[node] = trunk.node_copy(node, lambda n: known[n])
        if node is cut:
            break
    trunk.output(known[cut])
    feature = head.placeholder("feature")
    feature.meta["val"] = cut.meta["val"]
    mapped: dict[fx.Node, fx.Node] = {cut: feature}

    def carry(node: fx.Node) -> fx.Node:
        """Copies what the head needs; a size of the batch is read off the features instead of the image."""
        if node not in mapped:
            if node.target is aten.sym_size.int and node.args[1] == 0:
                mapped[node] = head.call_function(aten.sym_size.int, (feature, 0))
            elif node.op == "placeholder":
                raise ModelError(f"the classifier behind {name} reads the image as well; its features cannot be cut off")
            else:
                for i in node.all_input_nodes:
                    carry(i)
                mapped[node] = head.node_copy(node, lambda n: mapped[n])
        return mapped[node]

    head.output(carry(cast(fx.Node, output_node(module.graph).args[0])))
    return fx.GraphModule(module, trunk), fx.GraphModule(module, head)
