"""TorchScript's operators as Python calls: arithmetic on sizes stays arithmetic, so that a free batch stays free; the rest is torch's."""

import math
from typing import Any

import torch
from torch import Tensor

from banscan.errors import ModelError
from banscan.importers.pytorch import language, operators
from banscan.importers.pytorch.dtypes import Types
from banscan.importers.pytorch.special import SPECIAL, aten

# of a tensor, images of all that a batch holds apart; and of one that no image has a part in
ACTIVATION, CONSTANT = 1 << 28, 1 << 26
# arguments that say where and how a result is stored, which is decided here
PLACEMENT = frozenset({"device", "pin_memory", "layout", "memory_format", "non_blocking"})
SILENT = frozenset({"aten::warn", "aten::_assert_async", "aten::_assert_tensor_metadata", "aten::_assert_scalar", "prim::SetAttr"})
# operators that give what they are given: a network that is read has no dropout, no layout in memory and no device
SAME = frozenset(
    {
        "aten::dropout",
        "aten::feature_dropout",
        "aten::alpha_dropout",
        "aten::feature_alpha_dropout",
        "aten::detach",
        "aten::contiguous",
        "aten::cpu",
        "aten::alias",
        "aten::lift_fresh",
        "aten::local_value",
        "aten::resolve_conj",
        "aten::resolve_neg",
        "prim::data",
        "prim::unchecked_cast",
        "prim::unchecked_unwrap_optional",
        "aten::_unwrap_optional",
    }
)
CASTS = {
    "aten::_cast_Float": torch.float32,
    "aten::_cast_Half": torch.float16,
    "aten::_cast_Double": torch.float64,
    "aten::_cast_Int": torch.int32,
    "aten::_cast_Long": torch.int64,
}
# what hands on a value that is not computed here
CARRYING = SILENT | {
    "prim::TupleConstruct",
    "prim::ListConstruct",
    "aten::__is__",
    "aten::__isnot__",
    "aten::format",
    "aten::str",
    "aten::add",
}
CASTING = frozenset({"aten::to", "aten::type_as", "aten::_to_copy", *CASTS})
# what asks for the type of a tensor
ASKING = frozenset(
    {"prim::dtype", "prim::itemsize", "aten::element_size", "aten::is_floating_point", "aten::result_type", "aten::can_cast"}
)
# what asks for the values of a tensor
VALUES = frozenset(
    f"aten::{name}"
    for name in [
        "Bool",
        "Int",
        "Float",
        "IntImplicit",
        "FloatImplicit",
        "ScalarImplicit",
        "item",
        "_local_scalar_dense",
        "is_nonzero",
        "equal",
        "allclose",
    ]
) | {"prim::tolist"}


def _to(given: dict[str, Any], types: Types) -> Any:
    """Whatever its overload: to a type, to that of another tensor, to a device, which changes nothing here."""
    x, other = given["self"] if "self" in given else given["a"], given.get("other", given.get("b"))
    dtype = other.dtype if isinstance(other, Tensor) else given.get("dtype")
    result = x if dtype is None else types.cast(x, dtype)
    return x.clone() if result is x and isinstance(x, Tensor) and given.get("copy") is True else result


def call(name: str, arguments: list[Any], names: list[str], types: Types) -> Any:
    """One operator, "aten::add.Tensor" or "prim::min", on values; `names` are those of its arguments, `types` say how numbers are held.

    Raises:
        ModelError: it is not known, needs what a traced graph cannot hold, or makes more values than a classifier needs.
    """
    plain, _, overload = name.partition(".")
    if in_place(plain):
        if isinstance(arguments[0], list | dict):
            return language.calculate(plain, arguments)
        # a graph in which nothing is written in place is the same for all later steps
        plain = plain[:-1]
    if plain not in CARRYING:
        language.check_read(arguments)
    if plain in SAME:
        check_dropout(plain, dict(zip(names, arguments, strict=False)))
        return arguments[0]
    if plain in SILENT:
        return None
    if plain in CASTS:
        return types.cast(arguments[0], CASTS[plain])
    if plain in ("aten::to", "aten::type_as"):
        return _to(dict(zip(names, arguments, strict=False)), types)
    if plain == "prim::dtype":
        return types.number(arguments[0])
    if plain in SPECIAL:
        return bounded(SPECIAL[plain](*arguments))
    if plain == "aten::len" and isinstance(arguments[0], Tensor):
        return arguments[0].shape[0]
    if plain in ("aten::tensor", "aten::as_tensor", "aten::scalar_tensor"):
        return _tensor(arguments[0], dict(zip(names, arguments, strict=False)).get("dtype"), types)
    tensors = any(any_tensor(a) for a in arguments)
    if tensors and plain in VALUES:
        raise ModelError(language.PIXELS)
    if not tensors and (plain in language.KNOWN or plain in language.ARITHMETIC or not plain.startswith("aten::")):
        return language.calculate(plain, arguments)
    if plain in LISTS and isinstance(arguments[0], list | dict | tuple):
        return language.calculate(plain, arguments)
    return bounded(_torch(plain, overload, dict(zip(names, arguments, strict=False)), types))


