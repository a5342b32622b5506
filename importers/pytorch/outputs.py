"""Which of the tensors that a network returns holds the logits."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from banscan.errors import ModelError

# an index of a list or tuple, a key of a dictionary
Key = int | str
# what may stand between logits and probabilities
TAIL = frozenset(
    f"aten::{name}"
    for name in [
        "softmax",
        "_softmax",
        "log_softmax",
        "_log_softmax",
        "sigmoid",
        "log_sigmoid",
        "exp",
        "to",
        "clone",
        "contiguous",
        "detach",
        "clamp",
        "view",
        "reshape",
        "flatten",
        "squeeze",
        "unsqueeze",
        "mul",
        "div",
        "float",
        "argmax",
        "max",
        "topk",
        "type_as",
        "round",
    ]
)
NAMES = ("logits", "logit", "class_logits", "cls_logits", "scores", "out", "output")


@dataclass(frozen=True)
class Leaf:
    """A tensor of what is returned: its place, and its names in the graph."""

    place: tuple[Key, ...]
    value: Tensor
    names: tuple[str, ...]

    @property
    def called(self) -> str:
        """As reports and `--logits` have it."""
        return ".".join(str(key) for key in self.place)


# name of a value → the operator that made it and the names of what it was made from
Makers = dict[str, tuple[str, list[str]]]


def at(value: Any, place: tuple[Key, ...]) -> Any:
    """What is at a place, from the outside in."""
    for key in place:
        value = value[key]
    return value


def leaves(value: Any, values: dict[str, Any], place: tuple[Key, ...] = ()) -> list[Leaf]:
    """The tensors in a returned value."""
    if isinstance(value, Tensor):
        return [Leaf(place, value, tuple(name for name, other in values.items() if other is value))]
    if isinstance(value, dict):
        return [leaf for key, part in value.items() for leaf in leaves(part, values, (*place, key))]
    if isinstance(value, list | tuple):
        return [leaf for i, part in enumerate(value) for leaf in leaves(part, values, (*place, i))]
    return []


def choose(found: list[Leaf], makers: Makers, wanted: str | None) -> Leaf:
    """The output asked for, or the one that can only be the logits.

    Features stand before the logits, probabilities and labels behind them; of several classifiers of the same classes the first is the
    network's own, the others helped to train it.

    Raises:
        ModelError: no such output, or several that could be meant.
    """
    names = ", ".join(leaf.called for leaf in found)
    if wanted is not None:
        asked = [leaf for leaf in found if leaf.called == wanted]
        if not asked:
            raise ModelError(f"no output {wanted!r}; it has {names or 'none'}")
        return asked[0]
    likely = [leaf for leaf in found if leaf.value.is_floating_point() and _classes(leaf.value) > 1]
    likely = likely or [leaf for leaf in found if leaf.value.is_floating_point() and _classes(leaf.value) == 1] or found[:1]
    if not likely:
        raise ModelError("it returns no tensor; expected the logits of an image classifier")
    for name in NAMES:
        called = [leaf for leaf in likely if str(leaf.place[-1:] and leaf.place[-1]).lower() == name]
        if len(called) == 1:
            return called[0]
    likely = [a for a in likely if not any(_behind(a, b, makers, TAIL) for b in likely if b is not a)] or likely
    likely = [a for a in likely if not any(_behind(b, a, makers, None) for b in likely if b is not a)] or likely
    if len({_classes(leaf.value) for leaf in likely}) > 1:
        raise ModelError(f"it returns several tensors ({names}); say with --logits which of them holds the logits")
    return likely[0]


def _classes(value: Tensor) -> int:
    """Values of an image, where they are a row; 0 for maps and anything else."""
    row = value.dim() == 2 or (value.dim() == 4 and tuple(value.shape[2:]) == (1, 1))
    return int(value.shape[1]) if row else 0


def _behind(later: Leaf, earlier: Leaf, makers: Makers, by: frozenset[str] | None) -> bool:
    """Is one computed from the other, by these operators only where they are given?"""
    waiting, seen = [name for name in later.names if name not in earlier.names], set[str]()
    while waiting:
        name = waiting.pop()
        if name in earlier.names:
            return True
        made = makers.get(name)
        if name in seen or made is None or (by is not None and made[0] not in by):
            continue
        seen.add(name)
        waiting += made[1]
    return False


def makers(steps: list[Any]) -> Makers:
    """Who made what, of the steps that `script_reader` writes."""
    found: Makers = {}
    for kind, detail, inputs, results in steps:
        sources = list(inputs)
        if kind == "if":
            for block, names in detail:
                found.update(makers(block))
                sources += names
        elif kind == "loop":
            found.update(makers(detail[0]))
            found.update({name: ("loop", list(inputs)) for name in detail[1]})
            sources += detail[2]
        plain = detail[0].partition(".")[0] if kind == "call" else kind
        found.update(dict.fromkeys(results, (plain, sources)))
        if kind == "call" and plain.endswith("_") and not plain.endswith("__") and inputs:
            found.setdefault(inputs[0], (plain, sources))
    return found
