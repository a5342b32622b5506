"""Some classes of ImageNet (Deng et al. 2009), drawn by seed, from folders by class: imagenet/train/WNID/*.JPEG, imagenet/val/WNID/*.JPEG.

The archive of the validation images is flat; sort it into folders by class first, as everybody's training code expects it.

Two hundred classes at 224 pixels are 39 GB, so decoded images are kept in a file beside the folders and read from there.
"""

import os
from pathlib import Path

import numpy as np

from bench.zoo.sets.picture import Array, files, needed, square

FOLDER, PACKED = "imagenet", "packed"
WANTED = "ImageNet in folders by class (imagenet/train/WNID/*.JPEG and imagenet/val/WNID/*.JPEG)"


def there(folder: Path) -> bool:
    """Whether the folder holds ImageNet."""
    return (folder / FOLDER).is_dir()


def read(
    folder: Path, size: int, count: int, share: float, seed: int = 0
) -> tuple[tuple[Array, Array], tuple[Array, Array], tuple[Array, Array], tuple[str, ...]]:
    """Images and labels for training, of the defender (`share` of every class's training images) and for testing, and class names.

    `count` classes are drawn by `seed`; the same ones for every size.

    Raises:
        ValueError: a folder is missing or empty, or there are fewer classes.
    """
    own = folder / FOLDER
    train, val = (needed(own / part, WANTED) for part in ("train", "val"))
    every = sorted(p.name for p in train.iterdir() if p.is_dir())
    if not 2 <= count <= len(every):
        raise ValueError(f"{count} classes of the {len(every)} in {train}; expected 2 to {len(every)}, each a folder of {WANTED}")
    rng = np.random.default_rng(seed)
    names = tuple(sorted(rng.permutation(every)[:count].tolist()))
    sides: tuple[list[tuple[Path, int]], ...] = ([], [], [])
    for c, name in enumerate(names):
        of_class = list(files(train / name))
        of_test = list(files(needed(val / name, WANTED)))
        if len(of_class) < 2 or not of_test:
            raise ValueError(f"{train / name} or {val / name} has too few images; expected {WANTED}")
        held = max(1, round(share * len(of_class)))
        order = rng.permutation(len(of_class))
        sides[1].extend((of_class[k], c) for k in sorted(order[:held]))
        sides[0].extend((of_class[k], c) for k in sorted(order[held:]))
        sides[2].extend((path, c) for path in of_test)
    images = _decoded(own / PACKED / f"{count}-of-{len(every)}-seed{seed}-{size}.npy", [path for side in sides for path, _ in side], size)
    ends = np.cumsum([0, *map(len, sides)])
    parts = [
        (images[begin:end], np.asarray([c for _, c in side], np.int64)) for begin, end, side in zip(ends[:-1], ends[1:], sides, strict=True)
    ]
    return parts[0], parts[1], parts[2], names


def _decoded(place: Path, paths: list[Path], size: int) -> Array:
    """The images of these files as a file that is read where it is needed, made at the first time and whole or not at all."""
    shape = (len(paths), size, size, 3)
    if place.exists():
        kept: Array = np.load(place, mmap_mode="r", allow_pickle=False)
        if kept.shape != shape or kept.dtype != np.uint8:
            raise ValueError(f"{place} holds {kept.shape[0]} images, the folders beside it {len(paths)}; delete it, and it is made again")
        return kept
    place.parent.mkdir(exist_ok=True)
    part = place.with_name(f"{place.stem}.{os.getpid()}.part")
    made = np.lib.format.open_memmap(part, "w+", np.uint8, shape)
    try:
        for k, path in enumerate(paths):
            made[k] = square(path, size)
        made.flush()
        os.replace(part, place)
    finally:
        part.unlink(missing_ok=True)
    return _decoded(place, paths, size)
