"""Operators that are not torch's own under the same name and arguments: fused ones, what code asks of a tensor, TorchScript's own."""

import operator
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from banscan.errors import ModelError
from banscan.importers.pytorch import transformer
from banscan.importers.pytorch.language import Held, HeldDict, Unread

Operation = Callable[..., Any]
# what normalisations give beside their result
STATISTICS = Unread("reads the statistics of a normalisation")


def aten(name: str, otherwise: str = "") -> Any:
    for wanted in (name, otherwise):
        packet, _, overload = wanted.partition(".")
        found = getattr(getattr(torch.ops.aten, packet, None), overload or "default", None)
        if found is not None:
            return cast(Any, found)
    raise ModelError(f"operator aten::{name} is not known to PyTorch {torch.__version__}")


def _sizes(x: Tensor, dim: int | None = None) -> Any:
    return list(x.shape) if dim is None else x.shape[dim]


def _convolution(
    x: Tensor, w: Tensor, b: Any, stride: Any, padding: Any, dilation: Any, transposed: bool, out: Any, groups: int, *_: Any
) -> Any:
    """As the plain operator of its dimension, which every later step knows."""
    dims = w.dim() - 2
    if transposed:
        name = f"conv_transpose{dims}d" + (".input" if dims > 1 else "")
        return aten(name)(x, w, b, stride, padding, out, groups, dilation)
    return aten(f"conv{dims}d")(x, w, b, stride, padding, dilation, groups)


def _batch_norm(x: Tensor, w: Any, b: Any, mean: Any, var: Any, training: bool, momentum: float, eps: float, *_: Any) -> Any:
    return aten("batch_norm")(x, w, b, mean, var, training or mean is None or var is None, momentum, eps, False)


def _batch_norms(x: Tensor, w: Any, b: Any, mean: Any, var: Any, training: bool, momentum: float, eps: float, *_: Any) -> Any:
    """With what only training reads behind it."""
    return (_batch_norm(x, w, b, mean, var, training, momentum, eps), *[STATISTICS] * 4)


def _no_training(x: Tensor, w: Any, b: Any, mean: Any, var: Any, momentum: float, eps: float) -> Any:
    return (_batch_norm(x, w, b, mean, var, False, momentum, eps), STATISTICS, STATISTICS)


def _layer_norm(x: Tensor, shape: Any, w: Any, b: Any, eps: float) -> Any:
    return (aten("layer_norm")(x, shape, w, b, eps), STATISTICS, STATISTICS)


def _group_norm(x: Tensor, w: Any, b: Any, n: Any, c: Any, area: Any, groups: int, eps: float) -> Any:
    return (aten("group_norm")(x, groups, w, b, eps), STATISTICS, STATISTICS)


def _view(x: Tensor, shape: Any) -> Any:
    """Copies where it must: the layout in memory is not what it was in the file's own runtime."""
    if not isinstance(shape, list):
        raise ModelError("its code reads the bits of numbers as numbers of another type, which is not read")
    return aten("reshape")(x, shape)


def _max_pool(x: Tensor, *arguments: Any) -> Any:
    """With indices, which a classifier does not read."""
    return (aten("max_pool2d")(x, *arguments), Unread("reads where in a window a maximum lies"))


def _refused(what: str) -> Callable[..., Any]:
    """For what cannot be answered as the file's own runtime does."""

    def refuse(*_: Any) -> Any:
        raise ModelError(f"its code {what}, which is not read")

    return refuse


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
    "aten::native_dropout": lambda x, *_: (x, Unread("reads what a Dropout drops")),
    "aten::view": _view,
    "aten::_unsafe_view": _view,
    "aten::_reshape_alias": lambda x, shape, strides: _view(x, shape),
    "aten::expand_copy": lambda x, shape, implicit=False: x.expand(shape),
    "aten::_softmax": lambda x, dim, half: torch.softmax(x, dim),
    "aten::_safe_softmax": lambda x, dim, dtype=None: torch.softmax(x, dim),
    "aten::_log_softmax": lambda x, dim, half: torch.log_softmax(x, dim),
    "aten::_prelu_kernel": lambda x, w: aten("prelu")(x, w),
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
    "aten::is_contiguous": _refused("asks how a tensor lies in memory"),
    "aten::as_strided": _refused("takes a tensor apart as it lies in memory"),
    **{f"aten::{name}": _refused("makes a tensor without setting its values") for name in ("empty", "empty_like", "new_empty")},
    "aten::is_scripting": lambda: True,
    "aten::_get_tracing_state": lambda: False,
    "aten::is_grad_enabled": lambda: False,
    "aten::is_autocast_enabled": lambda *_: False,
    "aten::is_autocast_cpu_enabled": lambda: False,
    "aten::has_torch_function": lambda *_: False,
    "aten::device": lambda text: text,
    "aten::_list_to_tensor": lambda values: values,
    "prim::ListConstruct": lambda *values: list(values),
    "prim::HeldListConstruct": lambda *values: Held(values),
    "prim::HeldDictConstruct": lambda *pairs: HeldDict(zip(pairs[::2], pairs[1::2], strict=True)),
    "prim::TupleConstruct": lambda *values: tuple(values),
    "prim::TupleIndex": lambda values, i: values[i],
    "prim::DictConstruct": lambda *pairs: dict(zip(pairs[::2], pairs[1::2], strict=True)),
    "prim::device": lambda x: "cpu",
    "prim::type": lambda x: "cpu",
    "prim::layout": lambda x: 0,
    "prim::is_cpu": lambda x: True,
    "prim::Uninitialized": lambda: None,
    **{f"prim::is_{kind}": lambda x: False for kind in ("cuda", "mps", "xpu", "xla", "meta", "mkldnn", "quantized", "sparse", "nested")},
}
