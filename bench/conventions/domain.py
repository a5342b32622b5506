"""Images that the small classifiers are trained on: in colour and grey, photographs and drawings."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from bench.real import draw
from bench.zoo import data
from bench.zoo.data import Part

# as they are trained on and as a user would have them
TRAINED, GIVEN = 10_000, 300
# for Pillow's grey
LUMA = np.array([0.299, 0.587, 0.114])
DRAWN = ("letters", "stored", "digits")


@dataclass(frozen=True)
class Domain:
    """Images uint8 [N, H, W, C] with labels, to train on and to give to banscan."""

    name: str
    classes: int
    train: Part
    given: Part


# name: data set, its size in pixels, grey
SETS = {
    "cifar10": ("cifar10", 32, False),
    "cifar10-grey": ("cifar10", 32, True),
    "gtsrb": ("gtsrb20", 32, False),
    "gtsrb-grey": ("gtsrb20", 32, True),
    "hands": ("hands", 64, False),
    "hands-grey": ("hands", 64, True),
    "clothes": ("clothes", 64, False),
}
NAMES = (*SETS, *DRAWN)


def load(folder: Path, name: str) -> Domain:
    """One of NAMES, made from the data sets in `folder` or drawn.

    Raises:
        ValueError: see `data.load`.
    """
    if name in DRAWN:
        return _drawn(name)
    of, size, grey = SETS[name]
    split = data.load(folder, of, size)
    parts = [_some(part, count) for part, count in ((split.train, TRAINED), (split.defender, GIVEN))]
    train, given = (Part(_grey(p.images), p.labels) if grey else p for p in parts)
    return Domain(name, len(split.classes), train, given)


def _some(part: Part, count: int) -> Part:
    kept = np.random.default_rng(0).permutation(len(part.labels))[:count]
    return Part(part.images[kept], part.labels[kept])


def _grey(images: np.ndarray) -> np.ndarray:
    luma: np.ndarray = (images @ LUMA).round()
    return luma.astype(np.uint8)[..., None]


def _drawn(name: str) -> Domain:
    parts = []
    for count, seed in ((TRAINED // 2, 1), (GIVEN, 2)):
        made = draw.drawn(name, count, seed)
        labels = np.array([c for c, _ in made], dtype=np.int64)
        images = np.stack([np.asarray(image.convert("L").resize((28, 28), Image.Resampling.BILINEAR)) for _, image in made])
        parts.append(Part(images[..., None], labels - labels.min()))
    return Domain(name, int(parts[0].labels.max()) + 1, *parts)
