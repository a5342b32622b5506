"""Layers: convolution, matrix products, normalisation, attention."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.errors import ModelError
from banscan.importers.onnx.operators.padding import pad, pads_of
from banscan.importers.onnx.operators.registry import Call, operator


@operator("Conv")
def conv(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    rank = weight.dim() - 2
    if call.get("kernel_shape", list(weight.shape[2:])) != list(weight.shape[2:]):
        raise call.unsupported("a kernel_shape that is not the weight's")
    stride, dilation = call.get("strides") or [1] * rank, call.get("dilations") or [1] * rank
    before, after = pads_of(call, x, weight.shape[2:], stride, dilation)
    if before != after:
        x, before = pad(x, before, after), [0] * rank
    function: Any = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    return function(x, weight, bias, stride, before, dilation, call.get("group", 1))


@operator("ConvTranspose")
def conv_transpose(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    kernel = list(weight.shape[2:])
    rank = len(kernel)
    if call.get("kernel_shape", kernel) != kernel:
        raise call.unsupported("a kernel_shape that is not the weight's")
    stride, dilation = call.get("strides") or [1] * rank, call.get("dilations") or [1] * rank
    extra, mode = call.get("output_padding") or [0] * rank, call.get("auto_pad", "NOTSET")
    pads, wanted = list(call.get("pads") or [0] * 2 * rank), call.get("output_shape")
    full = [(x.shape[2 + i] - 1) * stride[i] + extra[i] + (kernel[i] - 1) * dilation[i] + 1 for i in range(rank)]
    if mode == "VALID":
        pads = [0] * 2 * rank
    if wanted is not None or mode.startswith("SAME"):
        sizes = [x.shape[2 + i] * stride[i] for i in range(rank)] if wanted is None else list(wanted)[-rank:]
        total = [max(0, whole - size) for whole, size in zip(full, sizes, strict=True)]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        # the smaller half is in front for SAME_UPPER, behind otherwise
        pads = small + large if mode == "SAME_UPPER" else large + small
        extra = [e + max(0, size - whole) for e, size, whole in zip(extra, sizes, full, strict=True)]
    function: Any = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    before, after = pads[:rank], pads[rank:]
    plain = before == after and all(e < max(s, d) for e, s, d in zip(extra, stride, dilation, strict=True))
    if plain:
        return function(x, weight, bias, stride, before, extra, call.get("group", 1), dilation)
    # what is asked for more at the end has no value but the bias
    y = function(x, weight, None, stride, 0, 0, call.get("group", 1), dilation)
    y = pad(y, [0] * rank, extra)
    for i in range(rank):
        y = y.narrow(2 + i, before[i], y.shape[2 + i] - before[i] - after[i])
    return y if bias is None else y + bias.reshape(-1, *(1,) * rank)


@operator("Gemm")
def gemm(call: Call, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    call.get("broadcast")  # opset 6 and older; it is what happens anyhow
    a = a.t() if call.get("transA", 0) else a
    weight = b if call.get("transB", 0) else b.t()
    alpha, beta = call.get("alpha", 1.0), call.get("beta", 1.0)
    if alpha != 1:
        weight = weight * alpha
    if c is not None and beta != 1:
        c = c * beta
    if c is None or (c.dim() == 1 and c.shape[0] == weight.shape[0]):
        return F.linear(a, weight, c)
    return F.linear(a, weight) + c


@operator("MatMul")
def matmul(call: Call, a: Tensor, b: Tensor) -> Tensor:
    # a constant matrix on the right is a linear layer, which is what neurons are looked for as
    if call.constant[1] and b.dim() == 2:
        return F.linear(a, b.t())
    return torch.matmul(a, b)


@operator("Einsum")
def einsum(call: Call, *values: Tensor) -> Any:
    return torch.einsum(call.get("equation").replace(" ", ""), *values)


@operator("BatchNormalization")
def batch_norm(call: Call, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    if call.get("training_mode", 0) or (call.version < 14 and call.declared > 1):
        # the runtime takes the statistics of the batch then, so that an image's answer depends on the others
        raise ModelError(f"operator {call.op} ({call.name}): exported in training mode; call model.eval() before export")
    if call.version < 9 and call.get("spatial", 1) == 0:
        raise call.unsupported("spatial = 0")
    return F.batch_norm(x, mean, var, weight, bias, False, 0.0, call.get("epsilon", 1e-5))


@operator("InstanceNormalization")
def instance_norm(call: Call, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.instance_norm(x, None, None, weight, bias, True, 0.0, call.get("epsilon", 1e-5))


@operator("LayerNormalization", "com.microsoft::LayerNormalization")
def layer_norm(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    _in_float(call)
    shape, epsilon = x.shape[call.get("axis", -1) % x.dim() :], call.get("epsilon", 1e-5)
    if weight.shape == shape and (bias is None or bias.shape == shape):
        return F.layer_norm(x, list(shape), weight, bias, epsilon)
    y = F.layer_norm(x, list(shape), None, None, epsilon) * weight
    return y if bias is None else y + bias


@operator("RMSNormalization", "SimplifiedLayerNormalization")
def rms_norm(call: Call, x: Tensor, weight: Tensor) -> Tensor:
    _in_float(call)
    axes = list(range(call.get("axis", -1) % x.dim(), x.dim()))
    return x * torch.rsqrt(x.square().mean(axes, keepdim=True) + call.get("epsilon", 1e-5)) * weight


@operator("GroupNormalization")
def group_norm(call: Call, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    _in_float(call)
    groups = call.get("num_groups")
    if weight.shape[0] == groups != x.shape[1]:
        weight, bias = (p.repeat_interleave(x.shape[1] // groups) for p in (weight, bias))
    return F.group_norm(x, groups, weight, bias, call.get("epsilon", 1e-5))


def _in_float(call: Call) -> None:
    """The type to compute in: float32 everywhere."""
    call.get("stash_type")


@operator("LRN")
def local_response_norm(call: Call, x: Tensor) -> Any:
    size, alpha, beta, bias = call.get("size"), call.get("alpha", 1e-4), call.get("beta", 0.75), call.get("bias", 1.0)
    if size % 2:
        return F.local_response_norm(x, size, alpha, beta, bias)
    # of an even window torch puts the larger half in front, ONNX behind
    squares = F.pad(x.square().flatten(2).unsqueeze(1), (0, 0, (size - 1) // 2, size // 2))
    mean = F.avg_pool2d(squares, (size, 1), stride=1).squeeze(1).reshape(x.shape)
    return x / (mean * alpha + bias).pow(beta)


@operator("Attention")
def attention(
    call: Call, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, past_k: Any = None, past_v: Any = None, lengths: Any = None
) -> Tensor:
    """Attention of opset 23: [N, heads, length, size], or [N, length, heads * size] with the number of heads as an attribute."""
    if any(value is not None for value in (past_k, past_v, lengths)) or call.get("softcap", 0.0):
        raise call.unsupported("a cache or softcap")
    call.get("softmax_precision")
    heads, groups = call.get("q_num_heads"), call.get("kv_num_heads")
    flat = q.dim() == 3
    if flat:
        q = q.unflatten(2, (heads, -1)).transpose(1, 2)
        k, v = (value.unflatten(2, (groups, -1)).transpose(1, 2) for value in (k, v))
    if k.shape[1] != q.shape[1]:
        k, v = (value.repeat_interleave(q.shape[1] // value.shape[1], 1) for value in (k, v))
    causal = bool(call.get("is_causal", 0))
    result = F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, scale=call.get("scale"))
    return result.transpose(1, 2).flatten(2) if flat else result