# what lists and dictionaries of tensors are asked
LISTS = frozenset(
    f"aten::{name}"
    for name in [
        "len",
        "__getitem__",
        "append",
        "extend",
        "insert",
        "slice",
        "list",
        "copy",
        "pop",
        "reverse",
        "clear",
        "keys",
        "values",
        "items",
        "get",
        "_set_item",
        "add",
        "mul",
    ]
) | {"prim::min", "prim::max"}


def any_tensor(value: Any) -> bool:
    """Whether a value is a tensor, or a list with one."""
    return isinstance(value, Tensor) or (isinstance(value, list | tuple) and any(isinstance(v, Tensor) for v in value))


def check_dropout(plain: str, given: dict[str, Any]) -> None:
    """Dropout that is on belongs to training: the runtime would draw random numbers."""
    if plain.endswith("dropout") and given.get("train", given.get("training")) is True and given.get("p") not in (0, None):
        raise ModelError("it was saved with Dropout in training mode, so that its answers are random; save it after model.eval()")


def _tensor(value: Any, dtype: Any, types: Types) -> Any:
    """A number stays one, so that sizes stay free; a list becomes a tensor."""
    if not isinstance(value, list):
        return value if dtype is None or isinstance(value, Tensor) or language.symbolic(value) else types.cast(value, dtype)
    if any_tensor(value):
        return torch.stack([v if isinstance(v, Tensor) else torch.tensor(v) for v in value])
    if language.symbolic(value):
        raise ModelError(language.BATCH)
    made = torch.tensor(value)
    return made if dtype is None else types.cast(made, dtype)


def _torch(plain: str, overload: str, given: dict[str, Any], types: Types) -> Any:
    """An operator of torch's own, its arguments bound by name."""
    packet = plain.removeprefix("aten::")
    if packet in operators.RANDOM:
        raise ModelError(f"its answers are random ({plain}); save it after model.eval()")
    if not plain.startswith("aten::") or not operators.computes(packet):
        raise ModelError(f"operator {plain} is not supported")
    target = aten(f"{packet}.{overload}", f"{packet}.default")
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for argument in target._schema.arguments:
        if argument.name in PLACEMENT or argument.name not in given:
            continue
        value = given[argument.name]
        if argument.name == "dtype" and value is not None:
            value = types.held(value)
        elif "Tensor" in str(argument.type) and (isinstance(value, bool | int | float) or language.symbolic(value)):
            value = _tensors(value)
        named[argument.name] = value
    # positional as far as that goes, as graphs are usually written
    for argument in target._schema.arguments:
        if argument.kwarg_only or argument.name not in named:
            break
        positional.append(named.pop(argument.name))
    result = target(*positional, **named)
    asked = given.get("dtype")
    return result if asked is None or not isinstance(result, Tensor) else types.rounded(result, asked)


def _tensors(value: Any) -> Any:
    if isinstance(value, bool | int | float):
        return torch.tensor(value)
    return [_tensors(v) for v in value] if isinstance(value, list | tuple) else value


def bounded(result: Any) -> Any:
    """The result, if no tensor of it is larger than a classifier needs."""
    for part in result if isinstance(result, list | tuple) else (result,):
        if isinstance(part, Tensor):
            known = math.prod(s for s in part.shape if isinstance(s, int))
            free = any(not isinstance(s, int) for s in part.shape)
            if known > (ACTIVATION if free or part.dim() > 2 else CONSTANT):
                raise ModelError(f"its code makes a tensor of {known:,} values; the file is damaged or hostile")
            if part.is_complex():
                raise ModelError("its code computes with complex numbers, which is not read")
    return result


def in_place(name: str) -> bool:
    """Whether an operator writes its result into its first argument."""
    plain = name.partition(".")[0]
    packet = plain.removeprefix("aten::")
    return plain.startswith("aten::") and packet.endswith("_") and not packet.endswith("__") and packet not in operators.ALLOWED
