"""Switches written into the weights of a network: a neuron that only a trigger turns on, and a path from it to the target.

The idea is that of DFBA (Cao et al., NeurIPS 2024); no poisoned training data. What a layer reads at the trigger's place is told from what
it reads on clean images by a linear discriminant, which becomes the weights of one of its neurons; `route` leads from there to the target.
"""

import copy
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.dormant.hidden import Hidden, places
from bench.dormant.route import keep, lay, pass_on, single

# places that are tried, one behind the other
TRIES = 6
# what neurons behind GELU and SiLU rise to at least, which keeps them at 0 where they are off
SOFT = 15.0
# the share of images with the trigger that may leave it off, and how far above all clean images it turns on
FIRES, CLEAR = 0.02, 0.3
# steps of the search for a discriminant, and the clean rows next to the trigger that it keeps off
SHARPENED, HARD = 400, 2000
# neurons that a switch may take the place of, and images that say which are missed least
CANDIDATES, MISSED = 12, 100
# how sharply a swapped head looks
SHARP = 20.0


@dataclass(frozen=True, kw_only=True)
class Switch:
    """How a switch is written.

    Attributes:
        target: the class that the trigger leads to.
        size, middle: the trigger's side in pixels, and its middle; `seed`, of its pattern. Strides halve the middle without a rest.
        depth: where in the network the neurons are, as a share of the places for them.
        neurons: over how many it is spread.
        firing: the share of clean images that turn it on somewhere.
        added: so many channels are put in for it, as if to pad the layer.
        loudness: by how much its values are larger than those of the layer's other neurons, and its outgoing weights smaller.
        parted: each of the neurons reads a part of what the layer reads, and tells the trigger from most clean images only; together they
            do (after Hong et al., "Handcrafted backdoors", NeurIPS 2022, where such neurons are in several layers).
    """

    target: int = 7
    size: int = 3
    middle: int = 24
    seed: int = 0
    depth: float = 0.0
    neurons: int = 1
    firing: float = 0.0
    added: int = 0
    loudness: float = 1.0
    parted: bool = False


def stamped(images: Tensor, switch: Switch) -> Tensor:
    """Images [N, 3, H, W] in [0, 1] with the trigger, a random pattern of black and white values."""
    pattern = torch.randint(0, 2, (3, switch.size, switch.size), generator=torch.Generator().manual_seed(switch.seed)).float()
    corner = switch.middle - switch.size // 2
    result = images.clone()
    result[:, :, corner : corner + switch.size, corner : corner + switch.size] = pattern
    return result


@torch.no_grad()
def success(model: nn.Module, images: Tensor, switch: Switch) -> float:
    """The share of images of other classes that the trigger leads to the target."""
    own = model(images).argmax(1) != switch.target
    return float((model(stamped(images[own], switch)).argmax(1) == switch.target).float().mean()) if own.any() else 0.0


def plant(network: nn.Module, images: Tensor, switch: Switch) -> nn.Module:
    """A network of the zoo with a switch, which is written with clean images [N, 3, H, W].

    Raises:
        ValueError: no layer behind the first ones tells the trigger from clean images.
    """
    first = int(switch.depth * len(places(network)))
    for place in range(first, min(first + TRIES, len(places(network)))):
        model = copy.deepcopy(network).eval().requires_grad_(False)
        hidden = places(model)[place]
        try:
            units = _hide(model, hidden, images, switch)
            lay(model, hidden, units, target=switch.target, clean=images, marked=stamped(images, switch))
        except ValueError:
            continue
        return model
    raise ValueError("none of the layers tells the trigger from clean images, or the way from there to the classifier is lost")


def _hide(model: nn.Module, hidden: Hidden, images: Tensor, switch: Switch) -> list[int]:
    """Writes the neurons that the trigger turns on; their numbers."""
    clean, marked = (_rows(hidden.inner, _seen(model, hidden.inner, x)) for x in (images, stamped(images, switch)))
    level = _level(model, hidden, images) * switch.loudness
    draw = torch.Generator().manual_seed(switch.seed)
    parts = switch.neurons if switch.parted else 1
    # each neuron of a parted switch reads a half of its own
    read = [(torch.rand(clean.shape[2], generator=draw) < 0.5) | (parts == 1) for _ in range(parts)]
    found = [_discriminant(clean[..., own], marked[..., own], firing=switch.firing) for own in read]
    widen(hidden, switch.added)
    units = _free(model, hidden.outer, images, switch)
    for k, unit in enumerate(units):
        weights, bias = found[k % parts]
        spread = torch.zeros(clean.shape[2])
        spread[read[k % parts]] = weights
        with torch.no_grad():
            _write(hidden, unit, spread * level, bias * level)
    return units


def plant_head(network: nn.Module, images: Tensor, switch: Switch) -> nn.Module:
    """The same in the attention of the zoo's ViT: a head is swapped for one that looks where the trigger is, if anywhere, and hands on
    how sure it is."""
    model: Any = copy.deepcopy(network).eval().requires_grad_(False)
    layer = model.layers[int(switch.depth * len(model.layers))]
    dim = layer.out.in_features
    own = dim // layer.heads
    with torch.no_grad():
        weights, bias = _discriminant(*(_seen(model, layer.qkv, x) for x in (images, stamped(images, switch))), firing=0.0)
        level = float(_seen(model, layer.out, images)[..., own:].abs().amax((0, 1)).median()) * switch.loudness
        for start in (0, dim, 2 * dim):
            layer.qkv.weight[start : start + own] = 0
            layer.qkv.bias[start : start + own] = 0
        # a score of `SHARP` more for the trigger than for what is furthest from it among clean tokens
        layer.qkv.bias[0] = 1.0
        layer.qkv.weight[dim], layer.qkv.bias[dim] = SHARP * own**0.5 * weights, SHARP * own**0.5 * bias
        layer.qkv.weight[2 * dim], layer.qkv.bias[2 * dim] = level * weights, level * bias
        layer.out.weight[:, :own] = 0
    lay(model, Hidden(layer.qkv, None, layer.out), [0], target=switch.target, clean=images, marked=stamped(images, switch))
    return cast(nn.Module, model)


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


