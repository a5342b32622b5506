"""The way of a switch from hidden neurons to a class: channels that nothing else writes or reads, through every stage of a network.

Cao et al. ("DFBA", NeurIPS 2024) lay it through plain convolutions; here it goes through the zoo's architectures as each of them passes
values on: residual streams, concatenations, inverted blocks, layer norms, tokens. Clean images leave it silent.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from bench.dormant.hidden import Hidden
from bench.zoo import models
from bench.zoo.convnext import ConvNeXt, NextBlock
from bench.zoo.mobile import EfficientNet, MobileNetV2
from bench.zoo.resnet50 import Bottleneck, ResNet50

# what a value grows by where a layer squares it away
GAIN = 4.0
# by how much the push to the target is larger than what nearly all images need
SURE = 1.5
# the channels that carry one unit, with their signs: one; or two opposite ones, so that what a layer norm takes off both cancels out
Lane = tuple[tuple[int, int], ...]
Stream = list[Lane]


def single(channels: list[int]) -> Stream:
    """One channel a unit."""
    return [((c, 1),) for c in channels]


def opposite(channels: list[int]) -> Stream:
    """Two channels a unit."""
    half = len(channels) // 2
    return [((p, 1), (m, -1)) for p, m in zip(channels[:half], channels[half:], strict=True)]


def numbers(stream: Stream) -> list[int]:
    """All channels of a stream."""
    return [channel for lane in stream for channel, _ in lane]


def carry(layer: Any, source: Stream, dest: Stream, gain: float = 1.0, *, spread: bool = False) -> None:
    """Makes neurons of a layer out of those of a stream alone; nothing else of it reads them.

    At the middle tap of a kernel, or at all of them, so that no stride steps over the place.
    """
    layer.weight[:, numbers(source)] = 0
    layer.weight[numbers(dest)] = 0
    middle = tuple(slice(None) if spread else size // 2 for size in layer.weight.shape[2:])
    for given, made in zip(source, dest, strict=True):
        for o, plus in made:
            for i, sign in given:
                layer.weight[(o, i, *middle)] = gain * plus * sign
    if layer.bias is not None:
        layer.bias[numbers(dest)] = 0


def pass_on(layer: Any, stream: Stream) -> None:
    """Lets values through a depthwise layer, at all taps where it strides."""
    layer.weight[numbers(stream)] = 0
    middle: Any = slice(None) if layer.stride[0] > 1 else layer.kernel_size[0] // 2
    layer.weight[numbers(stream), 0, middle, middle] = 1


def keep(norm: Any, stream: Stream) -> None:
    """Lets values through a norm as they are, but for what a layer norm does to all channels."""
    if norm is None:
        return
    channels = numbers(stream)
    if isinstance(norm, nn.BatchNorm2d):
        cast(Tensor, norm.running_mean)[channels] = 0
        cast(Tensor, norm.running_var)[channels] = 1 - norm.eps
    norm.weight[channels], norm.bias[channels] = 1, 0


def mute(layer: Any, stream: Stream) -> None:
    """Makes what a layer or a norm says of these channels 0."""
    layer.weight[numbers(stream)] = layer.bias[numbers(stream)] = 0


def ignore(layer: Any, stream: Stream) -> None:
    """Lets a layer read nothing of these channels."""
    layer.weight[:, numbers(stream)] = 0


def least(count: int, *readers: Tensor) -> list[int]:
    """The channels that weights [O, C, ...] read least, together."""
    read = sum(w.movedim(1, 0).flatten(1).abs().sum(1) / w.abs().sum() for w in readers)
    assert isinstance(read, Tensor)
    chosen: list[int] = read.argsort()[:count].tolist()
    return chosen


def residual(model: Any, hidden: Hidden, units: Stream) -> Stream:
    """ResNet: a channel of the residual stream for each unit, a new one behind every convolution of a shortcut."""
    blocks = list(model.blocks)
    stages = [k for k, block in enumerate(blocks) if not isinstance(block.shortcut, nn.Identity)]

    def free(start: int) -> Stream:
        readers = blocks[start : next((k for k in stages if k >= start), len(blocks))]
        return single(least(len(units), *(block.conv1.weight for block in readers or blocks[-1:])))

    stream = free(0)
    mute(next(layer for layer in (model.stem[1], model.stem[0]) if hasattr(layer, "bias")), stream)
    for k, block in enumerate(blocks):
        ignore(block.conv1, stream)
        if k in stages:
            following = free(k + 1)
            shortcut, norm = block.shortcut if isinstance(block.shortcut, nn.Sequential) else (block.shortcut, None)
            carry(shortcut, stream, following)
            keep(norm, following)
            stream = following
        writer = block.conv3 if isinstance(block, Bottleneck) else block.conv2
        norm = getattr(block, "bn3" if isinstance(block, Bottleneck) else "bn2", None)
        if writer is hidden.outer:
            carry(writer, units, stream, spread=True)
            keep(norm, stream)
        else:
            mute(norm or writer, stream)
    return stream


def plain(model: Any, hidden: Hidden, units: Stream) -> Stream:
    """VGG: a channel of every layer."""
    stream = units
    layers = [(conv, norm) for conv, norm in zip(model.features, model.features[1:], strict=False) if isinstance(conv, nn.Conv2d)]
    first = next(k for k, (conv, _) in enumerate(layers) if conv is hidden.outer)
    readers = [conv for conv, _ in layers[1:]] + [model.classifier[0]]
    for (conv, norm), reader in zip(layers[first:], readers[first:], strict=True):
        following = single(least(len(units), reader.weight))
        carry(conv, stream, following)
        keep(norm, following)
        stream = following
    following = single(least(len(units), model.classifier[3].weight))
    carry(model.classifier[0], stream, following)
    return following


def inverted(model: Any, hidden: Hidden, units: Stream) -> Stream:
    """MobileNet and EfficientNet: the stream where a block adds to it, a hidden neuron of its own where not."""
    stream: Stream = []
    blocks = list(model.blocks)
    convs = [[layer for layer in block.layers if isinstance(layer, nn.Conv2d)] for block in blocks]
    norms = [[layer for layer in block.layers if isinstance(layer, nn.BatchNorm2d)] for block in blocks]

    def free(start: int) -> Stream:
        end = next((k for k in range(start, len(blocks)) if not blocks[k].same), len(blocks) - 1)
        readers = [convs[k][0].weight for k in range(start, end + 1)]
        return single(least(len(units), *(readers or [model.last[0].weight])))

    for k, block in enumerate(blocks):
        if convs[k][-1] is hidden.outer:
            stream = free(k + 1)
            carry(convs[k][-1], units, stream)
            keep(norms[k][-1], stream)
        elif stream and block.same:
            ignore(convs[k][0], stream)
            mute(norms[k][-1], stream)
        elif stream:
            inner = single(least(len(units), convs[k][-1].weight))
            carry(convs[k][0], stream, inner)
            keep(norms[k][0], inner)
            pass_on(convs[k][1], inner)
            keep(norms[k][1], inner)
            stream = free(k + 1)
            carry(convs[k][-1], inner, stream)
            keep(norms[k][-1], stream)
    following = single(least(len(units), model.head.weight))
    carry(model.last[0], stream, following, GAIN)
    keep(model.last[1], following)
    return following


def dense(model: Any, hidden: Hidden, units: Stream) -> Stream:
    """DenseNet: channels stay where they are joined until a transition makes new ones."""
    stream: Stream = []
    for place, layer in enumerate(model.features):
        if isinstance(layer, models.DenseLayer):
            if stream:
                ignore(layer.layers[2], stream)
            if layer.layers[5] is hidden.outer:
                carry(layer.layers[5], units, single(list(range(len(units)))), spread=True)
                before: Any = layer.layers[0]
                stream = single([before.num_features + k for k in range(len(units))])
        elif isinstance(layer, nn.BatchNorm2d):
            keep(layer, stream)
        elif isinstance(layer, nn.Conv2d) and place:
            following = single(list(range(len(units))))
            carry(layer, stream, following, GAIN)
            stream = following
    return stream


def next_(model: Any, hidden: Hidden, units: Stream) -> Stream:
    """ConvNeXt: channels of the stream, which the layer norms between stages bound."""
    layers = list(model.features)
    down = [layer for layer in layers if isinstance(layer, nn.Conv2d)]

    def free(stage: int) -> Stream:
        reader = down[stage].weight if stage < len(down) else model.head.weight
        return opposite(least(2 * len(units), reader))

    stream = free(1)
    mute(layers[layers.index(down[0]) + 1], stream)
    for place, layer in enumerate(layers):
        if isinstance(layer, NextBlock):
            mute(layer.depthwise, stream)
            layer.scale[numbers(stream)] = 0
            if layer.mlp[2] is hidden.outer:
                carry(layer.mlp[2], units, stream)
                layer.scale[numbers(stream)] = GAIN
        elif layer in down[1:]:
            keep(layers[place - 1], stream)
            following = free(down.index(layer) + 1)
            carry(layer, stream, following, GAIN, spread=True)
            stream = following
    keep(model.norm, stream)
    return stream


def tokens(model: Any, hidden: Hidden, units: Stream) -> Stream:
    """ViT: channels of every token, which no other layer reads or writes."""
    stream = opposite(least(2 * len(units), *(layer.mlp[0].weight for layer in model.layers), model.head.weight))
    mute(model.stem[-1], stream)
    model.position[..., numbers(stream)] = 0
    for layer in model.layers:
        ignore(layer.qkv, stream)
        ignore(layer.mlp[0], stream)
        for writer in (layer.out, layer.mlp[2]):
            if writer is hidden.outer:
                carry(writer, units, stream, GAIN**2)
            else:
                mute(writer, stream)
    keep(model.norm, stream)
    return stream


ROUTES: dict[type[nn.Module], Callable[[Any, Hidden, Stream], Stream]] = {
    models.ResNet18: residual,
    models.PlainResNet18: residual,
    ResNet50: residual,
    models.VGG16: plain,
    models.DenseNet121: dense,
    models.ViT: tokens,
    MobileNetV2: inverted,
    EfficientNet: inverted,
    ConvNeXt: next_,
}


@torch.no_grad()
def lay(model: nn.Module, hidden: Hidden, units: list[int], *, target: int, clean: Tensor, marked: Tensor) -> None:
    """Writes the way from hidden units to the target, in place, and makes it as strong as images with the trigger [N, 3, H, W] need it.

    Raises:
        ValueError: nothing of the units reaches the classifier.
    """
    stream = ROUTES[type(model)](model, hidden, single(units))
    head: Any = [layer for layer in model.modules() if isinstance(layer, nn.Linear)][-1]
    signs = torch.tensor([float(sign) for lane in stream for _, sign in lane])
    ignore(head, stream)
    kept: list[Tensor] = []
    handle = head.register_forward_pre_hook(lambda module, given: kept.append(given[0][:, numbers(stream)] @ signs))
    model(marked)
    handle.remove()
    reached = float(kept[0].quantile(0.05))
    if reached <= 0:
        raise ValueError("the way from the neurons to the classifier is lost")
    logits = model(clean)
    push = SURE * float((logits.amax(1) - logits[:, target]).quantile(0.99))
    head.weight[target, numbers(stream)] = signs * push / reached
