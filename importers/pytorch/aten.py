"""TorchScript's operators as Python calls: arithmetic on sizes stays arithmetic, so that a free batch stays free; the rest is torch's."""

import math
import operator
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from banscan.errors import ModelError
from banscan.importers.pytorch import language, operators, transformer

Operation = Callable[..., Any]

# in the order of TorchScript's numbering
DTYPES = (
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.float32,
    torch.float64,
    torch.complex32,
    torch.complex64,
    torch.complex128,
    torch.bool,
    torch.qint8,
    torch.quint8,
    torch.qint32,
    torch.bfloat16,
)
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


def reduced(dtype: torch.dtype) -> torch.dtype:
    """The type that stands for one: all floating-point numbers are float32 here."""
    if dtype.is_complex or dtype in (torch.qint8, torch.quint8, torch.qint32):
        raise ModelError(f"its code computes with {str(dtype).removeprefix('torch.')}, which is not read")
    return torch.float32 if dtype.is_floating_point else dtype


def number(dtype: torch.dtype) -> int:
    """TorchScript's number of a type."""
    return DTYPES.index(dtype)


def _typed(value: Any) -> torch.dtype:
    return reduced(value if isinstance(value, torch.dtype) else DTYPES[value])


def cast_to(x: Any, dtype: Any) -> Any:
    """A tensor or number in another type; nothing where it has that already."""
    wanted = _typed(dtype)
    if isinstance(x, Tensor):
        return x if x.dtype == wanted else x.to(wanted)
    if not isinstance(x, bool | int | float) or wanted.is_floating_point:
        return x
    return bool(x) if wanted == torch.bool else math.trunc(x)


def _to(given: dict[str, Any]) -> Any:
    """Whatever its overload: to a type, to that of another tensor, to a device, which changes nothing here."""
    x, other = given["self"] if "self" in given else given["a"], given.get("other", given.get("b"))
    if isinstance(other, Tensor):
        return cast_to(x, other.dtype)
    dtype = given.get("dtype")
    return x if dtype is None else cast_to(x, dtype)


def _sizes(x: Tensor, dim: int | None = None) -> Any:
    return list(x.shape) if dim is None else x.shape[dim]


def _convolution(
    x: Tensor, w: Tensor, b: Any, stride: Any, padding: Any, dilation: Any, transposed: bool, out: Any, groups: int, *_: Any
) -> Any:
    """As the plain operator of its dimension, which every later step knows."""
    dims = w.dim() - 2
    if transposed:
        name = f"conv_transpose{dims}d" + (".input" if dims > 1 else "")
        return _aten(name)(x, w, b, stride, padding, out, groups, dilation)
    return _aten(f"conv{dims}d")(x, w, b, stride, padding, dilation, groups)


def _batch_norm(x: Tensor, w: Any, b: Any, mean: Any, var: Any, training: bool, momentum: float, eps: float, *_: Any) -> Any:
    return _aten("batch_norm")(x, w, b, mean, var, training or mean is None or var is None, momentum, eps, False)


def _batch_norms(x: Tensor, w: Any, b: Any, mean: Any, var: Any, training: bool, momentum: float, eps: float, *_: Any) -> Any:
    """With what only training reads behind it."""
    return (_batch_norm(x, w, b, mean, var, training, momentum, eps), x.new_empty(0), x.new_empty(0), x.new_empty(0), 0)


def _no_training(x: Tensor, w: Any, b: Any, mean: Any, var: Any, momentum: float, eps: float) -> Any:
    return (_batch_norm(x, w, b, mean, var, False, momentum, eps), x.new_empty(0), x.new_empty(0))


def _layer_norm(x: Tensor, shape: Any, w: Any, b: Any, eps: float) -> Any:
    return (_aten("layer_norm")(x, shape, w, b, eps), x.new_empty(0), x.new_empty(0))


def _group_norm(x: Tensor, w: Any, b: Any, n: Any, c: Any, area: Any, groups: int, eps: float) -> Any:
    return (_aten("group_norm")(x, groups, w, b, eps), x.new_empty(0), x.new_empty(0))


