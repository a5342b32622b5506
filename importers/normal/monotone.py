"""What the operators behind the logits do to the order of the classes, followed from the graph alone.

Every value between the logits and the output is one increasing or decreasing function of the logits for each image, the same for all its
classes; or it is the same for all classes; or it is a label. What is none of these is not taken off. No sample of inputs could show as
much: a file may be made to behave differently on the inputs of an attacker.
"""

from dataclasses import replace
from typing import Any, cast

import torch
from torch import fx

from banscan.importers.normal.constants import attribute
from banscan.importers.normal.penultimate import shape
from banscan.importers.normal.trend import INCREASING, INF, ROUGH, Trend, inverted, joined, negated, power, product, total

SAME = frozenset({"to", "_to_copy", "type_as", "float", "double", "half", "clone", "contiguous", "alias", "detach", "lift_fresh_copy"})
LAYOUT = frozenset(
    {"reshape", "view", "_unsafe_view", "flatten", "squeeze", "unsqueeze", "permute", "transpose", "t", "expand", "expand_as", "unflatten"}
    | {"select", "slice", "narrow"}
)
# those that mix no axes: the order of batch and classes has to stay
ROWS = frozenset({"reshape", "view", "_unsafe_view", "flatten", "unflatten"})
OVER_CLASSES = frozenset({"sum", "mean", "amax", "amin", "logsumexp", "prod", "linalg_vector_norm", "norm"})
FIRST = frozenset({"argmax", "argmin", "argsort", "topk", "sort", "max", "min"})
# what may be done to a label
WITH_LABEL = (
    SAME
    | LAYOUT
    | {"add", "sub", "rsub", "mul", "div", "select", "slice", "index_select", "gather", "cat", "stack", "one_hot", "eq", "ne", "where"}
    | {
        "getitem",
        "scatter",
        "narrow",
        "flip",
        "clamp",
        "round",
        "floor",
        "scalar_tensor",
        "ge",
        "gt",
        "le",
        "lt",
        "logical_not",
        "full_like",
        "zeros_like",
    }
)
# an affine map, a cast or another layout: nothing that makes probabilities of logits
NEUTRAL = (
    SAME
    | LAYOUT
    | {"add", "sub", "rsub", "mul", "div", "neg", "clamp", "clamp_min", "clamp_max", "minimum", "maximum", "hardtanh", "relu", "getitem"}
    | {"cat", "stack", "round", "floor", "ceil", "trunc", "select"}
)


def name_of(node: fx.Node) -> str:
    """The plain name of a node's operator: "softmax" of aten._softmax.default."""
    target: Any = node.target
    name = str(getattr(target, "__name__", target)).partition(".")[0]
    return {"_softmax": "softmax", "_log_softmax": "log_softmax"}.get(name, name)


def class_axis(node: fx.Node, classes: int) -> int | None:
    """The axis of a tensor with one value for every class of every image, and nothing else; None for any other tensor."""
    sizes = shape(node)
    batch = [i for i, s in enumerate(sizes) if not isinstance(s, int)]
    wide = [i for i, s in enumerate(sizes) if isinstance(s, int) and s != 1]
    if len(batch) != 1:
        return None
    if classes == 1:
        return -1 if not wide else None
    return wide[0] if len(wide) == 1 and sizes[wide[0]] == classes else None


def one_each(node: fx.Node) -> bool:
    """Whether a tensor has one value for every image."""
    return class_axis(node, 1) is not None


def batch_axis(node: fx.Node) -> int:
    """The axis of the images."""
    return next(i for i, s in enumerate(shape(node)) if not isinstance(s, int))


def trend(module: fx.GraphModule, start: fx.Node, inside: list[fx.Node], end: fx.Node) -> Trend | None:
    """How `end` follows the values of `start` through the nodes `inside`, in order; None where that cannot be told."""
    classes = next((s for s in shape(start) if isinstance(s, int) and s != 1), 1)
    if class_axis(start, classes) is None:
        return None
    known: dict[fx.Node, Any] = {start: Trend(1, classes=classes)}
    for node in inside:
        found = _follow(module, node, known)
        if found is None:
            return None
        known[node] = found
    return cast(Trend, known[end])


