"""Layers: convolution, matrix products, normalisation, attention."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.errors import ModelError
from banscan.importers.onnx.operators.padding import pad, pads_of
from banscan.importers.onnx.operators.registry import Call, operator, tensor


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


@operator("Einsum")
def einsum(call: Call, *values: Tensor) -> Any:
    return torch.einsum(call.get("equation"), *values)


@operator("BatchNormalization")
def batch_norm(call: Call, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, var: Tensor) -> Tensor:
    if call.get("training_mode", 0) or (call.version < 14 and call.outputs > 1):
        # the runtime takes the statistics of the batch then, so that an image's answer depends on the others
        raise ModelError(f"operator {call.op} ({call.name}): exported in training mode; call model.eval() before export")
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
