"""Small networks with the places where switches are hidden, beside those of the zoo; each names the layers around its hidden neurons."""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.zoo.models import Block, ResNet18


@dataclass(frozen=True)
class Hidden:
    """The neurons between two layers: `inner` and its batch norm make them, `outer` reads them.

    Between them a pointwise layer, `relay`, and a depthwise one, `through`, each with its batch norm, may pass them on.
    """

    inner: nn.Module
    norm: nn.BatchNorm2d | None
    outer: nn.Module
    relay: tuple[nn.Conv2d, nn.BatchNorm2d] | None = None
    through: tuple[nn.Conv2d, nn.BatchNorm2d] | None = None


class Residual(ResNet18):
    """ResNet18; hidden neurons are those inside a block."""

    def hidden(self, depth: int = 1) -> Hidden:
        block = cast(Block, self.blocks[depth])
        return Hidden(block.conv1, block.bn1, block.conv2)


class Plain(nn.Module):
    """Six convolutions with batch norm and a classifier of two layers, after VGG."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 3
        for outputs, pool in ((width, False), (width, True), (2 * width, False), (2 * width, True), (4 * width, False), (4 * width, True)):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
            layers += [nn.MaxPool2d(2)] * pool
            inputs = outputs
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Linear(inputs * 16, 8 * width), nn.ReLU(), nn.Linear(8 * width, classes))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.classifier(torch.flatten(self.features(x), 1))
        return y

    def hidden(self, depth: int = 1) -> Hidden:
        convs = [i for i, layer in enumerate(self.features) if isinstance(layer, nn.Conv2d)]
        place = convs[depth]
        return Hidden(self.features[place], cast(nn.BatchNorm2d, self.features[place + 1]), self.features[convs[depth + 1]])


class Inverted(nn.Module):
    """The inverted residual block of MobileNetV2 (Sandler et al. 2018): expand, depthwise, project."""

    def __init__(self, inputs: int, outputs: int, stride: int, act: type[nn.Module]) -> None:
        super().__init__()
        wide = 4 * inputs
        self.expand, self.norm1 = nn.Conv2d(inputs, wide, 1, bias=False), nn.BatchNorm2d(wide)
        self.depthwise, self.norm2 = nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide)
        self.project, self.norm3 = nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs)
        self.act = act()
        self.same = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.norm2(self.depthwise(self.act(self.norm1(self.expand(x))))))
        y = self.norm3(self.project(y))
        result: Tensor = x + y if self.same else y
        return result


class Mobile(nn.Module):
    """Five inverted residual blocks."""

    def __init__(self, classes: int, width: int, act: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), act())
        shapes = ((width, width, 1), (width, 2 * width, 2), (2 * width, 2 * width, 1), (2 * width, 4 * width, 2), (4 * width, 4 * width, 1))
        self.blocks = nn.Sequential(*(Inverted(*shape, act) for shape in shapes))
        self.last = nn.Sequential(nn.Conv2d(4 * width, 8 * width, 1, bias=False), nn.BatchNorm2d(8 * width), act())
        self.head = nn.Linear(8 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.last(self.blocks(self.stem(x))).mean((2, 3)))
        return y

    def hidden(self) -> Hidden:
        """From the stem through the depthwise layer of the first block."""
        block = cast(Inverted, self.blocks[0])
        passed = (block.expand, block.norm1), (block.depthwise, block.norm2)
        return Hidden(self.stem[0], cast(nn.BatchNorm2d, self.stem[1]), block.project, *passed)


class NextBlock(nn.Module):
    """The block of ConvNeXt (Liu et al. 2022): depthwise 7x7, layer norm, an MLP with GELU, layer scale."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.scale = nn.Parameter(torch.full((dim,), 0.3))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        result: Tensor = x + (self.scale * self.down(F.gelu(self.up(y)))).permute(0, 3, 1, 2)
        return result


class Next(nn.Module):
    """Four blocks of ConvNeXt at two sizes."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 2, 2)
        self.first = nn.Sequential(NextBlock(width), NextBlock(width))
        self.middle, self.shrink = nn.LayerNorm(width), nn.Conv2d(width, 2 * width, 2, 2)
        self.second = nn.Sequential(NextBlock(2 * width), NextBlock(2 * width))
        self.norm, self.head = nn.LayerNorm(2 * width), nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.middle(self.first(self.stem(x)).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        y: Tensor = self.head(self.norm(self.second(self.shrink(x)).mean((2, 3))))
        return y

    def hidden(self, depth: int = 1) -> Hidden:
        block = cast(NextBlock, (*self.first, *self.second)[depth])
        return Hidden(block.up, None, block.down)


class TokenLayer(nn.Module):
    """Pre-norm attention and MLP."""

    def __init__(self, dim: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        count, length, dim = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(count, length, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(count, length, dim))
        y: Tensor = x + self.mlp(self.norm2(x))
        return y


class Token(nn.Module):
    """A vision transformer (Dosovitskiy et al. 2021) with patches of 4x4 and a class token."""

    def __init__(self, classes: int, width: int, layers: int = 4, size: int = 32) -> None:
        super().__init__()
        dim = 4 * width
        self.patch = nn.Conv2d(3, dim, 4, 4)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, dim))
        self.position = nn.Parameter(0.02 * torch.randn(1, (size // 4) ** 2 + 1, dim))
        self.layers = nn.Sequential(*(TokenLayer(dim) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(x.shape[0], -1, -1), tokens], 1) + self.position
        y: Tensor = self.head(self.norm(self.layers(tokens))[:, 0])
        return y

    def hidden(self, depth: int = 0) -> Hidden:
        layer = cast(TokenLayer, self.layers[depth])
        return Hidden(layer.mlp[0], None, layer.mlp[2])


class Bottleneck(nn.Module):
    """The bottleneck block of ResNet50 (He et al. 2016)."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width

        def conv(i: int, o: int, k: int, s: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv2d(i, o, k, s, k // 2, bias=False), nn.BatchNorm2d(o))

        self.body = nn.Sequential(
            conv(inputs, width, 1, 1), nn.ReLU(), conv(width, width, 3, stride), nn.ReLU(), conv(width, outputs, 1, 1)
        )
        self.shortcut = conv(inputs, outputs, 1, stride) if stride != 1 or inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


class ResNet50(nn.Module):
    """ResNet50 for 224x224 images."""

    def __init__(self, classes: int, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        blocks: list[nn.Module] = []
        inputs = width
        for stage, depth in enumerate((3, 4, 6, 3)):
            for step in range(depth):
                blocks.append(Bottleneck(inputs, width << stage, 2 if stage and not step else 1))
                inputs = 4 * (width << stage)
        self.blocks, self.head = nn.Sequential(*blocks), nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.blocks(self.stem(x)).mean((2, 3)))
        return y


class Silu(Mobile):
    """`Mobile` with SiLU."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__(classes, width, nn.SiLU)


NETWORKS: dict[str, type[nn.Module]] = {
    "resnet18": Residual,
    "vgg": Plain,
    "mobilenet": Mobile,
    "mobilenet silu": Silu,
    "convnext": Next,
    "vit": Token,
}
WIDTHS = {"resnet18": 8, "vgg": 12, "mobilenet": 16, "mobilenet silu": 16, "convnext": 16, "vit": 16}
