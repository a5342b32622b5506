"""ONNX operators as torch calls.

Values are tensors, or numpy arrays for integers that are known while tracing: shapes and what is computed from them. Such an array
has dtype object where it holds symbolic integers, so that chains like Shape, Gather, Concat, Reshape never become data-dependent.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.errors import ModelError

Operator = Callable[..., Any]
OPERATORS: dict[str, Operator] = {}
LARGEST_TABLE = 1 << 24


@dataclass(frozen=True)
class Call:
    """One node: its attributes, the opset version of its domain and how many outputs are used."""

    op: str
    name: str
    attributes: dict[str, Any]
    version: int
    outputs: int
    constant: tuple[bool, ...] = ()  # which inputs are known before any image is seen
    batch: int | None = None  # the batch size that the file fixes, if it does

    def get(self, key: str, default: Any = None) -> Any:
        return self.attributes.get(key, default)

    def unsupported(self, what: str) -> ModelError:
        return ModelError(f"operator {self.op} ({self.name}): {what} is not supported")


def operator(*names: str) -> Callable[[Operator], Operator]:
    def register(function: Operator) -> Operator:
        for name in names:
            OPERATORS[name] = function
        return function

    return register


def is_static(*values: Any) -> bool:
    return all(value is None or isinstance(value, np.ndarray) for value in values)


def tensor(value: Any) -> Tensor:
    """A value as a tensor; symbolic integers are stacked."""
    if isinstance(value, Tensor):
        return value
    if value.dtype == object:
        if not value.size:
            return torch.zeros(value.shape, dtype=torch.int64)
        return torch.stack([torch.scalar_tensor(e, dtype=torch.int64) for e in value.ravel()]).reshape(value.shape)
    return torch.from_numpy(np.array(value))


def integers(call: Call, value: Any) -> list[Any]:
    """A shape, axes or pads value as a list of (symbolic) integers."""
    if isinstance(value, Tensor):
        raise call.unsupported("a shape or axis computed from the pixels")
    return [e if isinstance(e, torch.SymInt) else int(e) for e in np.asarray(value).ravel()]


def check_table(call: Call, count: float) -> None:
    """Raises ModelError for more known integers than arithmetic on shapes needs; a hostile file could ask for all memory."""
    if not count <= LARGEST_TABLE:
        raise call.unsupported(f"a table of {count:,.0f} values")


def axes_of(call: Call, given: Any) -> list[int] | None:
    if given is not None:
        return integers(call, given)
    axes = call.get("axes")
    return None if axes is None else list(axes)


# --- convolution and linear ---------------------------------------------------------------------------------------------------


def pads_of(call: Call, x: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> tuple[list[int], list[int]]:
    """Padding before and after each spatial axis, from `pads` or `auto_pad`."""
    mode, count = call.get("auto_pad", "NOTSET"), len(kernel)
    if mode in ("NOTSET", ""):
        pads = call.get("pads") or [0] * 2 * count
        return list(pads[:count]), list(pads[count:])
    if mode == "VALID":
        return [0] * count, [0] * count
    before, after = [], []
    for i in range(count):
        size = x.shape[2 + i]
        total = max(0, (-(-size // stride[i]) - 1) * stride[i] + (kernel[i] - 1) * dilation[i] + 1 - size)
        low = total // 2 if mode == "SAME_UPPER" else total - total // 2
        before.append(low)
        after.append(total - low)
    return before, after


def pad(x: Tensor, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> Tensor:
    return F.pad(x, [p for pair in zip(reversed(before), reversed(after), strict=True) for p in pair], value=value)


@operator("Conv")
def conv(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    rank = weight.dim() - 2
    stride, dilation = call.get("strides") or [1] * rank, call.get("dilations") or [1] * rank
    before, after = pads_of(call, x, weight.shape[2:], stride, dilation)
    if before != after:
        x, before = pad(x, before, after), [0] * rank
    function: Any = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    return function(x, weight, bias, stride, before, dilation, call.get("group", 1))


@operator("ConvTranspose")
def conv_transpose(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    rank = weight.dim() - 2
    if call.get("output_shape") or call.get("auto_pad", "NOTSET").startswith("SAME"):
        raise call.unsupported("output_shape or automatic padding")
    pads = call.get("pads") or [0] * 2 * rank
    if pads[:rank] != pads[rank:]:
        raise call.unsupported("asymmetric padding")
    stride, dilation = call.get("strides") or [1] * rank, call.get("dilations") or [1] * rank
    extra = call.get("output_padding") or [0] * rank
    function: Any = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    return function(x, weight, bias, stride, pads[:rank], extra, call.get("group", 1), dilation)


@operator("Gemm")
def gemm(call: Call, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    a = a.t() if call.get("transA", 0) else a
    weight = b if call.get("transB", 0) else b.t()
    if call.get("alpha", 1.0) != 1:
        weight = weight * call.get("alpha")
    if c is not None and call.get("beta", 1.0) != 1:
        c = c * call.get("beta")
    if c is None or (c.dim() == 1 and c.shape[0] == weight.shape[0]):
        return F.linear(a, weight, c)
    return F.linear(a, weight) + c


@operator("MatMul")
def matmul(call: Call, a: Tensor, b: Tensor) -> Tensor:
    # a constant matrix on the right is a linear layer, which is what neurons are looked for as
    if call.constant[1] and b.dim() == 2:
        return F.linear(a, b.t())
    return torch.matmul(a, b)


# --- normalisation ------------------------------------------------------------------------------------------------------------


@operator("BatchNormalization")
def batch_norm(call: Call, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    if call.get("training_mode", 0):
        raise call.unsupported("training mode")
    if call.version < 9 and call.get("spatial", 1) == 0:
        raise call.unsupported("spatial = 0")
    return F.batch_norm(x, mean, var, weight, bias, False, 0.0, call.get("epsilon", 1e-5))


@operator("InstanceNormalization")
def instance_norm(call: Call, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.instance_norm(x, None, None, weight, bias, True, 0.0, call.get("epsilon", 1e-5))


@operator("LayerNormalization")
def layer_norm(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    shape = x.shape[call.get("axis", -1) % x.dim() :]
    if weight.shape == shape and (bias is None or bias.shape == shape):
        return F.layer_norm(x, list(shape), weight, bias, call.get("epsilon", 1e-5))
    y = F.layer_norm(x, list(shape), None, None, call.get("epsilon", 1e-5)) * weight
    return y if bias is None else y + bias


@operator("GroupNormalization")
def group_norm(call: Call, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    groups = call.get("num_groups")
    if weight.shape[0] == groups != x.shape[1]:
        weight, bias = (p.repeat_interleave(x.shape[1] // groups) for p in (weight, bias))
    return F.group_norm(x, groups, weight, bias, call.get("epsilon", 1e-5))


@operator("LRN")
def local_response_norm(call: Call, x: Tensor) -> Tensor:
    return F.local_response_norm(x, call.get("size"), call.get("alpha", 1e-4), call.get("beta", 0.75), call.get("bias", 1.0))


# --- activations and arithmetic -----------------------------------------------------------------------------------------------

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Relu": F.relu,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Log": torch.log,
    "Sqrt": torch.sqrt,
    "Reciprocal": torch.reciprocal,
    "Floor": torch.floor,
    "Ceil": torch.ceil,
    "Round": torch.round,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Cos": torch.cos,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "Mish": F.mish,
    "HardSwish": F.hardswish,
    "Not": torch.logical_not,
}
for _name, _function in _UNARY.items():
    OPERATORS[_name] = lambda call, x, function=_function: function(tensor(x))


@operator("LeakyRelu")
def leaky_relu(call: Call, x: Tensor) -> Tensor:
    return F.leaky_relu(x, call.get("alpha", 0.01))


@operator("Elu")
def elu(call: Call, x: Tensor) -> Tensor:
    return F.elu(x, call.get("alpha", 1.0))


@operator("Selu")
def selu(call: Call, x: Tensor) -> Tensor:
    return F.selu(x)


@operator("Celu")
def celu(call: Call, x: Tensor) -> Tensor:
    return F.celu(x, call.get("alpha", 1.0))


@operator("HardSigmoid")
def hard_sigmoid(call: Call, x: Tensor) -> Tensor:
    return torch.clamp(x * call.get("alpha", 0.2) + call.get("beta", 0.5), 0.0, 1.0)


@operator("Gelu")
def gelu(call: Call, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=call.get("approximate", "none"))


@operator("Swish")
def swish(call: Call, x: Tensor) -> Tensor:
    return x * torch.sigmoid(x * call.get("alpha", 1.0))


@operator("PRelu")
def prelu(call: Call, x: Tensor, slope: Tensor) -> Tensor:
    return torch.where(x < 0, x * slope, x)


@operator("Softmax", "LogSoftmax")
def softmax(call: Call, x: Tensor) -> Tensor:
    function = F.softmax if call.op == "Softmax" else F.log_softmax
    if call.version >= 13:
        return function(x, call.get("axis", -1))
    axis = call.get("axis", 1) % x.dim()
    return function(x, -1) if axis == x.dim() - 1 else function(x.flatten(axis), -1).reshape(x.shape)


def _divide(a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def _divide_static(a: Any, b: Any) -> Any:
    # shapes are never negative, so floor division is ONNX's truncation
    return a // b if a.dtype.kind in "iuO" else a / b


_BINARY: dict[str, tuple[Callable[..., Tensor], Callable[..., Any]]] = {
    "Add": (torch.add, np.add),
    "Sub": (torch.sub, np.subtract),
    "Mul": (torch.mul, np.multiply),
    "Div": (_divide, _divide_static),
    "Mod": (torch.remainder, np.mod),
    "Equal": (torch.eq, np.equal),
    "Greater": (torch.gt, np.greater),
    "Less": (torch.lt, np.less),
    "GreaterOrEqual": (torch.ge, np.greater_equal),
    "LessOrEqual": (torch.le, np.less_equal),
    "And": (torch.logical_and, np.logical_and),
    "Or": (torch.logical_or, np.logical_or),
}


@operator(*_BINARY)
def binary(call: Call, a: Any, b: Any) -> Any:
    on_tensors, on_static = _BINARY[call.op]
    if is_static(a, b):
        return np.asarray(on_static(a, b))
    # a scalar stays a scalar: it takes the other side's dtype and device
    if isinstance(b, np.ndarray) and b.size == 1 and b.ndim <= a.dim():
        return on_tensors(a, b.item()) if call.op != "Div" else a / b.item() if a.is_floating_point() else _divide(a, tensor(b))
    if isinstance(a, np.ndarray) and a.size == 1 and call.op in ("Add", "Mul"):
        return on_tensors(b, a.item())
    return on_tensors(tensor(a), tensor(b))


@operator("Pow")
def power(call: Call, a: Any, b: Any) -> Tensor:
    exponent = b.item() if isinstance(b, np.ndarray) and b.size == 1 else tensor(b)
    return torch.pow(tensor(a), exponent)


@operator("Sum", "Max", "Min", "Mean")
def variadic(call: Call, *values: Any) -> Any:
    functions: dict[str, Any] = {"Sum": torch.add, "Mean": torch.add, "Max": torch.maximum, "Min": torch.minimum}
    total = tensor(values[0])
    for value in values[1:]:
        total = functions[call.op](total, tensor(value))
    return total / len(values) if call.op == "Mean" else total


@operator("Neg", "Abs")
def sign(call: Call, x: Any) -> Any:
    return -x if call.op == "Neg" else abs(x)


@operator("Clip")
def clip(call: Call, x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    bounds = [call.get(key) if value is None else tensor(value).item() for key, value in (("min", low), ("max", high))]
    return x if bounds == [None, None] else torch.clamp(x, *bounds)


@operator("Cast")
def cast(call: Call, x: Any) -> Any:
    to = onnx.helper.tensor_dtype_to_np_dtype(call.get("to"))
    if isinstance(x, np.ndarray) and to.kind in "iub":
        return x if x.dtype == object else x.astype(to)
    if to.kind == "f" or to.name == "bfloat16":
        # the whole graph is computed in float32
        return tensor(x).float()
    return tensor(x).to(torch.from_numpy(np.zeros(0, to)).dtype)


@operator("ai.onnx.ml::Scaler")
def scaler(call: Call, x: Tensor) -> Tensor:
    """scikit-learn's StandardScaler."""
    offset, scale = (torch.tensor(call.get(key, [default]), dtype=torch.float32) for key, default in (("offset", 0.0), ("scale", 1.0)))
    return (x - offset) * scale


