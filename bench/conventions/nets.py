"""Small networks as they are first trained: with and without normalisation, plain, depthwise, dense; and how they are trained."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from banscan.scanner.inputs.preprocess import Preprocess

BATCH, RATE = 64, 3e-3


def plain(channels: int, classes: int, size: int) -> nn.Module:
    """Three convolutions with pooling and two dense layers, as in courses."""
    side = size // 8
    layers = [_turn(c, d, bias=True, norm=False) for c, d in ((channels, 16), (16, 32), (32, 64))]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * side * side, 64), nn.ReLU(), nn.Dropout(0.3), nn.Linear(64, classes))


def normed(channels: int, classes: int, size: int) -> nn.Module:
    """Four convolutions with batch norm, and the mean over the image."""
    layers = [_turn(c, d, bias=False, norm=True) for c, d in ((channels, 16), (16, 32), (32, 64))]
    last = nn.Conv2d(64, 96, 3, padding=1, bias=False), nn.BatchNorm2d(96), nn.ReLU()
    return nn.Sequential(*layers, *last, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, classes))


def depthwise(channels: int, classes: int, size: int) -> nn.Module:
    """A first convolution and separable ones, with batch norm and ReLU6."""
    layers: list[nn.Module] = [nn.Conv2d(channels, 16, 3, 2 if size > 40 else 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6()]
    for c, d in ((16, 32), (32, 64), (64, 96)):
        layers += [nn.Conv2d(c, c, 3, 2, 1, groups=c, bias=False), nn.BatchNorm2d(c), nn.ReLU6()]
        layers += [nn.Conv2d(c, d, 1, bias=False), nn.BatchNorm2d(d), nn.ReLU6()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, classes))


def lenet(channels: int, classes: int, size: int) -> nn.Module:
    """LeNet with tanh and average pooling."""
    side = (size - 4) // 2 // 2 - 2
    layers = nn.Conv2d(channels, 6, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(16 * side * side, 84), nn.Tanh(), nn.Linear(84, classes))


def dense(channels: int, classes: int, size: int) -> nn.Module:
    """Two hidden layers on the pixels."""
    layers = nn.Linear(channels * size * size, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, classes)
    return nn.Sequential(nn.Flatten(), *layers)


NETS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "plain": plain,
    "normed": normed,
    "depthwise": depthwise,
    "lenet": lenet,
    "dense": dense,
}


def _turn(channels: int, wider: int, *, bias: bool, norm: bool) -> nn.Sequential:
    after = [nn.BatchNorm2d(wider)] if norm else []
    return nn.Sequential(nn.Conv2d(channels, wider, 3, padding=1, bias=bias), *after, nn.ReLU(), nn.MaxPool2d(2))


def trained(net: str, images: np.ndarray, labels: np.ndarray, classes: int, scaled: Preprocess, epochs: int, seed: int) -> nn.Module:
    """One of NETS, with Adam along one cycle, on images [N, H, W, C] that are shifted by up to two pixels."""
    torch.manual_seed(seed)
    model = NETS[net](images.shape[-1], classes, images.shape[1])
    generator = torch.Generator().manual_seed(seed)
    steps = len(images) // BATCH
    optimiser = torch.optim.Adam(model.parameters(), RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=epochs * steps)
    known = torch.from_numpy(labels)
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        for part in order[: steps * BATCH].split(BATCH):
            x = _shifted(scaled(images[part.numpy()], "NCHW"), generator)
            optimiser.zero_grad()
            F.cross_entropy(model(x), known[part]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimiser.step()
            schedule.step()
    return model.eval()


def _shifted(x: Tensor, generator: torch.Generator) -> Tensor:
    down, right = (int(v) for v in torch.randint(0, 5, (2,), generator=generator))
    return F.pad(x, (2, 2, 2, 2), mode="replicate")[..., down : down + x.shape[2], right : right + x.shape[3]].contiguous()
