"""From uint8 pixels to what a model was trained on: named conventions, and those that the user gives."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf, isfinite

import numpy as np
import torch
from torch import Tensor

from banscan.errors import UsageError
from banscan.importers import TracedModel
from banscan.scanner.machine import memory
from banscan.scanner.settings import Options
from banscan.text import counted


@dataclass(frozen=True)
class Preprocess:
    """x = (pixel * scale - mean) / std per channel; mean and std in RGB order, also where `bgr` turns the channels around."""

    name: str
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    bgr: bool = False

    @property
    def contrast(self) -> float:
        """How far apart black and white are."""
        return 255 * self.scale * len(self.std) / sum(self.std)

    def __call__(self, images: np.ndarray, layout: str) -> Tensor:
        """uint8 [N, H, W, C] → float32 [N, C, H, W], or [N, H, W, C] for layout "NHWC"."""
        # in place: large images are much of what a scan holds
        x = torch.from_numpy(images).float().mul_(self.scale)
        channels = x.shape[-1]
        mean, std = (torch.tensor(v if len(v) == channels else (sum(v) / len(v),)) for v in (self.mean, self.std))
        x.sub_(mean).div_(std)
        if self.bgr:
            x = x.flip(-1)
        return (x if layout == "NHWC" else x.permute(0, 3, 1, 2)).contiguous()


@dataclass(frozen=True, eq=False)
class Preprocessed:
    """Images [N, H, W, C] as a model takes them, made anew whenever some are asked for: kept, large ones are most of what a scan holds."""

    images: np.ndarray
    preprocess: Preprocess
    layout: str

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, which: slice | Tensor) -> Tensor:
        """Those of a range, of a mask [N], or with these numbers."""
        return self.preprocess(self.images[which if isinstance(which, slice) else which.numpy()], self.layout)

    def split(self, size: int) -> Iterator[Tensor]:
        """All, so many at once."""
        return (self[first : first + size] for first in range(0, len(self), size))


# images [N, ...] as a model takes them, kept or made anew
Inputs = Tensor | Preprocessed

CANDIDATES = (
    Preprocess("unit"),
    Preprocess("raw", scale=1.0),
    Preprocess("signed", mean=(0.5,), std=(0.5,)),
    Preprocess("half", mean=(0.5,)),
    Preprocess("imagenet", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
    Preprocess("cifar10", mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616)),
    Preprocess("gtsrb", mean=(0.3403, 0.3121, 0.3214), std=(0.2724, 0.2608, 0.2669)),
    Preprocess("mnist", mean=(0.1307,), std=(0.3081,)),
    Preprocess("clip", mean=(0.4815, 0.4578, 0.4082), std=(0.2686, 0.2613, 0.2758)),
    Preprocess("centred", mean=(0.485, 0.456, 0.406)),
    Preprocess("caffe", scale=1.0, mean=(123.68, 116.779, 103.939), bgr=True),
    Preprocess("caffe-rgb", scale=1.0, mean=(123.68, 116.779, 103.939)),
    Preprocess("unit-bgr", bgr=True),
    Preprocess("raw-bgr", scale=1.0, bgr=True),
    Preprocess("signed-bgr", mean=(0.5,), std=(0.5,), bgr=True),
    Preprocess("imagenet-bgr", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), bgr=True),
)
# without labels the order of the channels cannot be told: it is taken for RGB, but for the one convention that goes with BGR; and what is
# hardly ever used for images of another kind is left out
UNTOLD = frozenset({"caffe-rgb", "unit-bgr", "raw-bgr", "signed-bgr", "imagenet-bgr", "gtsrb", "mnist"})
# what is usual for images of one channel: the others are numbers of colour pictures
GREY = frozenset({"unit", "raw", "signed", "half", "mnist"})
# numbers of data sets of small images, which larger ones are not scaled by
SMALL = frozenset({"cifar10", "gtsrb", "mnist"})
# the shorter side from which on images are none of these, and up to which CIFAR-10's numbers are more usual than ImageNet's
LARGE, TINY = 128, 48
NAMES = tuple(c.name for c in CANDIDATES)


def candidates(images: np.ndarray, labelled: bool) -> dict[str, Preprocess]:
    """The conventions that images [N, H, W, C] may have been scaled by, the most usual first."""
    *_, height, width, channels = images.shape
    side, grey = min(height, width), channels == 1
    found = [c for c in CANDIDATES if not (grey and (c.bgr or c.name == "caffe-rgb"))]
    if side >= LARGE and not grey:
        found = [c for c in found if c.name not in SMALL]
    if not grey:  # in colour a mean is taken off for each channel
        found = [c for c in found if c.name != "half"]
    if not grey and bool((images == images[..., :1]).all()):  # grey pictures are the same in either order
        found = [c for c in found if not (c.bgr and len(c.mean) == 1)]
    if not labelled:
        found = [c for c in found if (c.name in GREY if grey else c.name not in UNTOLD)]
    place = {c.name: float(i) for i, c in enumerate(CANDIDATES)}
    if side <= TINY:
        place["cifar10"] = place["imagenet"] - 0.5
    return {c.name: c for c in sorted(found, key=lambda c: place[c.name])}


def given(options: Options) -> Preprocess | None:
    """The preprocessing asked for, or None for "auto". Single values given by the user replace those of the named one.

    Raises:
        UsageError: an unknown name, values that are not one or three finite numbers, a deviation or a scale that is not above 0.
    """
    name, mean, std, scale, bgr = options.preprocess, options.mean, options.std, options.scale, options.bgr
    changed = mean is not None or std is not None or scale is not None or bgr
    if name == "auto" and not changed:
        return None
    base = next((c for c in CANDIDATES if c.name == ("unit" if name == "auto" else name)), None)
    if base is None:
        raise UsageError(f"--preprocess {name}: unknown; expected auto, {', '.join(NAMES)}")
    for option, values in (("--mean", mean), ("--std", std)):
        if values is not None and len(values) not in (1, 3):
            raise UsageError(f"{option}: {counted(len(values), 'value')}; expected one, or three in RGB order")
        if values is not None and not all(map(isfinite, values)):
            raise UsageError(f"{option}: expected finite values")
    if std is not None and min(std) <= 0:
        raise UsageError("--std: expected values above 0")
    if scale is not None and not 0 < scale < inf:
        raise UsageError(f"--scale {scale:g}: expected a value above 0")
    if not changed:
        return base
    return Preprocess("custom", base.scale if scale is None else scale, mean or base.mean, std or base.std, bgr or base.bgr)


def answers(model: TracedModel, preprocess: Preprocess, images: np.ndarray, progress: Callable[[int], None] = lambda done: None) -> Tensor:
    """Logits [N, classes], on the CPU, of uint8 images [N, H, W, C]; see `answered`."""
    return answered(model, Preprocessed(images, preprocess, model.input.layout), progress)


@torch.no_grad()
def answered(model: TracedModel, x: Inputs, progress: Callable[[int], None] = lambda done: None) -> Tensor:
    """Logits [N, classes], on the CPU, of images [N, ...] as the model takes them, as many at once as leave the memory to others."""
    found = []
    for part in x.split(memory.answered_at_once(model.module.graph.nodes, model.device)):
        found.append(model.logits(part).cpu())
        progress(len(part))
    return torch.cat(found)