def _follow(module: fx.GraphModule, node: fx.Node, known: dict[fx.Node, Any]) -> Any:
    name = name_of(node)
    given = [_given(module, a, known) for a in node.args]
    trends = [g for g in given if isinstance(g, Trend) and g.classes]
    trends += [t for a in node.args if isinstance(a, list | tuple) for t in (_given(module, e, known) for e in a) if isinstance(t, Trend)]
    if _asks(node):
        return given[0]
    if name == "where" and _mends(node, node.args[0]):
        return given[2]
    if name == "getitem" and isinstance(given[0], tuple):
        return given[0][node.args[1]] if isinstance(node.args[1], int) else None
    if not trends:
        return None
    if any(t.label for t in trends):
        return replace(next(t for t in trends if t.label), low=-INF, high=INF) if name in WITH_LABEL else None
    if name in ("cat", "stack"):
        return _pair(node, [_given(module, e, known) for e in cast(Any, node.args[0])])
    own = trends[0]
    if name == "flip":  # the order of the classes is another one, which only a label found in it survives
        return own if all(name_of(u) in FIRST for u in node.users) else None
    if name in FIRST:
        return _first(name, node, own)
    if name in ("softmax", "log_softmax") or name in OVER_CLASSES:
        return _over_classes(name, node, own)
    if name in LAYOUT:
        return _moved(name, node, own)
    if name in ("gt", "ge", "lt", "le") and own.classes == 1:
        bound = given[1] if len(given) > 1 and isinstance(given[1], Trend) else None
        flip = -1 if name in ("lt", "le") else 1
        return replace(own, direction=own.direction * flip, label=True) if bound is not None and not bound.classes else None
    result = _valuewise(name, node, given, own)
    return result if result is None or _fits(node, result) else None


def _asks(node: fx.Node) -> bool:
    """Whether a node serves nothing but to ask where there are no numbers, for a choice between others."""
    if name_of(node) not in LAYOUT | {"isnan"} or not node.users:
        return False
    return all((name_of(u) == "where" and u.args[0] is node) or _asks(u) for u in node.users)


def _mends(node: fx.Node, asked: Any) -> bool:
    """Whether a node puts constants in the place of NaN, and leaves everything else as it is, `asked` being where x is NaN."""
    return name_of(node) == "where" and isinstance(asked, fx.Node) and name_of(asked) == "isnan" and node.args[2] is asked.args[0]


def _given(module: fx.GraphModule, argument: Any, known: dict[fx.Node, Any]) -> Any:
    """The trend of an argument; a number, or a constant whose values are all alike, has one without classes."""
    if isinstance(argument, fx.Node):
        if argument in known:
            return known[argument]
        held = attribute(module, argument)
        if held is None or not held.numel() or held.dtype == torch.bool:
            return None
        low, high = float(held.min()), float(held.max())
        return Trend(0, low, high) if low == high else None
    return Trend(0, float(argument), float(argument)) if isinstance(argument, int | float) and not isinstance(argument, bool) else None


def _fits(node: fx.Node, found: Trend) -> bool:
    """Whether the tensor still has a value for each class of an image, or one for each image, and no more."""
    return (found.direction == 0 and one_each(node)) or class_axis(node, found.classes) is not None


def _valuewise(name: str, node: fx.Node, given: list[Any], own: Trend) -> Trend | None:
    """Operators that take values one by one, with constants or values that an image's classes share."""
    if name in SAME:
        return own if _keeps_order(node, own) else None
    if name == "nan_to_num" and node.args[1:] != (-INF, INF, -INF):
        return None
    if name in INCREASING:
        function, least = INCREASING[name]
        if own.low < least:
            return None
        slack = 1.0 if name in ROUGH else 0.0
        return replace(own, low=function(own.low), high=function(own.high) + slack)
    if name == "neg":
        return negated(own)
    if name == "reciprocal":
        return inverted(own)
    other = given[1] if len(given) > 1 else None
    if name in ("clamp", "clamp_min", "clamp_max", "hardtanh"):
        return _clamped(name, node, given, own)
    if name == "pow":
        return power(given[0], other)
    if not isinstance(given[0], Trend) or not isinstance(other, Trend) or _alpha(node) != 1:
        return None
    first, second = (other, given[0]) if name == "rsub" else (given[0], other)
    if name in ("sub", "rsub"):
        return total(first, negated(second), own.classes)
    if name == "add":
        return total(first, second, own.classes)
    if name in ("minimum", "maximum"):
        pick = min if name == "minimum" else max
        return joined(first, second, pick(first.low, second.low), pick(first.high, second.high), own.classes)
    if name == "div" and node.kwargs.get("rounding_mode") is None:
        inverse = inverted(second)
        return None if inverse is None else product(first, inverse, own.classes)
    return product(first, second, own.classes) if name == "mul" else None


def _keeps_order(node: fx.Node, own: Trend) -> bool:
    """Whether a cast turns no number into one below it: small integers wrap, a truth value is the same for all but 0."""
    dtype = node.meta["val"].dtype
    if dtype == torch.bool:
        return False
    return dtype.is_floating_point or dtype.itemsize >= 4 or (own.low >= 0 and own.high <= torch.iinfo(dtype).max)


def _alpha(node: fx.Node) -> float:
    """The factor that aten's sums give their second argument; 1 everywhere else."""
    alpha = node.kwargs.get("alpha", node.args[2] if len(node.args) > 2 and name_of(node) in ("add", "sub", "rsub") else 1)
    return float(alpha) if isinstance(alpha, int | float) else 0.0


