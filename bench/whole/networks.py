"""Networks for 224x224 images that the zoo, which trains on 32x32, does not have."""

import torch
from torch import Tensor, nn

from bench.zoo.mobile import MobileNetV2, scaled
from bench.zoo.models import ViTLayer


class MobileNetV2At224(MobileNetV2):
    """MobileNetV2 (Sandler et al. 2018) with all five of its strides; width 64 is the paper's."""

    stages = (
        (1, 16, 1, 1, 3),
        (6, 24, 2, 2, 3),
        (6, 32, 3, 2, 3),
        (6, 64, 4, 2, 3),
        (6, 96, 3, 1, 3),
        (6, 160, 3, 2, 3),
        (6, 320, 1, 1, 3),
    )

    def __init__(self, classes: int, width: int) -> None:
        super().__init__(classes, width)
        self.stem[0] = nn.Conv2d(3, scaled(32, width), 3, 2, 1, bias=False)


class ViTSmall16(nn.Module):
    """ViT-S/16 (Touvron et al. 2021): 196 patches and a class token, twelve layers of dimension 6 * `width`; 64 is the paper's."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        dim = 6 * width
        self.patches = nn.Conv2d(3, dim, 16, 16)
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, dim))
        self.position = nn.Parameter(0.02 * torch.randn(1, 197, dim))
        layers = [ViTLayer(dim, heads=6) for _ in range(12)]
        for layer in layers:
            layer.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.layers, self.norm, self.head = nn.Sequential(*layers), nn.LayerNorm(dim), nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.token.expand(len(x), -1, -1), tokens), 1) + self.position
        y: Tensor = self.head(self.norm(self.layers(tokens))[:, 0])
        return y
