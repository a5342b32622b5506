"""TorchScript's arithmetic of numbers, texts and lists, within bounds; what depends on the number of images stays a symbol.

A file may ask for anything here, so every value has a largest size, and a decision that would depend on the number of images is refused:
the network that is read must be the one that runs, however many images it gets.
"""

import math
import operator
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from banscan.errors import ModelError

Operation = Callable[..., Any]

# TorchScript's own integers have 64 bits; texts and lists longer than these are no classifier's
BITS, LONGEST, DEEPEST = 64, 100_000, 2
BATCH = "its code asks for the number of images and decides by it what is computed; the network must not depend on the batch size"
PIXELS = "its code decides by the values of a tensor what is computed, which cannot be traced; write it without branches on values"


class RaisedError(ModelError):
    """The file's own code raises an exception for what it was given."""


class Unread:
    """A value that is not computed here, since no classifier reads it; whatever does is refused. An error message may have it as a text."""

    def __init__(self, what: str, text: str = "") -> None:
        self._what, self._text = what, text

    def __str__(self) -> str:
        return self._text

    def refuse(self, *_: Any) -> Any:
        raise ModelError(f"its code {self._what}, which is not read")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __bool__ = __len__ = __iter__ = __getitem__ = __contains__ = __hash__ = refuse


def check_read(values: list[Any]) -> None:
    """Raises ModelError where one of the values, or a part of one, is not computed here."""
    for value in values:
        for part in value if isinstance(value, list | tuple) else (value,):
            if isinstance(part, Unread):
                part.refuse()


class Held(list[Any]):
    """A list that belongs to the model: it is the same one wherever its code reads it, so nothing may change it."""

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise ModelError("its code changes a list or dictionary of its own, which is not read")

    append = extend = insert = pop = remove = reverse = sort = clear = __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse


class HeldDict(dict[Any, Any]):
    """As `Held`, a dictionary."""

    pop = popitem = clear = update = setdefault = __setitem__ = __delitem__ = Held._refuse


def symbolic(value: Any, depth: int = DEEPEST) -> bool:
    """Does a value, or one in a list, depend on the number of images?"""
    if isinstance(value, list | tuple):
        return depth > 0 and any(symbolic(v, depth - 1) for v in value)
    return isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool)


def decided(value: Any) -> bool | None:
    """A condition's answer; None where it depends on the number of images.

    Raises:
        ModelError: it depends on the values of a tensor.
    """
    if isinstance(value, Tensor):
        raise ModelError(PIXELS)
    if isinstance(value, torch.SymBool):
        known = str(value.node.expr)  # as (s == s); what holds only for the batches that are tried does not count
        return {"True": True, "False": False}.get(known)
    return None if symbolic(value) else bool(value)


def truth(value: Any) -> bool:
    """As `decided`; raises ModelError where it depends on the number of images."""
    known = decided(value)
    if known is None:
        raise ModelError(BATCH)
    return known


def bounded(value: Any) -> Any:
    """The value, if it is not larger than a classifier needs."""
    if isinstance(value, int) and not -(1 << (BITS - 1)) <= value < 1 << (BITS - 1):
        raise ModelError(f"its code computes an integer of more than {BITS} bits; the file is damaged or hostile")
    if isinstance(value, str | list | tuple | dict) and len(value) > LONGEST:
        raise ModelError(f"its code makes a text or list of more than {LONGEST:,} parts; the file is damaged or hostile")
    return value


def _add(a: Any, b: Any, alpha: Any = 1) -> Any:
    if isinstance(a, Unread) or isinstance(b, Unread):
        return _message(str(a) + str(b))
    return a + b if isinstance(a, list | str | tuple) else a + alpha * b


def _added_in_place(a: Any, b: Any, alpha: Any = 1) -> Any:
    """A list stays the same one, whoever has it."""
    if not isinstance(a, list):
        return _add(a, b, alpha)
    a.extend(b)
    return a