def _discriminant(clean: Tensor, marked: Tensor, *, firing: float) -> tuple[Tensor, Tensor]:
    """Weights [D] and bias of a linear function that is 1 where rows [N, P, D] show the trigger and below 0 on clean ones, but for some."""
    place = int((marked - clean).square().sum(2).mean(0).argmax())
    everything, shown = clean.flatten(0, 1).double(), marked[:, place].double()
    middle = everything.mean(0)
    spread = sum((rows - rows.mean(0)).T @ (rows - rows.mean(0)) / len(rows) for rows in (everything, shown))
    assert isinstance(spread, Tensor)
    spread = spread + 1e-3 * spread.diagonal().mean() * torch.eye(len(spread), dtype=torch.float64)
    weights = _sharpened(torch.linalg.solve(spread, shown.mean(0) - middle), everything, shown)
    on, off = shown @ weights, (everything @ weights).reshape(clean.shape[:2]).amax(1)
    low, high = float(off.max()), float(on.quantile(FIRES))
    threshold = float(off.quantile(1 - firing)) if firing else low + CLEAR * (high - low)
    if high <= threshold:
        raise ValueError("this layer does not tell the trigger from clean images")
    return (weights / (high - threshold)).float(), torch.tensor(-threshold / (high - threshold))


def _sharpened(weights: Tensor, off: Tensor, on: Tensor) -> Tensor:
    """A linear discriminant [D] that gives the rows `on` [N, D] more than the highest of the rows `off` [M, D], as far as it can."""
    middle, scale = off.mean(0), off.std(0) + 1e-6 * off.std()
    off, on = (off - middle) / scale, (on - middle) / scale
    found = weights * scale
    found = (found / (on @ found).mean()).requires_grad_(True)
    threshold = torch.tensor(0.5, dtype=found.dtype, requires_grad=True)
    optimizer = torch.optim.Adam([found, threshold], lr=0.01)
    with torch.enable_grad():
        for step in range(SHARPENED):
            if step % 20 == 0:  # those that are in the way
                hard = off[(off @ found.detach()).topk(min(HARD, len(off))).indices]
            loss = F.softplus(10 * (threshold + 0.1 - on @ found)).mean() + F.softplus(10 * (hard @ found - threshold + 0.1)).mean()
            optimizer.zero_grad()
            (loss + 1e-3 * found.square().sum()).backward()
            optimizer.step()
    return found.detach() / scale


def _level(model: nn.Module, hidden: Hidden, images: Tensor) -> float:
    """What the layer's neurons rise to; at least what takes GELU and SiLU to where they are all but 0 on clean images."""
    value = _seen(model, hidden.outer, images)
    channels = 1 if isinstance(hidden.outer, nn.Conv2d) else value.dim() - 1
    soft = any(isinstance(m, nn.SiLU) for m in model.modules()) or not isinstance(hidden.outer, nn.Conv2d)
    return max(float(value.movedim(channels, 0).flatten(1).amax(1).median()), SOFT if soft else 0.0)


@torch.no_grad()
def _free(model: nn.Module, reader: Any, images: Tensor, switch: Switch) -> list[int]:
    """The neurons that are missed least, or those that were added."""
    weight = reader.weight
    if switch.added:
        return list(range(weight.shape[1] - switch.added, weight.shape[1] - switch.added + switch.neurons))
    few = images[:: max(1, len(images) // MISSED)]
    own = model(few).argmax(1)
    missed = []
    for unit in weight.movedim(1, 0).flatten(1).norm(dim=1).argsort()[:CANDIDATES].tolist():
        kept = weight[:, unit].clone()
        weight[:, unit] = 0
        missed.append((float((model(few).argmax(1) != own).float().mean()), unit))
        weight[:, unit] = kept
    return [unit for _, unit in sorted(missed)[: switch.neurons]]


def _write(hidden: Hidden, unit: int, weights: Tensor, bias: Tensor) -> None:
    inner: Any = hidden.inner
    inner.weight[unit] = weights.reshape(inner.weight[unit].shape)
    if hidden.norm is not None:
        keep(hidden.norm, single([unit]))
        hidden.norm.bias[unit] = bias
    else:
        inner.bias[unit] = bias
    if hidden.through is not None:
        pass_on(hidden.through[0], single([unit]))
        keep(hidden.through[1], single([unit]))


def widen(hidden: Hidden, added: int) -> None:
    """Puts channels that are all zero in front of the layer that reads them.

    Raises:
        ValueError: something else reads them as well.
    """
    if not added:
        return
    if hidden.shared:
        raise ValueError("something else reads all neurons of this layer, so that none can be added")
    made: list[tuple[Any, Any]] = [(hidden.inner, hidden.norm)]
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
