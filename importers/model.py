"""The contract: an image classifier as a traced torch.fx graph with its neurons, its penultimate features and where it came from."""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, fx

from banscan.errors import ModelError

aten = torch.ops.aten

# where a file leaves the size free: a side that every usual stem takes
EXAMPLE_SIZE = 224


@dataclass(frozen=True)
class Source:
    """Where a model came from.

    Attributes:
        opset: ONNX's; None for other formats.
        batch: the batch size that the file fixes, or None.
        precision: of the file's weights: "float32", "float16", "bfloat16" or "8 bits", which its activations may have alone; the traced
            graph is float32 always.
        image: the name of the input that takes the images, in a file that names several.
        output: the name of the output that was read, in a file that names them.
        labels: the file's own names of the classes.
        weights: what the file calls the constants of the graph that it holds, and that can be written back.
        settled: what was taken out of the file's graph before it was read, `structure.settle.plain`; None where it was read as it is.
        reader: the program with its version that read the file in place of banscan's own reader; None where that did.
        unconfined: why the process that read the file could not be kept from other files; None where it was.
    """

    path: Path
    format: str
    producer: str
    opset: int | None
    sha256: str
    batch: int | None
    precision: str = "float32"
    image: str | None = None
    output: str | None = None
    labels: tuple[str, ...] | None = None
    weights: dict[str, str] = field(default_factory=dict)
    settled: dict[str, Any] | None = None
    reader: str | None = None
    unconfined: str | None = None


@dataclass(frozen=True)
class Input:
    """What the model takes: float images of this layout ("NCHW" or "NHWC"); a size of None is free.

    `flat` where the file wants the values of an image in one row; the traced graph takes images and flattens them itself. `sides` are the
    least and the largest side of images that its code takes as well, where it takes few and does not say which are its own.
    """

    name: str
    layout: str
    channels: int
    height: int | None
    width: int | None
    flat: bool = False
    sides: tuple[int, int] | None = None

    def sized(self, size: tuple[int, int] | None) -> "Input":
        """With a size that is still free set to this one."""
        if size is None:
            return self
        return replace(self, height=self.height or size[0], width=self.width or size[1])

    def example(self) -> Tensor:
        """Two black images to trace with; a free size is one that every usual stem takes."""
        height, width = self.height or EXAMPLE_SIZE, self.width or EXAMPLE_SIZE
        return torch.zeros(2, *((self.channels, height, width) if self.layout == "NCHW" else (height, width, self.channels)))


@dataclass(frozen=True)
class Neuron:
    """A layer of neurons: one fx node with `channels` outputs on `axis`, and the activation behind it if nothing else reads it."""

    node: str
    kind: str
    channels: int
    axis: int
    act: str | None


@dataclass(frozen=True)
class Part:
    """In the arguments of a `Folding`: the constant at this place of its parts."""

    index: int


@dataclass(frozen=True)
class Folding:
    """How a constant of the graph follows from others, its `parts`, given by name: by `function`, with each where a `Part` stands."""

    function: Callable[..., Tensor]
    parts: tuple[str, ...]
    args: tuple[Any, ...] = (Part(0),)
    kwargs: dict[str, Any] = field(default_factory=dict)

    def compute(self, values: Sequence[Tensor]) -> Tensor:
        """The constant, from those that it follows from."""
        args, kwargs = (_placed(given, values) for given in (self.args, self.kwargs))
        return self.function(*args, **kwargs)


def _placed(given: Any, values: Sequence[Tensor]) -> Any:
    """Arguments with the values in place of the parts."""
    if isinstance(given, Part):
        return values[given.index]
    if isinstance(given, list | tuple):
        return type(given)(_placed(v, values) for v in given)
    return {k: _placed(v, values) for k, v in given.items()} if isinstance(given, dict) else given


