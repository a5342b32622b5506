"""Which layers make the hidden neurons of a network, and which read them: where a switch can be written."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from bench.zoo.convnext import NextBlock
from bench.zoo.mobile import EfficientNet, Excitation, Inverted, MobileNetV2
from bench.zoo.models import Block, DenseLayer, PlainBlock, ViTLayer
from bench.zoo.resnet50 import Bottleneck

Norm = nn.BatchNorm2d


@dataclass(frozen=True)
class Hidden:
    """The neurons between two layers: `inner` and its batch norm make them, `outer` reads them.

    Between them a depthwise layer, `through`, and its batch norm may pass them on. None can be added where something else reads all of
    them as well (`shared`).
    """

    inner: nn.Module
    norm: Norm | None
    outer: nn.Module
    through: tuple[nn.Conv2d, Norm] | None = None
    shared: bool = False


def gated(part: nn.Module) -> bool:
    """Whether it has a squeeze and excitation."""
    return any(isinstance(layer, Excitation) for layer in part.modules())


def inverted(block: Any) -> Hidden | None:
    """From the expansion through the depthwise layer; None for a block that does not expand."""
    first = block.layers[0]
    if first.groups > 1:
        return None
    project = [layer for layer in block.layers if isinstance(layer, nn.Conv2d)][-1]
    return Hidden(first, block.layers[1], project, through=(block.layers[3], block.layers[4]), shared=gated(block))


# the hidden neurons of every kind of block
BLOCKS: dict[type[nn.Module], Callable[[Any], Hidden | None]] = {
    Block: lambda block: Hidden(block.conv1, block.bn1, block.conv2),
    PlainBlock: lambda block: Hidden(block.conv1, None, block.conv2),
    Bottleneck: lambda block: Hidden(block.conv2, block.bn2, block.conv3),
    DenseLayer: lambda block: Hidden(block.layers[2], block.layers[3], block.layers[5]),
    Inverted: inverted,
    NextBlock: lambda block: Hidden(block.mlp[0], None, block.mlp[2]),
    ViTLayer: lambda block: Hidden(block.mlp[0], None, block.mlp[2]),
}


def places(model: nn.Module) -> list[Hidden]:
    """All places in a network of the zoo, from the image to the logits; those of a network without blocks are between its layers."""
    found = [BLOCKS[type(part)](part) for part in model.modules() if type(part) in BLOCKS]
    blocks = [place for place in found if place is not None]
    if isinstance(model, MobileNetV2 | EfficientNet):
        # the stem's neurons go through a first block that does not expand them
        first = cast(Any, model).blocks[0]
        depthwise, norm, _, *_, project, _ = list(first.layers)
        shared = gated(model) or first.same
        blocks.insert(0, Hidden(model.stem[0], cast(Norm, model.stem[1]), project, through=(depthwise, norm), shared=shared))
    if blocks:
        return blocks
    parts = [part for part in model.modules() if isinstance(part, (nn.Conv2d, Norm))]
    threes = zip(parts, parts[1:], parts[2:], strict=False)
    return [Hidden(a, b, c) for a, b, c in threes if isinstance(a, nn.Conv2d) and isinstance(b, Norm) and isinstance(c, nn.Conv2d)]
