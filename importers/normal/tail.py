"""What stands behind the logits: probabilities and labels, taken off the graph, and kept as a graph for a comparison with the source."""

from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, fx

from banscan.errors import ModelError
from banscan.importers.model import attribute_named, carried, output_node
from banscan.importers.normal import penultimate
from banscan.importers.normal.constants import constant
from banscan.importers.normal.monotone import NEUTRAL, SAME, batch_axis, class_axis, name_of, trend
from banscan.importers.normal.penultimate import shape
from banscan.importers.normal.trend import Trend

aten = torch.ops.aten

# two classes of which the file has one logit; the two are minus and plus its half
ONE_LOGIT = "one logit for two classes"
# what is not taken for a tail any more
LONGEST = 60
# names for the report; what only moves values or changes their type has none
NAMES = {
    "softmax": "Softmax",
    "log_softmax": "LogSoftmax",
    "sigmoid": "Sigmoid",
    "log_sigmoid": "LogSigmoid",
    "tanh": "Tanh",
    "argmax": "ArgMax",
    "argmin": "ArgMin",
    "topk": "TopK",
    "sort": "Sort",
    "argsort": "Sort",
    "max": "Max",
    "min": "Min",
    "one_hot": "OneHot",
    "exp": "Exp",
    "log": "Log",
    "logsumexp": "LogSumExp",
    "clamp": "Clip",
    "clamp_min": "Clip",
    "clamp_max": "Clip",
    "round": "Round",
    "cat": "Concat",
    "stack": "Concat",
}
# what these names are written out with
PARTS = frozenset({"Exp", "Log", "LogSumExp", "Clip", "Tanh"})
WHOLE = frozenset({"Softmax", "LogSoftmax", "Sigmoid", "ArgMax", "ArgMin", "TopK", "Sort", "Max", "Min"})


def strip(module: fx.GraphModule) -> tuple[tuple[str, ...], fx.GraphModule | None]:
    """Takes probabilities and labels off the end, down to the logits [N, classes], which the graph returns then.

    Returns what was taken off, last first, and as a graph from logits [N, classes] to the file's output; None where nothing was.

    Raises:
        ModelError: the output tells nothing of the classes.
    """
    out = output_node(module.graph)
    end = cast(fx.Node, out.args[0])
    if end.op != "call_function":
        return (), None
    start, found, inside = _deepest(module, end)
    sign = found.direction
    if _count(start) == 0:
        raise ModelError("its output has no classes; expected logits [batch, classes] of an image classifier")
    while (name_of(start) in SAME and _holds_floats(start.args[0])) or (sign < 0 and name_of(start) == "neg"):
        sign = 1 if name_of(start) == "neg" else sign
        start, inside = cast(fx.Node, start.args[0]), [start, *inside]
    if not _holds_floats(start) or class_axis(start, _count(start)) is None:
        return (), None
    if start is end and _is_plain(end):
        return (), None
    names = _names(inside)
    tail = _behind(module, start, end, sign)
    logits = _rows(module, start, sign)
    out.args = (logits,)
    if _count(start) == 1:
        names = (*names, ONE_LOGIT)
        out.args = (_two(module, logits),)
    return _written(names, tail, _count(start)), tail


def unwrap(module: fx.GraphModule) -> fx.Node:
    """Takes an output out of the tuple that it stands in; the node.

    Raises:
        ModelError: there are several, or it is no tensor.
    """
    out = output_node(module.graph)
    end: Any = out.args[0]
    while isinstance(end, tuple | list) and len(end) == 1:
        end = end[0]
    if not isinstance(end, fx.Node) or not isinstance(end.meta.get("val"), Tensor):
        raise ModelError("it answers something else than one tensor; expected logits [batch, classes] of an image classifier")
    out.args = (end,)
    return end


def _holds_floats(node: Any) -> bool:
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return isinstance(value, Tensor) and value.is_floating_point()


def _is_plain(node: fx.Node) -> bool:
    """Whether a tensor is [N, classes] already, in float32."""
    sizes = shape(node)
    return (
        node.meta["val"].dtype == torch.float32
        and len(sizes) == 2
        and not isinstance(sizes[0], int)
        and isinstance(sizes[1], int)
        and sizes[1] > 1
    )


def _count(node: fx.Node) -> int:
    """How many values a tensor with one wide axis has for each image."""
    return next((s for s in shape(node) if isinstance(s, int) and s != 1), 1)


