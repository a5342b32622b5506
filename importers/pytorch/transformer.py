"""PyTorch's fused operators of a transformer's layer, as the plain ones that they stand for: only there are neurons to be found."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.errors import ModelError
from banscan.importers.pytorch.language import Unread


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embedding: int,
    heads: int,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    weight: Tensor,
    bias: Tensor,
    mask: Tensor | None = None,
    *_: Any,
) -> tuple[Tensor, Unread]:
    """`_native_multi_head_attention` of a sequence [N, L, E] with itself; nothing reads the weights of its mixing."""
    if mask is not None or query is not key or key is not value:
        raise ModelError(
            "its attention has a mask, or is between two sequences, in a form that is not read; trace it without torch.no_grad()"
        )
    n, length = query.shape[:2]
    parts = F.linear(query, qkv_weight, qkv_bias).reshape(n, length, 3, heads, embedding // heads).permute(2, 0, 3, 1, 4)
    q, k, v = (torch.select(parts, 0, i) for i in range(3))
    mixed = torch.softmax(torch.matmul(q * (embedding // heads) ** -0.5, k.transpose(-2, -1)), -1)
    joined = torch.matmul(mixed, v).transpose(1, 2).reshape(n, length, embedding)
    return F.linear(joined, weight, bias), Unread("reads the weights of an attention")


def layer(
    x: Tensor,
    embedding: int,
    heads: int,
    qkv_weight: Tensor,
    qkv_bias: Tensor,
    weight: Tensor,
    bias: Tensor,
    gelu: bool,
    norm_first: bool,
    eps: float,
    first_weight: Tensor,
    first_bias: Tensor,
    second_weight: Tensor,
    second_bias: Tensor,
    in_weight: Tensor,
    in_bias: Tensor,
    out_weight: Tensor,
    out_bias: Tensor,
    mask: Tensor | None = None,
    *_: Any,
) -> Tensor:
    """`_transformer_encoder_layer_fwd`: attention and a small network, each with a norm before or behind it."""

    def mixed(y: Tensor) -> Tensor:
        return attention(y, y, y, embedding, heads, qkv_weight, qkv_bias, weight, bias, mask)[0]

    def fed(y: Tensor) -> Tensor:
        hidden = F.linear(y, in_weight, in_bias)
        return F.linear(F.gelu(hidden) if gelu else torch.relu(hidden), out_weight, out_bias)

    def normed(y: Tensor, own_weight: Tensor, own_bias: Tensor) -> Tensor:
        return F.layer_norm(y, (embedding,), own_weight, own_bias, eps)

    if norm_first:
        x = x + mixed(normed(x, first_weight, first_bias))
        return x + fed(normed(x, second_weight, second_bias))
    x = normed(x + mixed(x), first_weight, first_bias)
    return normed(x + fed(x), second_weight, second_bias)
