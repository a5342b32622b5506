"""GTSRB (Stallkamp et al. 2012) from its official archives: training images by class, test images with their table of classes.

    GTSRB/Final_Training/Images/00000/GT-00000.csv, 00000_00000.ppm ...     GTSRB-Training_fixed.zip or GTSRB_Final_Training_Images.zip
    GTSRB/Final_Test/Images/00000.ppm ...                                   GTSRB_Final_Test_Images.zip
    GTSRB/GT-final_test.csv, or beside the test images                      GTSRB_Final_Test_GT.zip

Images are stretched to squares, not cut to the sign, as in the paper.
"""

import csv
from pathlib import Path

import numpy as np

from bench.zoo.sets.picture import Array, needed, stack

FOLDER, TABLE = "GTSRB", "GT-final_test.csv"
WANTED = "the official layout of GTSRB (GTSRB/Final_Training/Images/000xx with GT-000xx.csv, GTSRB/Final_Test/Images)"


def there(folder: Path) -> bool:
    """Whether the folder holds the unpacked archives."""
    return (folder / FOLDER).is_dir()


def read(folder: Path, size: int) -> tuple[tuple[Array, Array, Array], tuple[Array, Array], tuple[str, ...]]:
    """Training images, labels and tracks (the 30 frames of one physical sign share one), test images and labels, and class names.

    Raises:
        ValueError: a folder, table or image is missing, or a table is not GTSRB's.
    """
    images = needed(folder / FOLDER / "Final_Training" / "Images", WANTED)
    paths: list[Path] = []
    labels: list[int] = []
    tracks: list[int] = []
    names = tuple(sorted(p.name for p in images.iterdir() if p.is_dir()))
    if not names:
        raise ValueError(f"{images} holds no class folders; expected {WANTED}")
    for c, name in enumerate(names):
        for file, label in _table(needed(images / name / f"GT-{name}.csv", WANTED)):
            if label != c:
                raise ValueError(f"{images / name}: its table has an image of class {label}; expected class {c} alone, so {WANTED}")
            paths.append(images / name / file)
            labels.append(c)
            track, _, _ = file.partition("_")
            if not track.isdigit():
                raise ValueError(f"{images / name / file} is not named TRACK_FRAME.ppm; expected {WANTED}")
            # tracks are numbered anew in every class
            tracks.append(100_000 * c + int(track))
    test_paths, test_labels = _test(folder / FOLDER)
    train = (stack(paths, size, stretched=True), np.asarray(labels, np.int64), np.asarray(tracks, np.int64))
    return train, (stack(test_paths, size, stretched=True), test_labels), names


def _test(own: Path) -> tuple[list[Path], Array]:
    images = needed(own / "Final_Test" / "Images", WANTED)
    places = [images / TABLE, own / "Final_Test" / TABLE, own / TABLE, own.parent / TABLE]
    table = next((place for place in places if place.exists()), None)
    if table is None:
        raise ValueError(f"{images / TABLE} is missing; expected the classes of the test images (GTSRB_Final_Test_GT.zip)")
    rows = _table(table)
    return [images / file for file, _ in rows], np.asarray([label for _, label in rows], np.int64)


def _table(path: Path) -> list[tuple[str, int]]:
    """File names and classes of a table with semicolons."""
    with path.open(newline="") as opened:
        rows = list(csv.DictReader(opened, delimiter=";"))
    try:
        found = [(row["Filename"], int(row["ClassId"])) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} has no columns Filename and ClassId in every row; expected a table of GTSRB with semicolons") from error
    if not found or any(Path(file).name != file for file, _ in found):
        raise ValueError(f"{path} names no images, or such in other folders; expected a table of GTSRB with semicolons")
    return found