def _deepest(module: fx.GraphModule, end: fx.Node) -> tuple[fx.Node, Trend, list[fx.Node]]:
    """The node nearest the image behind which everything is a tail and right behind which probabilities begin; the nodes behind it."""
    graph = module.graph
    image = next(n for n in graph.nodes if n.op == "placeholder")
    data = penultimate.depends_on(graph, image)
    parent = penultimate.dominators(graph, image, data)
    chain = [end]
    while chain[-1] is not image and chain[-1] in parent and len(chain) <= LONGEST:
        chain.append(parent[chain[-1]])
    order = {node: i for i, node in enumerate(graph.nodes)}
    best: tuple[fx.Node, Trend, list[fx.Node]] = (end, Trend(1, classes=_count(end)), [])
    for last, node in pairwise(chain):
        own = penultimate.between(node, last, data)
        if any(not _possible(n) for n in own) or node is image:
            break
        inside = sorted(penultimate.between(node, end, data), key=order.__getitem__)
        if all(name_of(n) in NEUTRAL for n in own):
            continue
        found = trend(module, node, inside, end)
        if found is not None and not found.direction and found.classes > 1:
            raise ModelError("its output is one number for all classes of an image; export the model with its logits as output")
        if found is not None and found.direction and (found.label or class_axis(end, found.classes) is not None):
            best = (node, found, inside)
    return best


def _possible(node: fx.Node) -> bool:
    """Whether an operator may stand behind logits at all: a layer with weights ends the walk."""
    return name_of(node) not in ("linear", "conv1d", "conv2d", "conv3d", "batch_norm", "matmul", "bmm", "mm", "einsum", "layer_norm")


def _names(inside: list[fx.Node]) -> tuple[str, ...]:
    """Of the nodes that were taken off, last first."""
    found = [NAMES[name_of(n)] for n in reversed(inside) if name_of(n) in NAMES]
    return tuple(name for i, name in enumerate(found) if name in WHOLE or i == 0 or found[i - 1] != name)


def _written(names: tuple[str, ...], tail: fx.GraphModule, count: int) -> tuple[str, ...]:
    """The name of what is written out by its parts, where the values are the same."""
    if WHOLE & set(names):
        return names
    drawn = 3 * torch.randn(8, max(2, count), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        given = tail(drawn)
    if not isinstance(given, Tensor) or given.numel() not in (len(drawn), drawn.numel()):
        return names
    one = drawn[:, 1:] - drawn[:, :1]
    kinds = {"Softmax": drawn.softmax(1), "LogSoftmax": drawn.log_softmax(1), "Sigmoid": (one if count == 1 else drawn).sigmoid()}
    for name, expected in kinds.items():
        if given.numel() == expected.numel() and torch.allclose(given.reshape(expected.shape).to(torch.float32), expected, atol=1e-5):
            return (name, *(n for n in names if n not in PARTS))
    return names


def _rows(module: fx.GraphModule, node: fx.Node, sign: int) -> fx.Node:
    """The values of a node as [N, classes], negated where the larger one is the less likely."""
    graph, count = module.graph, _count(node)
    out = output_node(graph)
    sizes, value = shape(node), node.meta["val"]
    with graph.inserting_before(out):
        if count > 1 and cast(int, class_axis(node, count)) < batch_axis(node):
            order = [batch_axis(node), *(i for i in range(len(sizes)) if i != batch_axis(node))]
            node = graph.call_function(aten.permute.default, (node, order))
            node.meta["val"] = value = value.permute(order)
        if len(sizes) != 2 or isinstance(shape(node)[0], int):
            node = graph.call_function(aten.reshape.default, (node, [-1, count]))
            node.meta["val"] = value = value.reshape(-1, count)
        if sign < 0:
            node = graph.call_function(aten.neg.default, (node,))
            node.meta["val"] = value = -value
        if value.dtype != torch.float32:
            node = graph.call_function(aten.to.dtype, (node, torch.float32))
            node.meta["val"] = value.float()
    return node


def _two(module: fx.GraphModule, logit: fx.Node) -> fx.Node:
    """Two logits (-z/2, z/2), whose softmax is z's sigmoid, for a classifier of one z [N, 1]."""
    out = output_node(module.graph)
    factors = constant(module, out, torch.tensor([-0.5, 0.5]), "two_logits")
    with module.graph.inserting_before(out):
        both = module.graph.call_function(aten.mul.Tensor, (logit, factors))
    both.meta["val"] = logit.meta["val"].expand(-1, 2)
    return both


def _behind(module: fx.GraphModule, start: fx.Node, end: fx.Node, sign: int) -> fx.GraphModule:
    """The graph from logits [N, classes] to the output, with constants of its own: what the logits were made of is made of them again."""
    graph = fx.Graph()
    rows = node = graph.placeholder("logits")
    count, sizes, batch = _count(start), shape(start), batch_axis(start)
    if count == 1:
        first, second = (graph.call_function(aten.select.int, (rows, 1, i)) for i in (0, 1))
        node = graph.call_function(aten.sub.Tensor, (second, first))
    if sign < 0:
        node = graph.call_function(aten.neg.default, (node,))
    if count > 1 and cast(int, class_axis(start, count)) < batch:
        node = graph.call_function(aten.permute.default, (node, [1, 0]))
    node = graph.call_function(aten.reshape.default, (node, [-1 if i == batch else s for i, s in enumerate(sizes)]))
    graph.output(carried(graph, start, node, rows, end))
    held = {str(n.target): attribute_named(module, str(n.target)).detach().clone() for n in graph.nodes if n.op == "get_attr"}
    return fx.GraphModule(held, graph)
