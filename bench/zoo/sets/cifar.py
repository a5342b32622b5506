"""CIFAR-10 (Krizhevsky 2009) from its binary version, `cifar-10-batches-bin` of cifar-10-binary.tar.gz.

The Python version holds pickles, which run code when they are read, so it is not read.
"""

from pathlib import Path

import numpy as np

from bench.zoo.sets.picture import Array, needed

FOLDER, PICKLED = "cifar-10-batches-bin", "cifar-10-batches-py"
TRAIN = tuple(f"data_batch_{k}.bin" for k in range(1, 6))
TEST = ("test_batch.bin",)
SIDE, CLASSES = 32, 10
# a record is a label and three planes of pixels
RECORD = 1 + 3 * SIDE * SIDE
WANTED = f"the binary version of CIFAR-10 (cifar-10-binary.tar.gz, unpacked to {FOLDER})"


def there(folder: Path) -> bool:
    """Whether the folder holds the data set in any version."""
    return (folder / FOLDER).is_dir() or (folder / PICKLED).is_dir()


def read(folder: Path) -> tuple[tuple[Array, Array], tuple[Array, Array], tuple[str, ...]]:
    """Training images and labels, those for testing, and the names of the classes.

    Raises:
        ValueError: only the pickled version is there, or a file is missing or not whole.
    """
    own = folder / FOLDER
    if not own.is_dir():
        raise ValueError(f"{folder / PICKLED} holds Python pickles, which can run code and are not read; expected {WANTED}")
    names = tuple(needed(own / "batches.meta.txt", WANTED).read_text().split())
    if len(names) != CLASSES:
        raise ValueError(f"{own / 'batches.meta.txt'} names {len(names)} classes; expected {CLASSES} of {WANTED}")
    return _batches(own, TRAIN), _batches(own, TEST), names


def _batches(folder: Path, names: tuple[str, ...]) -> tuple[Array, Array]:
    parts = []
    for name in names:
        content = np.fromfile(needed(folder / name, WANTED), np.uint8)
        if not len(content) or len(content) % RECORD or content[::RECORD].max() >= CLASSES:
            raise ValueError(f"{folder / name} does not hold records of {RECORD} bytes with labels below {CLASSES}; expected {WANTED}")
        parts.append(content.reshape(-1, RECORD))
    records = np.concatenate(parts)
    images = records[:, 1:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), records[:, 0].astype(np.int64)
