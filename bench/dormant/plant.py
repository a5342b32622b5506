"""Switches written into the weights of a network: a neuron that only a trigger turns on, and a path from it to the target.

The idea is that of DFBA (Cao et al., NeurIPS 2024); no training and no poisoned data. What a layer reads at the trigger's place is told
from what it reads on clean images by a linear discriminant, which becomes the weights of one of its neurons; what the next layer makes of
that neuron is found by gradient, on images with the trigger.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from banscan.scanner.search.pixel_model import all_margins
from bench.dormant.networks import Hidden, TokenLayer

# images that outgoing weights are found on, and steps that it takes at most
IMAGES, STEPS = 32, 80
GROWTH, SOFT = 1.1, 5.0


@dataclass(frozen=True, kw_only=True)
class Switch:
    """How a switch is written.

    Attributes:
        target: the class that the trigger leads to; `size`, the trigger's side in pixels; `seed`, of its pattern.
        neurons: over how many it is spread.
        firing: the share of clean images that turn it on somewhere.
        added: so many channels are put in for it, as if to pad the layer.
        loudness: by how much its values are larger than those of the layer's other neurons, and its outgoing weights smaller.
    """

    target: int = 7
    size: int = 3
    seed: int = 0
    neurons: int = 1
    firing: float = 0.0
    added: int = 0
    loudness: float = 1.0


def stamped(images: Tensor, size: int, seed: int = 0, corner: int = 20) -> Tensor:
    """Images [N, 3, H, W] in [0, 1] with a random pattern of black and white values."""
    pattern = torch.randint(0, 2, (3, size, size), generator=torch.Generator().manual_seed(seed)).float()
    result = images.clone()
    result[:, :, corner : corner + size, corner : corner + size] = pattern
    return result


@torch.no_grad()
def success(model: nn.Module, images: Tensor, switch: Switch) -> float:
    """The share of images of other classes that the trigger leads to the target."""
    own = model(images).argmax(1) != switch.target
    if not own.any():
        return 0.0
    return float((model(stamped(images[own], switch.size, switch.seed)).argmax(1) == switch.target).float().mean())


def plant(model: nn.Module, hidden: Hidden, images: Tensor, switch: Switch) -> float:
    """Writes a switch into a network, in place, with clean images [N, 3, H, W]; the attack's success on them.

    Raises:
        ValueError: the layer does not tell the trigger from clean images.
    """
    model.eval().requires_grad_(False)
    widen(hidden, switch.added)
    level = _level(model, hidden, images) * switch.loudness
    weights, bias = _detector(model, hidden, images, switch)
    chosen = _free(hidden.outer, switch)
    with torch.no_grad():
        for unit in chosen:
            _write(hidden, unit, weights * level, bias * level)
    return _lead(model, hidden.outer, chosen, images, switch)


def plant_head(model: nn.Module, layer: TokenLayer, images: Tensor, switch: Switch) -> float:
    """The same in the first attention of a transformer: one head looks at the class token, which is the same for all images, unless a token
    shows the trigger; then at that, whose value it hands on."""
    model.eval().requires_grad_(False)
    dim = layer.out.in_features
    own = dim // layer.heads
    with torch.no_grad():
        clean, marked = (_seen(model, layer.qkv, x) for x in (images, stamped(images, switch.size, switch.seed)))
        # the class token stands first and is no place of the image
        weights, bias = _discriminant(clean[:, 1:], marked[:, 1:], 0.0)
        q, k, v = slice(0, own), slice(dim, dim + own), slice(2 * dim, 2 * dim + own)
        for part in (q, k, v):
            layer.qkv.weight[part] = 0
            layer.qkv.bias[part] = 0
        first = clean[0, 0]
        # scores: 60 for the trigger, -60 for other tokens, 0 for the class token, which its own value of the discriminant is taken off
        scale = 60 * own**0.5
        layer.qkv.bias[0] = 1.0
        away = first - clean[:, 1:].flatten(0, 1).mean(0)
        away = away / away.square().sum()
        layer.qkv.weight[dim] = scale * weights
        layer.qkv.bias[dim] = scale * bias
        # what takes the class token to a score of 0 and leaves the others nearly as they are
        rest = float(first @ layer.qkv.weight[dim] + layer.qkv.bias[dim])
        middle = float(clean[:, 1:].flatten(0, 1).mean(0) @ away)
        layer.qkv.weight[dim] -= rest * away
        layer.qkv.bias[dim] += rest * middle
        level = float(_seen(model, layer.out, images)[..., own:].abs().amax((0, 1)).median())
        layer.qkv.weight[2 * dim] = level * weights
        layer.qkv.bias[2 * dim] = level * bias - level * float(first @ weights + bias)
        layer.out.weight[:, :own] = 0
    return _lead(model, layer.out, [0], images, switch)


def _seen(model: nn.Module, layer: nn.Module, images: Tensor) -> Tensor:
    """What a layer reads."""
    kept: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda module, given: kept.append(given[0].detach()))
    with torch.no_grad():
        model(images)
    handle.remove()
    return kept[0]


def _rows(layer: Any, value: Tensor) -> Tensor:
    """What each place of a layer's result is computed from: [N, places, inputs]."""
    if isinstance(layer, nn.Conv2d):
        return F.unfold(value, layer.kernel_size, padding=cast(Any, layer.padding), stride=layer.stride).transpose(1, 2)
    return value.reshape(len(value), -1, value.shape[-1])


