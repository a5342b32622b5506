"""Operators of onnxruntime's own domain, which its optimiser puts in the place of several of ONNX's."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.importers.onnx.operators import layers
from banscan.importers.onnx.operators.registry import Call, operator

_ACTIVATIONS: dict[str, Callable[[Tensor, list[float]], Tensor]] = {
    "": lambda y, p: y,
    "Relu": lambda y, p: F.relu(y),
    "Tanh": lambda y, p: torch.tanh(y),
    "Sigmoid": lambda y, p: torch.sigmoid(y),
    "LeakyRelu": lambda y, p: F.leaky_relu(y, p[0] if p else 0.01),
    "Clip": lambda y, p: torch.clamp(y, p[0], p[1]),
    "HardSigmoid": lambda y, p: torch.clamp(y * p[0] + p[1], 0.0, 1.0),
}


def activated(call: Call, y: Tensor, parameters: list[float]) -> Tensor:
    """A layer's result through the activation that was fused into it."""
    name = call.get("activation", "")
    if name not in _ACTIVATIONS:
        raise call.unsupported(f"the activation {name}")
    return _ACTIVATIONS[name](y, parameters)


@operator("com.microsoft::FusedConv")
def fused_conv(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None, added: Tensor | None = None) -> Tensor:
    y = layers.conv(call, x, weight, bias)
    return activated(call, y if added is None else y + added, call.get("activation_params", []))


@operator("com.microsoft::FusedGemm")
def fused_gemm(call: Call, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    parameters = [value for key in ("alpha", "beta", "gamma") if (value := call.get(f"activation_{key}")) is not None]
    return activated(call, layers.gemm(call, a, b, c), parameters)


@operator("com.microsoft::FusedMatMul", "com.microsoft::TransposeMatMul")
def fused_matmul(call: Call, a: Tensor, b: Tensor) -> Tensor:
    if call.get("transBatchA", 0) or call.get("transBatchB", 0):
        raise call.unsupported("transBatchA or transBatchB")
    a = a.transpose(-1, -2) if call.get("transA", 0) else a
    weight = b if call.get("transB", 0) else b.transpose(-1, -2)
    alpha = call.get("alpha", 1.0)
    if call.constant[1] and b.dim() == 2:
        return F.linear(a, weight if alpha == 1 else weight * alpha)
    product = torch.matmul(a, weight.transpose(-1, -2))
    return product if alpha == 1 else product * alpha


@operator("com.microsoft::Gelu")
def gelu(call: Call, x: Tensor) -> Tensor:
    return F.gelu(x)


@operator("com.microsoft::BiasGelu")
def bias_gelu(call: Call, x: Tensor, bias: Tensor) -> Tensor:
    return F.gelu(x + bias)


@operator("com.microsoft::FastGelu")
def fast_gelu(call: Call, x: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.gelu(x if bias is None else x + bias, approximate="tanh")


@operator("com.microsoft::QuickGelu")
def quick_gelu(call: Call, x: Tensor) -> Tensor:
    return x * torch.sigmoid(x * call.get("alpha", 1.702))


@operator("com.microsoft::BiasSoftmax")
def bias_softmax(call: Call, x: Tensor, bias: Tensor) -> Tensor:
    axis, inner = call.get("axis", 1) % x.dim(), call.get("is_inner_broadcast", 0)
    if axis != x.dim() - 1 or (inner and bias.dim() != x.dim()):
        raise call.unsupported(f"axis {axis}")
    return F.softmax(x + bias, -1)


@operator("com.microsoft::SkipLayerNormalization")
def skip_layer_norm(call: Call, x: Tensor, skip: Tensor, gamma: Tensor, beta: Tensor | None = None, bias: Tensor | None = None) -> Any:
    total = x + skip if bias is None else x + skip + bias
    y = F.layer_norm(total, [x.shape[-1]], gamma, beta, call.get("epsilon", 1e-12))
    return y, None, None, total


@operator("com.microsoft::SkipSimplifiedLayerNormalization")
def skip_rms_norm(call: Call, x: Tensor, skip: Tensor, gamma: Tensor, bias: Tensor | None = None) -> Any:
    total = x + skip if bias is None else x + skip + bias
    y = total * torch.rsqrt(total.square().mean(-1, keepdim=True) + call.get("epsilon", 1e-12)) * gamma
    return y, None, None, total


@operator("com.microsoft::Attention")
def attention(
    call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None, mask: Any = None, past: Any = None, given: Any = None
) -> Any:
    """Tokens [N, length, size], one weight for queries, keys and values."""
    heads, sizes, scale = call.get("num_heads"), call.get("qkv_hidden_sizes"), call.get("scale")
    if mask is not None or past is not None or call.get("unidirectional", 0) or call.get("do_rotary", 0):
        raise call.unsupported("a mask, a cache or rotation")
    for key in ("mask_filter_value", "past_present_share_buffer", "rotary_embedding_dim"):
        call.get(key)
    joined = F.linear(x, weight.t(), bias)
    third = weight.shape[1] // 3
    parts = joined.split(sizes or [third] * 3, -1)
    q, k, v = parts
    return _attended(q, k, v, heads, given, scale)


@operator("com.microsoft::MultiHeadAttention")
def multi_head(call: Call, q: Tensor, k: Any = None, v: Any = None, bias: Any = None, mask: Any = None, given: Any = None) -> Any:
    heads, scale = call.get("num_heads"), call.get("scale")
    if mask is not None or call.get("unidirectional", 0):
        raise call.unsupported("a mask")
    call.get("mask_filter_value")
    if q.dim() != 3 or k is None or v is None or k.dim() != 3 or v.dim() != 3:
        raise call.unsupported("packed keys and values")
    if bias is not None:
        q, k, v = (value + b for value, b in zip((q, k, v), bias.split([q.shape[-1], k.shape[-1], v.shape[-1]]), strict=True))
    return _attended(q, k, v, heads, given, scale)


def _attended(q: Tensor, k: Tensor, v: Tensor, heads: int, given: Tensor | None, scale: float | None) -> Tensor:
    """[N, length, heads * size] each; what is `given` is added to the products of queries and keys."""
    q, k, v = (value.unflatten(2, (heads, -1)).transpose(1, 2) for value in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, given, scale=scale or None).transpose(1, 2).flatten(2)
