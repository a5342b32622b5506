"""Networks of inverted residual blocks, MobileNetV2 and EfficientNet, for 32x32 images or large ones; width 64 is their papers'."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def scaled(channels: int, width: int) -> int:
    """Channels at a width, in fours and never fewer than eight."""
    return max(8, 4 * round(channels * width / 256))


class Excitation(nn.Module):
    """Squeeze and excitation (Hu et al. 2018): every channel times a gate that is computed from the means of all."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.Conv2d(channels, inner, 1), nn.SiLU(), nn.Conv2d(inner, channels, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x * self.gate(x.mean((2, 3), keepdim=True))
        return y


class Inverted(nn.Module):
    """Expand, depthwise, project (Sandler et al. 2018), with an excitation in EfficientNet's form (Tan & Le 2019)."""

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int, stride: int, ratio: int, act: Callable[[], nn.Module], excited: bool
    ) -> None:
        super().__init__()
        wide = inputs * ratio
        layers: list[nn.Module] = []
        if ratio != 1:
            layers += [nn.Conv2d(inputs, wide, 1, bias=False), nn.BatchNorm2d(wide), act()]
        layers += [nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False), nn.BatchNorm2d(wide), act()]
        if excited:
            layers.append(Excitation(wide, max(1, inputs // 4)))
        layers += [nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.layers = nn.Sequential(*layers)
        self.same = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.same else y


class _Stack(nn.Module):
    """A stem, stages of blocks, a pointwise layer and a classifier; a stage is (ratio, channels, blocks, stride, kernel)."""

    stages: tuple[tuple[int, int, int, int, int], ...]
    act: Callable[[], nn.Module]
    excited: bool

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        inputs, last = scaled(32, width), scaled(1280, width)
        self.stem = nn.Sequential(nn.Conv2d(3, inputs, 3, 1, 1, bias=False), nn.BatchNorm2d(inputs), self.act())
        blocks: list[nn.Module] = []
        for ratio, channels, depth, stride, kernel in self.stages:
            outputs = scaled(channels, width)
            for step in range(depth):
                form = {"kernel": kernel, "stride": 1 if step else stride, "ratio": ratio}
                blocks.append(Inverted(inputs, outputs, act=self.act, excited=self.excited, **form))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Sequential(nn.Conv2d(inputs, last, 1, bias=False), nn.BatchNorm2d(last), self.act())
        self.head = nn.Linear(last, classes)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(torch.flatten(self.last(self.blocks(self.stem(x))).mean((2, 3)), 1))
        return y

    def enlarged(self) -> None:
        """Puts back the two strides that images of 32 pixels go without: in the stem and where the third stage begins."""
        third = self.blocks[sum(depth for _, _, depth, *_ in self.stages[:2])]
        assert isinstance(third, Inverted)
        third.same = False
        deep = next(part for part in third.modules() if isinstance(part, nn.Conv2d) and part.groups > 1)
        for layer in (self.stem[0], deep):
            assert isinstance(layer, nn.Conv2d)
            layer.stride = (2, 2)


class MobileNetV2(_Stack):
    """Sandler et al. 2018; three of its five strides are left for images of 32 pixels."""

    stages = (
        (1, 16, 1, 1, 3),
        (6, 24, 2, 2, 3),
        (6, 32, 3, 1, 3),
        (6, 64, 4, 2, 3),
        (6, 96, 3, 1, 3),
        (6, 160, 3, 2, 3),
        (6, 320, 1, 1, 3),
    )
    act = nn.ReLU6
    excited = False


class EfficientNet(_Stack):
    """EfficientNet-B0 (Tan & Le 2019): excitations, SiLU, kernels of 3 and 5; three of its five strides are left."""

    stages = (
        (1, 16, 1, 1, 3),
        (6, 24, 2, 2, 3),
        (6, 40, 2, 1, 5),
        (6, 80, 3, 2, 3),
        (6, 112, 3, 1, 5),
        (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    )
    act = nn.SiLU
    excited = True