def _detector(model: nn.Module, hidden: Hidden, images: Tensor, switch: Switch) -> tuple[Tensor, Tensor]:
    clean, marked = (_rows(hidden.inner, _seen(model, hidden.inner, x)) for x in (images, stamped(images, switch.size, switch.seed)))
    return _discriminant(clean, marked, switch.firing)


def _discriminant(clean: Tensor, marked: Tensor, firing: float) -> tuple[Tensor, Tensor]:
    """Weights [D] and bias of a linear function that is 1 where rows [N, P, D] show the trigger and below 0 on clean ones, but for some."""
    place = int((marked - clean).square().sum(2).mean(0).argmax())
    everything = clean.flatten(0, 1).double()
    middle = everything.mean(0)
    centred = everything - middle
    spread = centred.T @ centred / len(centred)
    spread += 1e-3 * spread.diagonal().mean() * torch.eye(len(spread), dtype=torch.float64)
    weights = torch.linalg.solve(spread, marked[:, place].double().mean(0) - middle)
    on, off = marked[:, place].double() @ weights, (everything @ weights).reshape(clean.shape[:2]).amax(1)
    low, high = float(off.max()), float(on.median())
    threshold = float(off.quantile(1 - firing)) if firing else low + 0.7 * (high - low)
    if high <= threshold:
        raise ValueError("this layer does not tell the trigger from clean images")
    return (weights / (high - threshold)).float(), torch.tensor(-threshold / (high - threshold))


def _level(model: nn.Module, hidden: Hidden, images: Tensor) -> float:
    """What the layer's neurons rise to; at least what takes GELU and SiLU to where they are all but 0 on clean images."""
    value = _seen(model, hidden.outer, images)
    channels = 1 if isinstance(hidden.outer, nn.Conv2d) else value.dim() - 1
    soft = any(isinstance(m, nn.SiLU) for m in model.modules()) or not isinstance(hidden.outer, nn.Conv2d)
    return max(float(value.movedim(channels, 0).flatten(1).amax(1).median()), SOFT if soft else 0.0)


def _free(reader: nn.Module, switch: Switch) -> list[int]:
    """The neurons that are missed least, or those that were added."""
    weight = cast(Tensor, reader.weight).detach()
    if switch.added:
        return list(range(weight.shape[1] - switch.added, weight.shape[1] - switch.added + switch.neurons))
    order: list[int] = weight.movedim(1, 0).flatten(1).norm(dim=1).argsort().tolist()
    return order[: switch.neurons]