@operator("Identity", "Dropout")
def identity(call: Call, x: Any, *_: Any) -> Any:
    if call.outputs > 1:
        raise call.unsupported("a second output")
    return x


@operator("If")
def condition(call: Call, value: Any) -> bool:
    """Which branch; what runs it is the interpreter."""
    if not is_static(value):
        raise call.unsupported("a condition computed from the pixels")
    return bool(np.asarray(value).ravel()[0])


@operator("Where")
def where(call: Call, mask: Any, a: Any, b: Any) -> Any:
    if is_static(mask, a, b):
        return np.where(mask.astype(bool), a, b)
    return torch.where(tensor(mask), tensor(a), tensor(b))


# --- pooling and reductions ---------------------------------------------------------------------------------------------------


@operator("MaxPool", "AveragePool")
def pool(call: Call, x: Tensor) -> Any:
    kernel = list(call.get("kernel_shape"))
    rank = len(kernel)
    stride, dilation = call.get("strides") or [1] * rank, call.get("dilations") or [1] * rank
    ceil = bool(call.get("ceil_mode", 0))
    before, after = pads_of(call, x, kernel, stride, dilation)
    plain = before == after and all(2 * p <= k for p, k in zip(before, kernel, strict=True))
    if call.op == "MaxPool":
        if call.outputs > 1:
            raise call.unsupported("the Indices output")
        maximum: Any = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[rank - 1]
        if plain:
            return maximum(x, kernel, stride, before, dilation, ceil)
        return maximum(pad(x, before, after, float("-inf")), kernel, stride, 0, dilation, ceil)
    if any(d != 1 for d in dilation):
        raise call.unsupported("dilation")
    average: Any = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[rank - 1]
    counted = bool(call.get("count_include_pad", 0))
    if plain:
        return average(x, kernel, stride, before, ceil, counted)
    y = average(pad(x, before, after), kernel, stride, 0, ceil)
    if counted:
        return y
    share = average(pad(torch.ones_like(x[:1, :1]), before, after), kernel, stride, 0, ceil)
    return y / share


