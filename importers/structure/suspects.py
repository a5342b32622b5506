"""Places in a graph that decide by the pixels, before any image is seen."""

import onnx
from onnx import TensorProto

from banscan.importers.structure.finding import BRANCH, BYPASS, DECISION, Logic
from banscan.importers.structure.flow import Flow, Step, attributes, graphs_of

# their answer is yes or no
ANSWERS = frozenset(
    {"And", "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Not", "Or", "Xor"}
)  # fmt: skip
# their answer jumps
STEPS = frozenset(
    {
        "ArgMax", "ArgMin", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Ceil", "Compress", "Floor", "Hardmax",
        "Mod", "NonMaxSuppression", "NonZero", "OneHot", "Round", "Sign", "TopK", "Unique",
    }
)  # fmt: skip
LOOPS = frozenset({"If", "Loop", "Scan"})
WHOLE = frozenset(
    {
        TensorProto.BOOL, TensorProto.INT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64,
        TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64,
    }
)  # fmt: skip


def suspects(flow: Flow) -> tuple[Logic, ...]:
    """What decides, and the first tensors of what leads past the network, in the graph's order."""
    found = []
    for step in flow.steps:
        made = next((o for o in step.makes if o in flow.depends), None)
        if made is None:
            continue
        kind = _kind(step, flow)
        if kind is not None:
            found.append(place(flow, made, kind))
    return tuple(found)


def place(flow: Flow, tensor: str, kind: str) -> Logic:
    """A tensor as a place in the graph."""
    step = flow.maker[tensor]
    return Logic(
        tensor=tensor,
        node=step.called,
        operator=step.node.op_type,
        kind=kind,
        before=flow.before[tensor],
        after=flow.after[tensor],
    )


def _kind(step: Step, flow: Flow) -> str | None:
    op = step.node.op_type
    if op in ("If", "Where"):
        inside = op == "If" and any(_decides_within(graph, step) for graph in graphs_of(step.node))
        return BRANCH if step.node.input[0] in flow.depends or inside else None
    if op in ("Loop", "Scan"):
        steered = op == "Loop" and any(i in flow.depends for i in step.node.input[:2])
        return BRANCH if steered or any(_decides_within(graph, step) for graph in graphs_of(step.node)) else None
    if op in ANSWERS or op in STEPS or _rounds(step.node):
        return DECISION
    return None


def _rounds(node: onnx.NodeProto) -> bool:
    return node.op_type == "Cast" and attributes(node).get("to") in WHOLE


def _decides_within(graph: onnx.GraphProto, step: Step, depth: int = 0) -> bool:
    """Whether a graph within a node, or one within that, decides between parts of the graph or of tensors."""
    for node in graph.node:
        if node.op_type in ("If", "Where"):
            return True
        if depth < 50 and any(_decides_within(inner, step, depth + 1) for inner in graphs_of(node)):
            return True
    return False


def unsettled(flow: Flow, found: tuple[Logic, ...]) -> tuple[Logic, ...]:
    """Places that may be the reason why a graph cannot be read as a classifier: branches, and what passes the network by.

    What decides behind the network, as the choice of the largest score, and what leads through all of it, as a clip of the pixels, is none.
    """
    kept = [p for p in found if flow.beside(p.tensor) or (p.kind == BRANCH and p.operator in LOOPS)]
    return tuple(kept) or _bypass(flow)


def _bypass(flow: Flow) -> tuple[Logic, ...]:
    """The last tensor of what passes the network by, where something does."""
    beside = [s for s in flow.steps if any(o in flow.depends and flow.beside(o) for o in s.makes)]
    if not beside or flow.longest < 2:
        return ()
    last = next(o for o in beside[-1].makes if o in flow.depends)
    return (place(flow, last, BYPASS),)