def _clamped(name: str, node: fx.Node, given: list[Any], own: Trend) -> Trend | None:
    bounds = [*given[1:3], None, None][:2]
    low, high = (bounds[0], bounds[1]) if name in ("clamp", "hardtanh") else (bounds[0], None) if name == "clamp_min" else (None, bounds[0])
    if name == "hardtanh":
        low, high = low or Trend(0, -1.0, -1.0), high or Trend(0, 1.0, 1.0)
    if node.kwargs or any(b is not None and (not isinstance(b, Trend) or b.classes) for b in (low, high)):
        return None
    if any(a is not None and b is None for a, b in zip(node.args[1:3], given[1:3], strict=False)):
        return None  # a bound for each class
    least, most = (-INF if low is None else low.low), (INF if high is None else high.low)
    return replace(own, low=min(max(own.low, least), most), high=min(max(own.high, least), most))


def _axes(node: fx.Node, given: Any, rank: int) -> list[int] | None:
    """The axes that a reduction is told, from 0 on; None for all of them."""
    dims = given if isinstance(given, list | tuple) else [given]
    return [d % rank for d in dims] if all(isinstance(d, int) for d in dims) and dims else None


def _over_classes(name: str, node: fx.Node, own: Trend) -> Trend | None:
    """Softmax and what sums up the classes of each image; along anything else the answer would mix images, or say nothing."""
    source = cast(fx.Node, node.args[0])
    axis = class_axis(source, own.classes)
    position = 2 if name in ("linalg_vector_norm", "norm") else 1
    axes = _axes(node, node.args[position] if len(node.args) > position else node.kwargs.get("dim"), max(1, len(shape(source))))
    if axis is None or axes is None or batch_axis(source) in axes:
        return None
    if own.classes == 1 or axis not in axes:
        # along axes of size 1: a sum of one value is that value
        return (
            own
            if name in ("sum", "mean", "amax", "amin", "prod") and axis not in axes and class_axis(node, own.classes) is not None
            else None
        )
    if name == "softmax":
        return replace(own, low=0.0, high=1.0)
    if name == "log_softmax":
        return replace(own, low=-INF, high=0.0)
    if name == "prod" and own.low < 0:
        return None
    bounds = {
        "sum": (own.low * own.classes, own.high * own.classes),
        "logsumexp": (-INF, INF),
        "prod": (0.0, INF),
        "linalg_vector_norm": (0.0, INF),
        "norm": (0.0, INF),
    }.get(name, (own.low, own.high))
    return replace(own, direction=0, low=bounds[0], high=bounds[1])


def _first(name: str, node: fx.Node, own: Trend) -> Any:
    """Which class is first; the values beside the index are of that class."""
    source = cast(fx.Node, node.args[0])
    at = {"topk": 2, "argsort": 1, "sort": 1}.get(name, 1)
    given = node.args[at] if len(node.args) > at else node.kwargs.get("dim", -1 if name in ("topk", "sort", "argsort") else None)
    axes = _axes(node, given, max(1, len(shape(source))))
    if axes != [class_axis(source, own.classes)] or own.direction == 0:
        return None
    largest = {"topk": (3, True), "sort": (2, False), "argsort": (2, False)}.get(name)
    flip = -1 if name in ("argmin", "min") else 1
    if largest is not None:
        position, default = largest
        falling = node.args[position] if len(node.args) > position else node.kwargs.get("largest", node.kwargs.get("descending", default))
        flip = 1 if falling else -1
    label = replace(own, direction=own.direction * flip, label=True)
    if name in ("argmax", "argmin", "argsort"):
        return label
    # the largest value is the same for all classes; of several no place says which
    return (replace(own, direction=0) if name in ("max", "min") else label), label


def _moved(name: str, node: fx.Node, own: Trend) -> Trend | None:
    """The same values in another layout."""
    source = cast(fx.Node, node.args[0])
    if own.direction == 0:
        spread = name in ("expand", "expand_as") and class_axis(node, own.classes) is not None
        return own if one_each(node) or spread else None
    before, after = class_axis(source, own.classes), class_axis(node, own.classes)
    if before is None or after is None:
        return None
    if name in ROWS and own.classes > 1 and (before < batch_axis(source)) != (after < batch_axis(node)):
        return None
    return own


def _pair(node: fx.Node, parts: list[Any]) -> Trend | None:
    """Two classes of one logit: what falls with it beside what rises; rising means that the second class is the one that rises."""
    if len(parts) != 2 or not all(isinstance(p, Trend) and p.classes == 1 and not p.label for p in parts):
        return None
    if class_axis(node, 2) is None or {p.direction for p in parts} != {-1, 1}:
        return None
    return Trend(cast(Trend, parts[1]).direction, min(p.low for p in parts), max(p.high for p in parts), classes=2)