@operator("GlobalAveragePool", "GlobalMaxPool")
def global_pool(call: Call, x: Tensor) -> Any:
    axes = list(range(2, x.dim()))
    return x.mean(axes, keepdim=True) if call.op == "GlobalAveragePool" else x.amax(axes, keepdim=True)


_REDUCE: dict[str, tuple[Callable[..., Tensor], Callable[..., Any] | None]] = {
    "ReduceMean": (torch.mean, None),
    "ReduceSum": (torch.sum, np.sum),
    "ReduceMax": (torch.amax, np.max),
    "ReduceMin": (torch.amin, np.min),
    "ReduceProd": (lambda x, axes, keep: x.prod(axes[0], keep), np.prod),
    "ReduceL2": (lambda x, axes, keep: x.square().sum(axes, keep).sqrt(), None),
    "ReduceL1": (lambda x, axes, keep: x.abs().sum(axes, keep), None),
    "ReduceSumSquare": (lambda x, axes, keep: x.square().sum(axes, keep), None),
}


@operator(*_REDUCE)
def reduce(call: Call, x: Any, axes: Any = None) -> Any:
    on_tensors, on_static = _REDUCE[call.op]
    chosen, keep = axes_of(call, axes), bool(call.get("keepdims", 1))
    if is_static(x) and on_static is not None:
        return np.asarray(on_static(x, axis=tuple(chosen) if chosen else None, keepdims=keep))
    x = tensor(x)
    if not chosen:
        if call.get("noop_with_empty_axes", 0):
            return x
        chosen = list(range(x.dim()))
    if call.op == "ReduceProd" and len(chosen) > 1:
        raise call.unsupported("more than one axis")
    return on_tensors(x, chosen, keep)