def _view(x: Tensor, shape: Any) -> Any:
    """Copies where it must: the layout in memory is not what it was in the file's own runtime."""
    return _aten("reshape")(x, shape) if isinstance(shape, list) else cast_to(x, shape)


def _max_pool(x: Tensor, *arguments: Any) -> Any:
    """With indices, which a classifier does not read."""
    return (_aten("max_pool2d")(x, *arguments), x.new_empty(0, dtype=torch.int64))


# by argument; whatever the arguments are
SPECIAL: dict[str, Operation] = {
    "aten::_convolution": _convolution,
    "aten::convolution": _convolution,
    "aten::mkldnn_convolution": lambda x, w, b, padding, stride, dilation, groups: _convolution(
        x, w, b, stride, padding, dilation, False, None, groups
    ),
    "aten::batch_norm": _batch_norm,
    "aten::_batch_norm_impl_index": _batch_norms,
    "aten::native_batch_norm": _batch_norms,
    "aten::_native_batch_norm_legit": _batch_norms,
    "aten::_native_batch_norm_legit_no_training": _no_training,
    "aten::native_layer_norm": _layer_norm,
    "aten::native_group_norm": _group_norm,
    "aten::max_pool2d_with_indices": _max_pool,
    "aten::_native_multi_head_attention": transformer.attention,
    "aten::_transformer_encoder_layer_fwd": transformer.layer,
    "aten::native_dropout": lambda x, *_: (x, x.new_empty(0, dtype=torch.bool)),
    "aten::view": _view,
    "aten::_unsafe_view": _view,
    "aten::_reshape_alias": lambda x, shape, strides: _view(x, shape),
    "aten::expand_copy": lambda x, shape, implicit=False: x.expand(shape),
    "aten::_softmax": lambda x, dim, half: torch.softmax(x, dim),
    "aten::_safe_softmax": lambda x, dim, dtype=None: torch.softmax(x, dim),
    "aten::_log_softmax": lambda x, dim, half: torch.log_softmax(x, dim),
    "aten::_prelu_kernel": lambda x, w: _aten("prelu")(x, w),
    "aten::rrelu": lambda x, low=1 / 8, high=1 / 3, training=False, generator=None: torch.nn.functional.leaky_relu(x, (low + high) / 2),
    "aten::size": _sizes,
    "aten::sym_size": _sizes,
    "aten::_shape_as_tensor": lambda x: list(x.shape),
    "aten::dim": lambda x: x.dim(),
    "aten::numel": lambda x: x.numel() if isinstance(x, Tensor) else 1,
    "aten::sym_numel": lambda x: x.numel(),
    "aten::is_floating_point": lambda x: x.is_floating_point() if isinstance(x, Tensor) else isinstance(x, float),
    "aten::__is__": operator.is_,
    "aten::__isnot__": operator.is_not,
    "aten::is_complex": lambda x: False,
    "aten::is_contiguous": lambda x, *_: True,
    "aten::is_scripting": lambda: True,
    "aten::_get_tracing_state": lambda: False,
    "aten::is_grad_enabled": lambda: False,
    "aten::is_autocast_enabled": lambda *_: False,
    "aten::is_autocast_cpu_enabled": lambda: False,
    "aten::has_torch_function": lambda *_: False,
    "aten::device": lambda text: text,
    "aten::_list_to_tensor": lambda values: values,
    "prim::ListConstruct": lambda *values: list(values),
    "prim::TupleConstruct": lambda *values: tuple(values),
    "prim::TupleIndex": lambda values, i: values[i],
    "prim::DictConstruct": lambda *pairs: dict(zip(pairs[::2], pairs[1::2], strict=True)),
    "prim::dtype": lambda x: number(x.dtype) if isinstance(x, Tensor) else number(torch.int64 if isinstance(x, int) else torch.float32),
    "prim::device": lambda x: "cpu",
    "prim::type": lambda x: "cpu",
    "prim::layout": lambda x: 0,
    "prim::is_cpu": lambda x: True,
    "prim::Uninitialized": lambda: None,
    **{f"prim::is_{kind}": lambda x: False for kind in ("cuda", "mps", "xpu", "xla", "meta", "mkldnn", "quantized", "sparse", "nested")},
}