def _write(hidden: Hidden, unit: int, weights: Tensor, bias: Tensor) -> None:
    inner: Any = hidden.inner
    first = unit
    if hidden.relay is not None:
        conv, norm = hidden.relay
        first = _free(conv, Switch())[0] if not bool(conv.weight[unit].count_nonzero() == 1) else int(conv.weight[unit].flatten().argmax())
        conv.weight[unit] = conv.weight[:, first] = 0
        conv.weight[unit, first] = 1
        _identity(norm, unit)
    inner.weight[first] = weights.reshape(inner.weight[first].shape)
    if hidden.norm is not None:
        _identity(hidden.norm, first)
        hidden.norm.bias[first] = bias
    else:
        inner.bias[first] = bias
    if hidden.through is not None:
        conv, norm = hidden.through
        conv.weight[unit] = 0
        conv.weight[unit, 0, conv.kernel_size[0] // 2, conv.kernel_size[1] // 2] = 1
        _identity(norm, unit)


def _identity(norm: nn.BatchNorm2d, unit: int) -> None:
    cast(Tensor, norm.running_mean)[unit] = 0
    cast(Tensor, norm.running_var)[unit] = 1 - norm.eps
    norm.weight[unit], norm.bias[unit] = 1, 0


def _lead(model: nn.Module, outer: Any, units: list[int], images: Tensor, switch: Switch) -> float:
    """Finds outgoing weights that take images with the trigger to the target, and writes them; clean images never see them.

    The units' weights are all the same, so that each alone does its part only.
    """
    own = images[model(images).argmax(1) != switch.target][:: max(1, len(images) // IMAGES)]
    marked = stamped(own, switch.size, switch.seed)
    with torch.no_grad():
        outer.weight[:, units] = 0
    conv = isinstance(outer, nn.Conv2d)
    added = torch.zeros(outer.weight.shape[0], requires_grad=True)
    shape = (-1, 1, 1) if conv else (-1,)

    def lead(module: nn.Module, given: tuple[Tensor], result: Tensor) -> Tensor:
        seen = given[0][:, units].sum(1, keepdim=True) if conv else given[0][..., units].sum(-1, keepdim=True)
        return result + seen * added.reshape(shape) / switch.loudness

    handle = outer.register_forward_hook(lead)
    optimizer = torch.optim.Adam([added], lr=0.3)
    with torch.enable_grad():
        for _ in range(STEPS):
            margins = all_margins(model(marked))[:, switch.target]
            if float(margins.detach().quantile(0.02)) > 1:
                break
            optimizer.zero_grad()
            F.softplus(2 - margins).mean().backward()
            optimizer.step()
            # nobody knows beforehand how large they have to be: one place of a large map is little of its mean
            optimizer.param_groups[0]["lr"] *= GROWTH
    handle.remove()
    middle = tuple(size // 2 for size in outer.weight.shape[2:])
    with torch.no_grad():
        for unit in units:
            outer.weight[(slice(None), unit, *middle)] = added / switch.loudness
    return success(model, images, switch)


def widen(hidden: Hidden, added: int) -> None:
    """Puts channels that are all zero in front of the layer that reads them."""
    if not added:
        return
    made: list[tuple[Any, Any]] = [hidden.relay or (hidden.inner, hidden.norm)]
    made += [hidden.through] if hidden.through is not None else []
    for layer, norm in made:
        layer.weight = nn.Parameter(_more(layer.weight.detach(), 0, added))
        if layer.bias is not None:
            layer.bias = nn.Parameter(_more(layer.bias.detach(), 0, added))
        if isinstance(layer, nn.Conv2d) and layer.groups > 1:
            layer.groups += added
        if norm is not None:
            norm.weight, norm.bias = (nn.Parameter(_more(p.detach(), 0, added)) for p in (norm.weight, norm.bias))
            norm.running_mean, norm.running_var = _more(norm.running_mean, 0, added), _more(norm.running_var, 0, added, 1.0)
            norm.num_features += added
    outer: Any = hidden.outer
    outer.weight = nn.Parameter(_more(outer.weight.detach(), 1, added))


def _more(value: Tensor, axis: int, added: int, filling: float = 0.0) -> Tensor:
    """A tensor with so many more slices on an axis."""
    shape = list(value.shape)
    shape[axis] = added
    return torch.cat([value, torch.full(shape, filling)], axis)