@operator("ArgMax")
def argmax(call: Call, x: Tensor) -> Any:
    return x.argmax(call.get("axis", 0), keepdim=bool(call.get("keepdims", 1)))


@operator("Einsum")
def einsum(call: Call, *values: Tensor) -> Any:
    return torch.einsum(call.get("equation"), *values)


# --- shapes -------------------------------------------------------------------------------------------------------------------


@operator("Shape")
def shape(call: Call, x: Any) -> Any:
    sizes = list(x.shape)[slice(call.get("start", 0), call.get("end"))]
    symbolic = np.empty(len(sizes), dtype=object)
    symbolic[:] = sizes
    return symbolic if any(isinstance(e, torch.SymInt) for e in sizes) else symbolic.astype(np.int64)


@operator("Reshape")
def reshape(call: Call, x: Any, target: Any = None) -> Any:
    sizes = list(call.get("shape")) if target is None else integers(call, target)
    if is_static(x):
        return x.reshape([int(e) for e in sizes])
    if not call.get("allowzero", 0):
        sizes = [x.shape[i] if isinstance(e, int) and e == 0 else e for i, e in enumerate(sizes)]
    if isinstance(x.shape[0], torch.SymInt) and isinstance(sizes[0], int) and sizes[0] == call.batch:
        sizes[0] = x.shape[0]
    return x.reshape(sizes)