def _multiply(a: Any, b: Any) -> Any:
    for many, times in ((a, b), (b, a)):
        if isinstance(many, str | list | tuple) and len(many) * max(0, int(times)) > LONGEST:
            raise ModelError(f"its code makes a text or list of more than {LONGEST:,} parts; the file is damaged or hostile")
    return a * b


def _divide(a: Any, b: Any, mode: str | None = None) -> Any:
    if mode == "floor":
        return a // b
    return a / b if mode is None else a // b if symbolic(a) or symbolic(b) else _toward_zero(a, b)


def _toward_zero(a: Any, b: Any) -> Any:
    if isinstance(a, float) or isinstance(b, float):
        return float(math.trunc(a / b))
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _power(a: Any, b: Any) -> Any:
    if isinstance(a, int) and isinstance(b, int):
        if b < 0:
            return float(a) ** b
        if abs(a) > 1 and (abs(a).bit_length() - 1) * b > BITS:
            raise ModelError(f"its code computes an integer of more than {BITS} bits; the file is damaged or hostile")
    return a**b


def _shift(a: int, b: int) -> Any:
    return _multiply(a, 2 ** _shiftable(b))


def _shiftable(b: int) -> int:
    if not 0 <= b < BITS:
        raise ModelError(f"its code shifts an integer by {b} bits, which has no one answer")
    return b


def _equal(a: Any, b: Any, depth: int = DEEPEST) -> Any:
    if not isinstance(a, list | tuple) or not isinstance(b, list | tuple):
        return operator.eq(*_alike(a, b))
    if depth == 0:
        raise ModelError("its code compares lists of lists of lists, which no classifier needs")
    pairs = [_equal(x, y, depth - 1) for x, y in zip(a, b, strict=False)] if len(a) == len(b) else [False]
    known = [decided(p) for p in pairs]
    if False in known:
        return False
    if None in known:
        raise ModelError(BATCH)
    return True


def _alike(a: Any, b: Any) -> tuple[Any, Any]:
    """Two numbers to be compared: an integer beside a real one is rounded to one first, which Python does not do."""
    mixed = {type(a), type(b)} == {int, float}
    return (float(a), float(b)) if mixed else (a, b)


def _compared(operation: Operation) -> Operation:
    return lambda a, b: operation(*_alike(a, b))


def weight(value: Any) -> int:
    """How much work a value is to an operator: the parts of a list and of the lists in it, a hundred characters each."""
    if isinstance(value, str):
        return len(value) // 100
    if not isinstance(value, list | tuple | dict):
        return 0
    return len(value) + sum(len(v) for v in value if isinstance(v, list | tuple | dict))


def _message(text: str) -> Unread:
    return Unread("makes a text of numbers or lists and reads it", text)


