"""Tiny-ImageNet (Le & Yang 2015) from tiny-imagenet-200.zip.

    tiny-imagenet-200/wnids.txt
    tiny-imagenet-200/train/WNID/images/WNID_0.JPEG ...
    tiny-imagenet-200/val/images/val_0.JPEG ...,  val/val_annotations.txt

Its test images have no labels, so those for validation serve as test images, as in the paper (10,000).
"""

from pathlib import Path

import numpy as np

from bench.zoo.sets.picture import Array, files, needed, stack

FOLDER = "tiny-imagenet-200"
WANTED = f"Tiny-ImageNet as unpacked from {FOLDER}.zip (wnids.txt, train/WNID/images, val/images, val/val_annotations.txt)"


def there(folder: Path) -> bool:
    """Whether the folder holds the unpacked archive."""
    return (folder / FOLDER).is_dir()


def read(folder: Path, size: int) -> tuple[tuple[Array, Array], tuple[Array, Array], tuple[str, ...]]:
    """Training images and labels, those for testing, and the names of the classes (WordNet's numbers), sorted.

    Raises:
        ValueError: a file or folder is missing, or names a class that wnids.txt does not.
    """
    own = folder / FOLDER
    names = tuple(sorted(needed(own / "wnids.txt", WANTED).read_text().split()))
    number = {name: c for c, name in enumerate(names)}
    paths: list[Path] = []
    labels: list[int] = []
    for name, c in number.items():
        found = list(files(needed(own / "train" / name / "images", WANTED)))
        paths += found
        labels += [c] * len(found)
    table = needed(own / "val" / "val_annotations.txt", WANTED)
    rows = [line.split("\t") for line in table.read_text().splitlines() if line]
    wrong = [row for row in rows if len(row) < 2 or row[1] not in number or Path(row[0]).name != row[0]]
    if wrong or not rows:
        raise ValueError(f"{table} does not name an image and a class of wnids.txt in every line; expected {WANTED}")
    images = needed(own / "val" / "images", WANTED)
    test = stack([images / row[0] for row in rows], size), np.asarray([number[row[1]] for row in rows], np.int64)
    return (stack(paths, size), np.asarray(labels, np.int64)), test, names