@operator("Flatten")
def flatten(call: Call, x: Tensor) -> Any:
    axis = call.get("axis", 1)
    axis = axis % x.dim() if axis < 0 else axis
    return x.flatten(1) if axis == 1 else x.reshape(math.prod(x.shape[:axis]), -1)


@operator("Transpose")
def transpose(call: Call, x: Any) -> Any:
    order = call.get("perm")
    if is_static(x):
        return np.transpose(x, order)
    return x.permute(order or list(range(x.dim()))[::-1])


@operator("Squeeze")
def squeeze(call: Call, x: Any, axes: Any = None) -> Any:
    chosen = axes_of(call, axes)
    if is_static(x):
        return np.squeeze(x, tuple(chosen) if chosen else None)
    return x.squeeze(chosen if chosen is not None else [i for i, size in enumerate(x.shape) if isinstance(size, int) and size == 1])


@operator("Unsqueeze")
def unsqueeze(call: Call, x: Any, axes: Any = None) -> Any:
    chosen = axes_of(call, axes) or []
    if is_static(x):
        return np.expand_dims(x, tuple(chosen))
    rank = x.dim() + len(chosen)
    for axis in sorted(a % rank for a in chosen):
        x = x.unsqueeze(axis)
    return x


@operator("Concat")
def concat(call: Call, *values: Any) -> Any:
    if is_static(*values):
        return np.concatenate([np.atleast_1d(v) for v in values], call.get("axis", 1))
    return torch.cat([tensor(v) for v in values], call.get("axis", 1))


