"""ConvNeXt (Liu et al. 2022) for 32x32 images."""

import torch
from torch import Tensor, nn


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of maps [N, C, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class NextBlock(nn.Module):
    """Depthwise 7x7, layer norm, an MLP with GELU, and a learnt scale for every channel."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        # 1e-6 in the paper, for hundreds of epochs
        self.scale = nn.Parameter(torch.full((dim,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.scale * self.mlp(self.norm(self.depthwise(x).permute(0, 2, 3, 1)))
        result: Tensor = x + y.permute(0, 3, 1, 2)
        return result


class ConvNeXt(nn.Module):
    """The smallest published depth, 2, 2, 6 and 2 blocks; width 40 is that version's (Atto).

    The stem reads patches of 2x2 behind a convolution: of the image itself it knew half of the traffic signs after eight epochs.
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        first = nn.Sequential(nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        layers: list[nn.Module] = [first, nn.Conv2d(width, width, 2, 2), ChannelNorm(width)]
        for stage, depth in enumerate((2, 2, 6, 2)):
            dim = width << stage
            if stage:
                layers += [ChannelNorm(dim // 2), nn.Conv2d(dim // 2, dim, 2, 2)]
            layers += [NextBlock(dim) for _ in range(depth)]
        self.features = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, classes)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.norm(self.features(x).mean((2, 3))))
        return y
