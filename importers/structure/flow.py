"""How pixels flow through an ONNX graph to the logits: what depends on them, and how many operators with weights lie on the way."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

# their answer is the size of a tensor, not what is in it
SIZES = frozenset({"Shape", "Size"})
# how many values they answer depends on the values that they get
COUNTS = frozenset({"NonZero", "Unique", "Compress", "NonMaxSuppression", "Loop", "Scan", "StringSplit"})
# inputs behind their first say how large the result is
SIZED = frozenset({"Reshape", "Expand", "Slice", "Tile", "Range", "ConstantOfShape", "Resize", "Upsample", "Pad", "TopK", "OneHot"})
# operators with weights, where one of their operands is a constant
WEIGHTED = frozenset(
    {
        "Attention", "Conv", "ConvInteger", "ConvTranspose", "DeformConv", "DynamicQuantizeMatMul", "Einsum", "FusedConv", "FusedGemm",
        "FusedMatMul", "GRU", "Gemm", "LSTM", "MatMul", "MatMulInteger", "MatMulIntegerToFloat", "MatMulNBits", "QAttention", "QGemm",
        "QLinearConv", "QLinearMatMul", "RNN",
    }
)  # fmt: skip
# paths with at most this share of the longest one's operators with weights pass the network by; a residual connection leads on into it
PAST = 0.5
# deeper nesting than any exporter writes
DEEPEST = 50


@dataclass(frozen=True)
class Step:
    """A node with all that it reads, what its branches read among it."""

    node: onnx.NodeProto
    reads: tuple[str, ...]
    makes: tuple[str, ...]

    @property
    def called(self) -> str:
        return self.node.name or (self.makes[0] if self.makes else self.node.op_type)


@dataclass(frozen=True)
class Flow:
    """A graph by the way that the pixels take through it.

    Attributes:
        steps: the nodes in order; `maker`, tensor → the one that makes it.
        depends: tensors that depend on the values of the pixels and lead to the output.
        before, after: fewest operators with weights from the pixels to a tensor, and from it to the output; `ahead`, most on a path from it
            to the output, and `deep`, on one through it.
        output: the tensor of scores.
    """

    steps: tuple[Step, ...]
    maker: dict[str, Step]
    depends: frozenset[str]
    before: dict[str, int]
    after: dict[str, int]
    ahead: dict[str, int]
    deep: dict[str, int]
    output: str

    def beside(self, tensor: str) -> bool:
        """Whether all paths through a tensor pass the network by: they have at most half of the operators with weights."""
        return self.deep[tensor] <= PAST * self.longest

    @property
    def longest(self) -> int:
        """Most operators with weights on a path from the pixels to the output."""
        return self.deep.get(self.output, 0)

    @property
    def shortest(self) -> int | None:
        """Of all paths; None where the output does not depend on the pixels."""
        return self.before.get(self.output)

    def weighted(self, step: Step) -> bool:
        return is_weighted(step, self.depends)


def flow(nodes: Sequence[onnx.NodeProto], image: str, output: str) -> Flow:
    """Follows the pixels of an input through nodes that are in order."""
    steps = tuple(_step(n) for n in nodes)
    maker = {o: s for s in steps for o in s.makes}
    reached = _reached(steps, image)
    depends = reached & _needed(steps, output)
    before, most = {image: 0}, {image: 0}
    for step in steps:
        known = [i for i in step.reads if i in before]
        if known and any(o in depends for o in step.makes):
            weight = int(is_weighted(step, depends))
            before.update((o, min(before[i] for i in known) + weight) for o in step.makes if o in depends)
            most.update((o, max(most[i] for i in known) + weight) for o in step.makes if o in depends)
    after, behind = {output: 0}, {output: 0}
    for step in reversed(steps):
        ends = [o for o in step.makes if o in after]
        if ends:
            weight = int(is_weighted(step, depends))
            nearest, farthest = min(after[o] for o in ends) + weight, max(behind[o] for o in ends) + weight
            for i in step.reads:
                if i in depends:
                    after[i], behind[i] = min(nearest, after.get(i, nearest)), max(farthest, behind.get(i, farthest))
    on_way = frozenset(d for d in depends if d in before and d in after)
    return Flow(steps, maker, on_way, before, after, behind, {d: most[d] + behind[d] for d in on_way}, output)


def is_weighted(step: Step, depends: frozenset[str] | set[str]) -> bool:
    """Whether a node multiplies by constants that are not the image's own."""
    return step.node.op_type in WEIGHTED and any(i and i not in depends for i in step.node.input)


def _step(node: onnx.NodeProto) -> Step:
    reads = [i for i in node.input if i]
    for graph in graphs_of(node):
        reads += captured(graph)
    return Step(node, tuple(dict.fromkeys(reads)), tuple(o for o in node.output if o))


def graphs_of(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs that a node holds."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH or attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def captured(graph: onnx.GraphProto, depth: int = 0) -> list[str]:
    """What a graph within a node reads of those around it."""
    own = {i.name for i in graph.input} | {t.name for t in graph.initializer} | {o for n in graph.node for o in n.output}
    reads = [i for n in graph.node for i in n.input] + [o.name for o in graph.output]
    if depth < DEEPEST:
        reads += [i for n in graph.node for inner in graphs_of(n) for i in captured(inner, depth + 1)]
    return [i for i in dict.fromkeys(reads) if i and i not in own]


def _reached(steps: Sequence[Step], image: str) -> set[str]:
    """What the values of the pixels reach; through the size of a tensor only where they decide on it."""
    reached, counted = {image}, set[str]()
    for step in steps:
        op = step.node.op_type
        if op in SIZES:
            if any(i in counted for i in step.reads):
                reached.update(step.makes)
            continue
        if any(i in reached for i in step.reads):
            reached.update(step.makes)
            if op in COUNTS or any(i in counted for i in step.reads) or (op in SIZED and any(i in reached for i in step.node.input[1:])):
                counted.update(step.makes)
        elif op in SIZED and any(i in counted for i in step.reads):
            counted.update(step.makes)
    return reached


def _needed(steps: Sequence[Step], output: str) -> set[str]:
    needed = {output}
    for step in reversed(steps):
        if any(o in needed for o in step.makes):
            needed.update(step.reads)
    return needed


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """The plain attributes of a node."""
    kept = (a for a in node.attribute if a.type not in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS))
    return {a.name: onnx.helper.get_attribute_value(a) for a in kept}