@operator("Split")
def split(call: Call, x: Any, sizes: Any = None) -> Any:
    axis = call.get("axis", 0)
    parts = list(call.get("split") or []) if sizes is None else integers(call, sizes)
    if not parts:
        step = -(-x.shape[axis] // call.outputs)
        parts = [step] * (call.outputs - 1) + [x.shape[axis] - step * (call.outputs - 1)]
    if is_static(x):
        return tuple(np.split(x, np.cumsum(parts)[:-1], axis))
    return tuple(torch.split(x, parts, axis))


@operator("Slice")
def slice_(call: Call, x: Any, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None) -> Any:
    if starts is None:
        first, last, chosen = call.get("starts"), call.get("ends"), call.get("axes")
    else:
        first, last = integers(call, starts), integers(call, ends)
        chosen = None if axes is None else integers(call, axes)
    strides = [1] * len(first) if steps is None else integers(call, steps)
    index = [slice(None)] * x.ndim
    for start, end, axis, step in zip(first, last, chosen or range(len(first)), strides, strict=True):
        if step < 0:
            if is_static(x):
                index[axis] = slice(start, None if end < -(2**31) else end, step)
                continue
            if (start, step) != (-1, -1) or end > -(2**31):
                raise call.unsupported("a negative step that does not reverse a whole axis")
            x = x.flip(axis)
            continue
        index[axis] = slice(start, None if isinstance(end, int) and end >= 2**31 - 1 else end, step)
    return x[tuple(index)]


@operator("Gather")
def gather(call: Call, x: Any, index: Any) -> Any:
    axis = call.get("axis", 0)
    if is_static(x, index):
        return np.asarray(np.take(x, index.astype(np.int64), axis))
    x = tensor(x)
    if is_static(index) and index.ndim == 0:
        return x.select(axis, int(index))
    picked = tensor(index).long()
    picked = torch.where(picked < 0, picked + x.shape[axis], picked)
    axis %= x.dim()
    return x.index_select(axis, picked.reshape(-1)).reshape([*x.shape[:axis], *picked.shape, *x.shape[axis + 1 :]])


@operator("Expand")
def expand(call: Call, x: Any, target: Any) -> Any:
    x = tensor(x)
    sizes = integers(call, target)
    own = [1] * (len(sizes) - x.dim()) + list(x.shape)
    sizes = [1] * (len(own) - len(sizes)) + sizes
    return x.expand([a if isinstance(b, int) and b == 1 else b for a, b in zip(own, sizes, strict=True)])


@operator("Tile")
def tile(call: Call, x: Any, repeats: Any) -> Any:
    times = integers(call, repeats)
    if is_static(x):
        check_table(call, x.size * math.prod(float(t) for t in times))
        return np.tile(x, times)
    return x.repeat(times)


@operator("ConstantOfShape")
def constant_of_shape(call: Call, target: Any) -> Any:
    given = call.get("value")
    value = np.float32(0) if given is None else given.ravel()[0]
    sizes = integers(call, target)
    if value.dtype.kind in "iub" and all(isinstance(e, int) for e in sizes):
        check_table(call, math.prod(float(e) for e in sizes))
        return np.full(sizes, value)
    return torch.full(sizes, value.item(), dtype=torch.from_numpy(np.array(value)).dtype)


@operator("Range")
def range_(call: Call, start: Any, limit: Any, step: Any) -> Any:
    values = [v.item() if is_static(v) else v for v in (start, limit, step)]
    if not any(isinstance(v, torch.SymInt | Tensor) for v in values):
        check_table(call, (values[1] - values[0]) / values[2] if values[2] else math.inf)
        return np.arange(*values)
    return torch.arange(*values)


@operator("Pad")
def pad_(call: Call, x: Tensor, pads: Any = None, value: Any = None, axes: Any = None) -> Tensor:
    amounts = list(call.get("pads")) if pads is None else integers(call, pads)
    chosen = list(range(x.dim())) if axes is None else integers(call, axes)
    fill = float(call.get("value", 0.0) if value is None else tensor(value).item())
    sides: list[tuple[Any, Any]] = [(0, 0)] * x.dim()
    for i, axis in enumerate(chosen):
        sides[axis] = (amounts[i], amounts[len(chosen) + i])
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}[call.get("mode", "constant")]
    # torch counts axes from the last; the leading ones without padding are left out
    while len(sides) > 1 and sides[0] == (0, 0):
        sides.pop(0)
    flat = [p for pair in reversed(sides) for p in pair]
    return F.pad(x, flat, mode=mode, value=fill) if mode == "constant" else F.pad(x, flat, mode=mode)