@dataclass(frozen=True)
class TracedModel:
    """A classifier in normal form.

    `module` maps images [N, ...] in the input's layout to logits [N, classes], float32, N free, its parameters frozen attributes.
    `neurons` are in execution order, the classifier's own last ones included; `classifier` names those behind the features; `stripped`
    names what was taken off behind the logits, last first, and `tail` computes it: logits [N, classes] → what the file answers, on the CPU.
    `doubts` says what is not sure of this reading, `output_axis` on which axis of the file's answer the images are. `foldings` holds the
    constants that were computed from others, in order, and `statistics` the names of the running means and variances: with them
    `constants` follows changed weights to where the graph reads them.
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
    tail: fx.GraphModule | None = None
    doubts: tuple[str, ...] = ()
    output_axis: int = 0

    def constants(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """The constants that differ when some of the file's own `weights` do; gradients flow back to these."""
        known = dict(weights)
        for name, folding in self.foldings.items():
            if any(part in known for part in folding.parts):
                parts = [known[p] if p in known else attribute_named(self.module, p) for p in folding.parts]
                known[name] = folding.compute(parts).to(self.device)  # the file may name a device
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

    def outputs(self, logits: Tensor) -> Tensor:
        """What the file answers, from logits [N, classes]: what was taken off is computed again, on the CPU."""
        return logits.cpu() if self.tail is None else cast(Tensor, self.tail(logits.cpu()))

    def to(self, device: torch.device) -> None:
        """Moves the constants, and what the exporter wrote down about devices inside the graph, to a device; in place."""
        self.module.to(device)
        for node in self.module.graph.nodes:
            if node.kwargs.get("device") is not None:
                node.kwargs = {**node.kwargs, "device": device}
        self.module.recompile()

    def split(self, node: str) -> tuple[fx.GraphModule, fx.GraphModule]:
        """The graph cut at a node that every path to the logits runs through: images → node, node → logits.

        Raises:
            ModelError: what is behind the node reads the image as well.
        """
        return _split(self.module, node)


def attribute_named(module: fx.GraphModule, name: str) -> Tensor:
    """The constant of this name."""
    value: Tensor = operator.attrgetter(name)(module)
    return value


def output_node(graph: fx.Graph) -> fx.Node:
    """The node that returns; its argument is what the graph computes."""
    return cast(fx.Node, next(n for n in reversed(graph.nodes) if n.op == "output"))


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
    head.output(carried(head, cut, feature, feature, cast(fx.Node, output_node(module.graph).args[0])))
    return fx.GraphModule(module, trunk), fx.GraphModule(module, head)


def carried(graph: fx.Graph, cut: fx.Node, stand_in: fx.Node, rows: fx.Node, end: fx.Node) -> fx.Node:
    """Copies into another graph what computes `end` from `cut`, for which `stand_in` stands there; the size of the batch is that of `rows`.

    Raises:
        ModelError: what is behind the cut reads the image as well.
    """
    mapped: dict[fx.Node, fx.Node] = {cut: stand_in}
    batch = next((i for i, s in enumerate(cut.meta["val"].shape) if not isinstance(s, int)), 0) if rows is stand_in else 0

    def carry(node: fx.Node) -> fx.Node:
        if node not in mapped:
            if node.target is aten.sym_size.int and (node.args[1] == 0 or is_batch(node)):
                mapped[node] = graph.call_function(aten.sym_size.int, (rows, batch))
                mapped[node].meta["val"] = node.meta.get("val")
            elif node.op == "placeholder":
                raise ModelError(f"the classifier behind {cut.name} reads the image as well; its features cannot be cut off")
            else:
                for i in node.all_input_nodes:
                    carry(i)
                mapped[node] = graph.node_copy(node, lambda n: mapped[n])
        return mapped[node]

    return carry(end)


def is_batch(node: fx.Node) -> bool:
    """Whether a size is the free batch itself."""
    size = node.meta.get("val")
    return isinstance(size, torch.SymInt) and bool(size.node.expr.is_Symbol)
