"""Classifiers of other kinds with random weights: what is asked of them does not depend on what they learnt."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.zoo.models import ViT
from bench.zoo.train import export_onnx

CLASSES = 20


class Bottleneck(nn.Module):
    """The block of ResNet50 (He et al. 2016)."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        sizes = ((inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1))
        self.layers = nn.ModuleList(nn.Sequential(nn.Conv2d(i, o, k, s, k // 2, bias=False), nn.BatchNorm2d(o)) for i, o, k, s in sizes)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.layers[1](F.relu(self.layers[0](x))))
        z: Tensor = F.relu(self.layers[2](y) + self.shortcut(x))
        return z


def resnet50() -> nn.Module:
    """For 224x224 images."""
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for width, depth in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for k in range(depth):
            layers.append(Bottleneck(inputs, width, 2 if not k and width > 64 else 1))
            inputs = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, CLASSES))


class Inverted(nn.Module):
    """An inverted residual with squeeze and excitation and hard-swish (Howard et al. 2019)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        wide = 4 * inputs
        self.grow = nn.Sequential(nn.Conv2d(inputs, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.Hardswish())
        self.deep = nn.Sequential(nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU6())
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(wide, 8, 1), nn.ReLU(), nn.Conv2d(8, wide, 1), nn.Hardsigmoid())
        self.shrink = nn.Sequential(nn.Conv2d(wide, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.same = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.deep(self.grow(x))
        y = self.shrink(y * self.gate(y))
        return x + y if self.same else y


def mobilenet() -> nn.Module:
    """Like MobileNetV3, for 32x32 images."""
    stem = (nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish())
    blocks = (Inverted(16, 16, 1), Inverted(16, 24, 2), Inverted(24, 24, 1), Inverted(24, 40, 2), Inverted(40, 40, 1))
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(40, 64), nn.Hardswish(), nn.Linear(64, CLASSES))
    return nn.Sequential(*stem, *blocks, *head)


# kind → how it is made, and the size of its images
KINDS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "vit": (lambda: ViT(CLASSES, 8), 32),
    "mobilenet": (mobilenet, 32),
    "resnet50": (resnet50, 224),
}


@torch.no_grad()
def write(kind: str, images: Tensor, path: Path, seed: int = 0) -> None:
    """An ONNX file of this kind, whose classes are about equally frequent among the answers to these images [N, 3, H, W]."""
    torch.manual_seed(seed)
    module = KINDS[kind][0]()
    module.train()
    module(images)  # statistics as of training
    module.eval()
    head = [m for m in module.modules() if isinstance(m, nn.Linear)][-1]
    logits = module(images)
    scale = logits.std(0).clamp_min(1e-6)
    head.weight.div_(scale[:, None])
    head.bias.copy_((head.bias - logits.mean(0)) / scale)
    export_onnx(module, path, images[:1])