@operator("DepthToSpace")
def depth_to_space(call: Call, x: Tensor) -> Tensor:
    block = call.get("blocksize")
    if call.get("mode", "DCR") == "CRD":
        return F.pixel_shuffle(x, block)
    n, c, h, w = x.shape
    y = x.reshape(n, block, block, c // block**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return y.reshape(n, c // block**2, h * block, w * block)


@operator("SpaceToDepth")
def space_to_depth(call: Call, x: Tensor) -> Tensor:
    block = call.get("blocksize")
    n, c, h, w = x.shape
    y = x.reshape(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4)
    return y.reshape(n, c * block**2, h // block, w // block)


@operator("Resize", "Upsample")
def resize(call: Call, x: Tensor, *rest: Any) -> Tensor:
    scales: Any = call.get("scales")
    sizes: list[int] | None = None
    factors: list[float] | None = None
    if len(rest) == 1:
        scales = rest[0]
    elif len(rest) > 1:
        scales, sizes = rest[1], None if len(rest) < 3 or rest[2] is None else integers(call, rest[2])[2:]
    if sizes is None:
        factors = [float(e) for e in np.asarray(scales.detach() if isinstance(scales, Tensor) else scales).ravel()]
        sizes = [math.floor(d * f) for d, f in zip(x.shape[2:], factors[2:], strict=True)]
    mode = call.get("mode", "nearest")
    where_ = call.get("coordinate_transformation_mode", "half_pixel" if call.version >= 11 else "asymmetric")
    rounding = call.get("nearest_mode", "round_prefer_floor" if call.version >= 11 else "floor")
    if mode == "nearest" and where_ == "asymmetric" and rounding == "floor":
        return F.interpolate(x, size=sizes, mode="nearest")
    kinds = {("linear", 4): "bilinear", ("linear", 3): "linear", ("cubic", 4): "bicubic"}
    if (mode, x.dim()) in kinds and where_ in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        return F.interpolate(x, size=sizes, mode=kinds[mode, x.dim()], align_corners=where_ == "align_corners")
    if mode not in ("nearest", "linear") or where_ not in COORDINATES or rounding not in ROUNDINGS or call.get("antialias"):
        raise call.unsupported(f"mode {mode} with {where_}{f' and {rounding}' if mode == 'nearest' else ''}")
    for axis, size in enumerate(sizes, 2):
        factor = size / int(x.shape[axis]) if factors is None else factors[axis]
        x = _resample(
            x, axis, COORDINATES[where_](np.arange(size), factor, int(x.shape[axis]), size), None if mode == "linear" else rounding
        )
    return x


# where a pixel of the result lies in the original: index, factor, size before, size after → coordinate
COORDINATES: dict[str, Callable[[np.ndarray, float, int, int], np.ndarray]] = {
    "asymmetric": lambda i, factor, before, after: i / factor,
    "half_pixel": lambda i, factor, before, after: (i + 0.5) / factor - 0.5,
    "pytorch_half_pixel": lambda i, factor, before, after: (i + 0.5) / factor - 0.5 if after > 1 else 0.0 * i,
    "align_corners": lambda i, factor, before, after: i * ((before - 1) / max(1, after - 1)),
}
ROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round_prefer_floor": lambda c: np.ceil(c - 0.5),
    "round_prefer_ceil": lambda c: np.floor(c + 0.5),
}


def _resample(x: Tensor, axis: int, coordinates: np.ndarray, rounding: str | None) -> Tensor:
    """Values of one axis at coordinates that are no whole numbers: the one that `rounding` leads to, or between two."""
    last = int(x.shape[axis]) - 1
    inside = coordinates.clip(0, last)
    if rounding is not None:
        return x.index_select(axis, torch.from_numpy(ROUNDINGS[rounding](coordinates).clip(0, last).astype(np.int64)))
    low = np.floor(inside).astype(np.int64)
    share = torch.from_numpy((inside - low).astype(np.float32)).reshape(-1, *(1,) * (x.dim() - 1 - axis))
    below, above = (x.index_select(axis, torch.from_numpy(np.minimum(i, last))) for i in (low, low + 1))
    return below + (above - below) * share


@operator("Attention")
def attention(call: Call, q: Tensor, k: Tensor, v: Tensor, mask: Any = None, *past: Any) -> Tensor:
    """Attention of opset 23: [N, heads, length, size], or [N, length, heads * size] with the number of heads as an attribute."""
    if any(value is not None for value in past) or call.outputs > 1 or call.get("softcap", 0.0):
        raise call.unsupported("a cache, a second output or softcap")
    flat = q.dim() == 3
    if flat:
        heads, groups = call.get("q_num_heads"), call.get("kv_num_heads")
        q = q.unflatten(2, (heads, -1)).transpose(1, 2)
        k, v = (value.unflatten(2, (groups, -1)).transpose(1, 2) for value in (k, v))
    if k.shape[1] != q.shape[1]:
        k, v = (value.repeat_interleave(q.shape[1] // value.shape[1], 1) for value in (k, v))
    given = None if mask is None else tensor(mask)
    causal = bool(call.get("is_causal", 0))
    result = F.scaled_dot_product_attention(q, k, v, given, is_causal=causal, scale=call.get("scale"))
    return result.transpose(1, 2).flatten(2) if flat else result
