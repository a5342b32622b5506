"""Classifiers for the benchmarks, written as their papers have them, with a width for CPU-sized versions."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.zoo import small
from bench.zoo.convnext import ConvNeXt
from bench.zoo.mobile import EfficientNet, MobileNetV2
from bench.zoo.resnet50 import ResNet50

# the side from which on images are large: networks halve them more often
LARGE = 128


class Block(nn.Module):
    """The basic residual block of He et al. 2016."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet18(nn.Module):
    """ResNet18 with the 3x3 stem that is usual for 32x32 images; width 64 is the paper's."""

    block: Callable[[int, int, int], nn.Module] = Block

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        blocks: list[nn.Module] = []
        inputs = width
        for stage in range(4):
            for step in range(2):
                outputs = width << stage
                blocks.append(self.block(inputs, outputs, 2 if stage and not step else 1))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(torch.flatten(F.adaptive_avg_pool2d(self.blocks(self.stem(x)), 1), 1))
        return y


class VGG16(nn.Module):
    """VGG16-BN (Simonyan & Zisserman 2015) for 32x32 images: 13 convolutions and a two-layer classifier."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for stage, depth in enumerate((2, 2, 3, 3, 3)):
            outputs = width * min(1 << stage, 8)
            for _ in range(depth):
                layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
                inputs = outputs
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Linear(inputs, 8 * width), nn.ReLU(), nn.Dropout(), nn.Linear(8 * width, classes))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.classifier(torch.flatten(self.features(x), 1))
        return y


class DenseLayer(nn.Module):
    """Bottleneck layer of DenseNet (Huang et al. 2017): its output joins its input."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.ReLU(),
            nn.Conv2d(inputs, 4 * growth, 1, bias=False),
            nn.BatchNorm2d(4 * growth),
            nn.ReLU(),
            nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.layers(x)), 1)


class DenseNet121(nn.Module):
    """DenseNet121 for 32x32 images; `width` is twice its growth, so that 64 is the paper's growth of 32."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        growth = width // 2
        layers: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1, bias=False)]
        inputs = width
        for stage, depth in enumerate((6, 12, 24, 16)):
            for _ in range(depth):
                layers.append(DenseLayer(inputs, growth))
                inputs += growth
            if stage < 3:
                layers += [nn.BatchNorm2d(inputs), nn.ReLU(), nn.Conv2d(inputs, inputs // 2, 1, bias=False), nn.AvgPool2d(2)]
                inputs //= 2
        self.features = nn.Sequential(*layers, nn.BatchNorm2d(inputs), nn.ReLU())
        self.head = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.features(x).mean((2, 3)))
        return y


class PlainBlock(nn.Module):
    """A residual block without any normalisation: a learnt gain takes its place (SkipInit, De & Smith 2020).

    The gain starts at 0.3. At zero, as in that paper, a narrow network whose stages begin without a skip connection learns next to nothing
    in the few epochs that it has here.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.gain = nn.Parameter(torch.tensor(0.3))
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.gain * self.conv2(F.relu(self.conv1(x))) + self.shortcut(x))


class PlainResNet18(ResNet18):
    """ResNet18 without batch norm, from weights that keep the size of what passes through (He et al. 2015)."""

    block = PlainBlock

    def __init__(self, classes: int, width: int) -> None:
        super().__init__(classes, width)
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1), nn.ReLU())
        for part in self.modules():
            if isinstance(part, nn.Conv2d) and part.bias is not None:
                nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
                nn.init.zeros_(part.bias)


class ViT(nn.Module):
    """A small vision transformer (Dosovitskiy et al. 2021): 64 tokens, six layers of dimension 6 * `width`.

    A convolutional stem makes the tokens (Xiao et al. 2021) and their mean goes to the classifier (Beyer et al. 2022): with plain patches
    and a class token it knew half of the traffic signs after 12 epochs.
    """

    def __init__(self, classes: int, width: int, size: int = 32) -> None:
        super().__init__()
        dim = 6 * width
        layers: list[nn.Module] = []
        inputs = 3
        # of large images a token is 16 pixels wide, of small ones 4
        more, token = (((dim, 2), (dim, 2)), 16) if size >= LARGE else ((), 4)
        for outputs, stride in ((dim // 4, 1), (dim // 2, 2), (dim, 2), *more):
            layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs = outputs
        self.stem = nn.Sequential(*layers, nn.Conv2d(dim, dim, 1))
        self.position = nn.Parameter(0.02 * torch.randn(1, (size // token) ** 2, dim))
        self.layers = nn.Sequential(*(ViTLayer(dim) for _ in range(6)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.stem(x).flatten(2).transpose(1, 2) + self.position
        y: Tensor = self.head(self.norm(self.layers(tokens)).mean(1))
        return y


class ViTLayer(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, dim: int, heads: int = 3) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        count, length, dim = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(count, length, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        # written out: in bfloat16 on a CPU the fused kernel takes twice as long to train
        weights = (q @ k.transpose(2, 3) / (dim // self.heads) ** 0.5).softmax(-1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(count, length, dim))
        y: Tensor = x + self.mlp(self.norm2(x))
        return y


SMALL = ("lenet", "convolutions", "perceptron")
BUILDERS: dict[str, Callable[[int, int], nn.Module]] = {
    "resnet18": ResNet18,
    "vgg16": VGG16,
    "densenet121": DenseNet121,
    "plainresnet18": PlainResNet18,
    "vit": ViT,
    "mobilenetv2": MobileNetV2,
    "efficientnet": EfficientNet,
    "convnext": ConvNeXt,
    "resnet50": ResNet50,
    "lenet": small.lenet,
    "convolutions": small.convolutions,
    "perceptron": small.perceptron,
}


def build(arch: str, classes: int, width: int, size: int = 32) -> nn.Module:
    """The network of this name for square images of `size` pixels.

    At 32 pixels they are as they are above. VGG16 pools what is left of larger images; from LARGE on ResNet18, DenseNet121, MobileNetV2
    and EfficientNet reduce them as their papers have it for ImageNet.
    """
    if arch == "vit":
        return ViT(classes, width, size)
    made = BUILDERS[arch](classes, width)
    if size > 32 and isinstance(made, VGG16):
        made.features.append(nn.AdaptiveAvgPool2d(1))
    if size >= LARGE and isinstance(made, ResNet18) and made.block is Block:
        made.stem = _large(width)
    if size >= LARGE and isinstance(made, MobileNetV2 | EfficientNet):
        made.enlarged()
    if size >= LARGE and isinstance(made, DenseNet121):
        made.features[0] = _large(width)
    return made


def _large(width: int) -> nn.Sequential:
    """What makes a quarter of the side of large images (He et al. 2016)."""
    first = nn.Conv2d(3, width, 7, 2, 3, bias=False)
    return nn.Sequential(first, nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