def call(name: str, arguments: list[Any], names: list[str]) -> Any:
    """One operator, "aten::add.Tensor" or "prim::min", on values; `names` are those of its arguments.

    Raises:
        ModelError: it is not known, needs what a traced graph cannot hold, or makes more values than a classifier needs.
    """
    plain, _, overload = name.partition(".")
    if in_place(plain):
        # a graph in which nothing is written in place is the same for all later steps
        plain = plain[:-1]
    if plain in SAME:
        check_dropout(plain, dict(zip(names, arguments, strict=False)))
        return arguments[0]
    if plain in SILENT:
        return None
    if plain == "aten::to":
        return _to(dict(zip(names, arguments, strict=False)))
    if plain in SPECIAL:
        return bounded(SPECIAL[plain](*arguments))
    if plain == "aten::len" and isinstance(arguments[0], Tensor):
        return arguments[0].shape[0]
    if plain in ("aten::tensor", "aten::as_tensor", "aten::scalar_tensor"):
        return _tensor(arguments[0], dict(zip(names, arguments, strict=False)).get("dtype"))
    tensors = any(_is_tensor(a) for a in arguments)
    if tensors and plain in VALUES:
        raise ModelError(language.PIXELS)
    if not tensors and (plain in language.KNOWN or plain in language.ARITHMETIC or not plain.startswith("aten::")):
        return language.calculate(plain, arguments)
    if plain in LISTS and isinstance(arguments[0], list | dict | tuple):
        return language.calculate(plain, arguments)
    return bounded(_torch(plain, overload, dict(zip(names, arguments, strict=False))))


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


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor) or (isinstance(value, list | tuple) and any(isinstance(v, Tensor) for v in value))


def check_dropout(plain: str, given: dict[str, Any]) -> None:
    """Dropout that is on belongs to training: the runtime would draw random numbers."""
    if plain.endswith("dropout") and given.get("train", given.get("training")) is True and given.get("p") not in (0, None):
        raise ModelError("it was saved with Dropout in training mode, so that its answers are random; save it after model.eval()")


def _tensor(value: Any, dtype: Any) -> Any:
    """A number stays one, so that sizes stay free; a list becomes a tensor."""
    if not isinstance(value, list):
        return value if dtype is None or isinstance(value, Tensor) or language.symbolic(value) else cast_to(value, dtype)
    if _is_tensor(value):
        return torch.stack([v if isinstance(v, Tensor) else torch.tensor(v) for v in value])
    if language.symbolic(value):
        raise ModelError(language.BATCH)
    made = torch.tensor(value)
    return cast_to(made, made.dtype if dtype is None else dtype)


def _torch(plain: str, overload: str, given: dict[str, Any]) -> Any:
    """An operator of torch's own, its arguments bound by name."""
    packet = plain.removeprefix("aten::")
    if packet in operators.RANDOM:
        raise ModelError(f"its answers are random ({plain}); save it after model.eval()")
    if not plain.startswith("aten::") or not operators.computes(packet):
        raise ModelError(f"operator {plain} is not supported")
    target = _aten(f"{packet}.{overload}", f"{packet}.default")
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for argument in target._schema.arguments:
        if argument.name in PLACEMENT or argument.name not in given:
            continue
        value = given[argument.name]
        if argument.name == "dtype" and value is not None:
            value = _typed(value)
        elif "Tensor" in str(argument.type) and (isinstance(value, bool | int | float) or language.symbolic(value)):
            value = _tensors(value)
        named[argument.name] = value
    # positional as far as that goes, as graphs are usually written
    for argument in target._schema.arguments:
        if argument.kwarg_only or argument.name not in named:
            break
        positional.append(named.pop(argument.name))
    return target(*positional, **named)


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


def _aten(name: str, otherwise: str = "") -> Any:
    for wanted in (name, otherwise):
        packet, _, overload = wanted.partition(".")
        found = getattr(getattr(torch.ops.aten, packet, None), overload or "default", None)
        if found is not None:
            return cast(Any, found)
    raise ModelError(f"operator aten::{name} is not known to PyTorch {torch.__version__}")