def _text(value: Any) -> Any:
    """A text of a value; only of texts and integers it is the same as TorchScript's for certain."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return _message(
        "batch" if symbolic(value) else str(value) if isinstance(value, int | float | None | Unread) else f"a {type(value).__name__}"
    )


def _format(text: Any, *values: Any) -> Any:
    """Only "{}" is replaced; a text with anything else between braces stays as it is."""
    parts = str(text).split("{}")
    texts = [_text(value) for value in values]
    filled = [*map(str, texts), *[""] * len(parts)]
    made = "".join(part + (filled[i] if i < len(parts) - 1 else "") for i, part in enumerate(parts))
    return _message(made) if any(isinstance(t, Unread) for t in (text, *texts)) else made


def _range_length(start: Any, end: Any, step: Any) -> Any:
    return len(range(start, end, step))


def _derive(i: Any, start: Any, step: Any) -> Any:
    return start + i * step


def _contains(values: Any, wanted: Any) -> bool:
    return any(truth(_equal(v, wanted)) for v in values)


def _not(value: Any) -> Any:
    return torch.sym_not(value) if isinstance(value, torch.SymBool) else not truth(value)


def _whole(value: Any) -> Any:
    if isinstance(value, torch.SymBool):
        raise ModelError(BATCH)
    return torch.sym_int(value) if symbolic(value) else int(value)


def _real(value: Any) -> Any:
    if isinstance(value, torch.SymBool):
        raise ModelError(BATCH)
    return torch.sym_float(value) if symbolic(value) else float(value)


def _extreme(of_two: Callable[[Any, Any], Any], of_symbols: Callable[[Any, Any], Any], *values: Any) -> Any:
    """The least or the largest of several values, or of those in one list."""
    given = values[0] if len(values) == 1 else values
    result = given[0]
    for value in given[1:]:
        result = of_symbols(result, value) if symbolic([result, value]) else of_two(result, value)
    return result


_least = partial(_extreme, min, torch.sym_min)
_largest = partial(_extreme, max, torch.sym_max)


def _appended(values: list[Any], value: Any) -> list[Any]:
    values.append(value)
    return values


def _flat(function: Operation) -> Operation:
    """A function of a list of plain values; Python would compare lists in it part by part."""

    def checked(values: Any, *rest: Any) -> Any:
        if any(isinstance(v, list | tuple | dict) for v in (*values, *rest)):
            raise ModelError("its code searches or sorts lists of lists, which no classifier needs")
        return function(values, *rest)

    return checked


def _inserted(values: list[Any], place: int, value: Any) -> None:
    values.insert(place, value)


def _sort(values: list[Any], reverse: bool = False) -> None:
    values.sort(reverse=reverse)


def _set(values: Any, key: Any, value: Any) -> Any:
    values[key] = value
    return values


def _round(value: Any) -> Any:
    return float(round(value)) if isinstance(value, float) else value


def _product(values: Any) -> Any:
    result = 1
    for value in values:
        result = result * value
    return result


# operators on values that are no tensors and may depend on the number of images
ARITHMETIC: dict[str, Operation] = {
    "aten::add": _add,
    "aten::add_": _added_in_place,
    "aten::sub": lambda a, b, alpha=1: a - alpha * b,
    "aten::rsub": lambda a, b, alpha=1: b - alpha * a,
    "aten::mul": _multiply,
    "aten::div": _divide,
    "aten::true_divide": operator.truediv,
    "aten::floordiv": operator.floordiv,
    "aten::floor_divide": operator.floordiv,
    "aten::neg": operator.neg,
    "aten::eq": _equal,
    "aten::ne": lambda a, b: _not(_equal(a, b)),
    "aten::lt": _compared(operator.lt),
    "aten::le": _compared(operator.le),
    "aten::gt": _compared(operator.gt),
    "aten::ge": _compared(operator.ge),
    "aten::__not__": _not,
    "aten::Int": _whole,
    "aten::Float": _real,
    "aten::IntImplicit": lambda x: x,
    "aten::FloatImplicit": lambda x: x,
    "aten::ScalarImplicit": lambda x: x,
    "aten::item": lambda x: x,
    "aten::_local_scalar_dense": lambda x: x,
    "aten::slice": lambda values, start=None, end=None, step=1: values[start:end:step],
    "aten::__getitem__": lambda x, i: x[i],
    "aten::append": _appended,
    "aten::list": list,
    "aten::copy": lambda x: x.copy(),
    "aten::extend": lambda x, more: x.extend(more),
    "aten::insert": _inserted,
    "aten::_set_item": _set,
    "aten::len": len,
    "aten::format": _format,
    "aten::prod": _flat(_product),
    "aten::sum": _flat(sum),
    "aten::keys": lambda x: list(x.keys()),
    "aten::values": lambda x: list(x.values()),
    "aten::items": lambda x: list(x.items()),
    "aten::get": lambda x, key, default=None: x.get(key, default),
    "aten::__derive_index": _derive,
    "aten::detach": lambda x: x,
    "aten::clone": lambda x, *_: x,
    "aten::Size": list,
    "prim::NumToTensor": lambda x: x,
    "prim::min": _least,
    "prim::max": _largest,
}
# operators on values that are no tensors and must be known
KNOWN: dict[str, Operation] = {
    "aten::remainder": operator.mod,
    "aten::mathremainder": math.remainder,
    "aten::fmod": math.fmod,
    "aten::pow": _power,
    "aten::abs": abs,
    "prim::abs": abs,
    "aten::fabs": math.fabs,
    "aten::sqrt": math.sqrt,
    "aten::exp": math.exp,
    "aten::log": math.log,
    "aten::log2": math.log2,
    "aten::floor": math.floor,
    "aten::ceil": math.ceil,
    "aten::round": _round,
    "aten::trunc": math.trunc,
    "aten::gcd": math.gcd,
    "aten::__round_to_zero_floordiv": _toward_zero,
    "aten::divmod": divmod,
    "aten::minimum": min,
    "aten::maximum": max,
    "aten::__and__": lambda a, b: a & b,
    "aten::__or__": lambda a, b: a | b,
    "aten::__xor__": lambda a, b: a ^ b,
    "aten::bitwise_and": lambda a, b: a & b,
    "aten::bitwise_or": lambda a, b: a | b,
    "aten::logical_and": lambda a, b: bool(a) and bool(b),
    "aten::logical_or": lambda a, b: bool(a) or bool(b),
    "aten::logical_not": operator.not_,
    "aten::__lshift__": _shift,
    "aten::__rshift__": lambda a, b: a >> _shiftable(b),
    "aten::Bool": bool,
    "aten::is_nonzero": bool,
    "aten::__contains__": _contains,
    "aten::index": _flat(lambda values, value: values.index(value)),
    "aten::count": _flat(lambda values, value: values.count(value)),
    "aten::pop": lambda values, place=-1: values.pop(place),
    "aten::reverse": lambda values: values.reverse(),
    "aten::clear": lambda values: values.clear(),
    "aten::sorted": _flat(sorted),
    "aten::sort": _flat(_sort),
    "aten::any": _flat(any),
    "aten::all": _flat(all),
    "aten::__range_length": _range_length,
    "aten::str": _text,
    "aten::startswith": lambda text, part, start=0, end=-1: _between(text, start, end).startswith(part),
    "aten::endswith": lambda text, part, start=0, end=-1: _between(text, start, end).endswith(part),
    "aten::lower": lambda text: text.lower(),
    "aten::upper": lambda text: text.upper(),
    "aten::strip": lambda text, chars=None: text.strip(chars),
    "prim::StringIndex": lambda text, i: text[i],
    "prim::rangelist": lambda n: list(range(min(n, LONGEST))),
    "aten::range": lambda n: list(range(min(n, LONGEST))),
}


def _between(text: str, start: int, end: int) -> str:
    """A part of a text; -1 is its end."""
    return text[start:] if end == -1 else text[start:end]


def _otherwise(value: Any) -> bool:
    """Whether TorchScript has other rules for a value than Python: it counts the bytes of a text, and ranks NaN in its own way."""
    if isinstance(value, list | tuple):
        return any(_otherwise(v) for v in value)
    return (isinstance(value, str) and not value.isascii()) or (isinstance(value, float) and math.isnan(value))


def calculate(name: str, arguments: list[Any]) -> Any:
    """One operator on values none of which is a tensor.

    Raises:
        ModelError: it is not known, its result is too large, or it would have to know the number of images.
    """
    if name in KNOWN and any(symbolic(a) for a in arguments):
        raise ModelError(BATCH)
    function = KNOWN.get(name) or ARITHMETIC.get(name)
    if any(_otherwise(a) for a in arguments):
        raise ModelError(f"its code computes with text that is not ASCII, or with numbers that are none ({name}), which is not read")
    if function is None:
        raise ModelError(f"operator {name} is not supported on values that are no tensors")
    try:
        return bounded(function(*arguments))
    except (ArithmeticError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise RaisedError(f"its code cannot be computed ({name}: {error})") from error
