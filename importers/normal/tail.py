"""What stands behind the logits: probabilities and labels, stripped off the graph and restored for a comparison with the source."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, fx

from banscan.importers.model import output_node
from banscan.importers.normal import penultimate
from banscan.importers.normal.constants import attribute, constant

aten = torch.ops.aten

# what stands behind the logits of two classes, undone for the comparison with the source: 1 - p beside p, and one logit for both
PAIR, ONE_LOGIT = "Concat", "one logit for two classes"
# a name for each that can be stripped, and for each name what it computed
TAIL: dict[Any, str] = {
    aten.softmax.int: "Softmax",
    aten._softmax.default: "Softmax",
    aten.log_softmax.int: "LogSoftmax",
    aten._log_softmax.default: "LogSoftmax",
    aten.sigmoid.default: "Sigmoid",
    aten.argmax.default: "ArgMax",
}
RESTORE: dict[str, Callable[[Tensor], Tensor]] = {
    "Softmax": lambda y: torch.softmax(y, 1),
    "LogSoftmax": lambda y: torch.log_softmax(y, 1),
    "Sigmoid": torch.sigmoid,
    "ArgMax": lambda y: y.argmax(1).float(),
    PAIR: lambda p: torch.cat((1 - p, p), 1),
    ONE_LOGIT: lambda y: y[:, 1:] - y[:, :1],
}


def strip(module: fx.GraphModule) -> tuple[str, ...]:
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


def restore(outputs: Tensor, stripped: tuple[str, ...]) -> Tensor:
    """What the source answers, from logits [N, classes]: what was stripped is computed again, in the order of the graph."""
    for name in reversed(stripped):
        outputs = RESTORE[name](outputs)
    return outputs


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
