"""Image folders: labels, formats, sizes, bad files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from banscan import UsageError
from banscan.importers import Input
from banscan.scanner.inputs import images
from banscan.scanner.settings import Options

SPEC = Input("x", "NCHW", 3, 16, 16)


def picture(path: Path, value: int = 100, size: tuple[int, int] = (16, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 0, 255 - value)).save(path)


def test_numbered_folders(tmp_path: Path) -> None:
    for c in (0, 3, 12):
        picture(tmp_path / f"{c:03d}" / "a.png", c)
    clean = images.load(tmp_path, SPEC, 20, Options())
    assert clean.labels is not None
    assert clean.labels.tolist() == [0, 3, 12]
    assert clean.images.shape == (3, 16, 16, 3)
    assert [int(i[0, 0, 0]) for i in clean.images] == [0, 3, 12]


def test_named_folders(tmp_path: Path) -> None:
    for name in ("dog", "cat"):
        picture(tmp_path / "imgs" / name / "a.png")
    names = tmp_path / "names.txt"
    names.write_text("dog\n\ncat\n")
    by_file = images.load(tmp_path / "imgs", SPEC, 2, Options(classes=names))
    by_order = images.load(tmp_path / "imgs", SPEC, 2, Options())
    assert by_file.labels is not None
    assert by_order.labels is not None
    assert by_file.labels.tolist() == [1, 0]
    assert by_order.labels.tolist() == [0, 1]
    assert "sorted" in by_order.labelled_by
    with pytest.raises(UsageError, match="2 class folders for a model of 5"):
        images.load(tmp_path / "imgs", SPEC, 5, Options())
    names.write_text("dog\nbird\n")
    with pytest.raises(UsageError, match="'cat' is not in it"):
        images.load(tmp_path / "imgs", SPEC, 2, Options(classes=names))


def test_number_beyond_the_classes(tmp_path: Path) -> None:
    picture(tmp_path / "10" / "a.png")
    with pytest.raises(UsageError, match="'10' is no class"):
        images.load(tmp_path, SPEC, 10, Options())


def test_flat_folder_and_table(tmp_path: Path) -> None:
    folder = tmp_path / "flat"
    for i in range(3):
        picture(folder / f"{i}.jpg")
    assert images.load(folder, SPEC, 5, Options()).labels is None
    table = tmp_path / "labels.csv"
    table.write_text("file,label\n0.jpg,4\n1.jpg,2\n2.jpg,0\n")
    clean = images.load(folder, SPEC, 5, Options(labels=table))
    table.write_text("0.jpg,4\n1.jpg,2\n2.jpg,0\n", encoding="utf-8-sig")
    assert images.load(folder, SPEC, 5, Options(labels=table)).labels.tolist() == clean.labels.tolist()
    assert clean.labels is not None
    assert clean.labels.tolist() == [4, 2, 0]
    table.write_text("0.jpg,4\n1.jpg,7\n")
    with pytest.raises(UsageError, match="line 2"):
        images.load(folder, SPEC, 5, Options(labels=table))
    table.write_text("0.jpg,4\n")
    with pytest.raises(UsageError, match=r"no label for 1\.jpg"):
        images.load(folder, SPEC, 5, Options(labels=table))


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "ppm", "bmp", "webp", "PNG"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    picture(tmp_path / f"a.{suffix}", 200)
    clean = images.load(tmp_path, SPEC, 5, Options())
    assert abs(int(clean.images[0, 8, 8, 0]) - 200) < 12


@pytest.mark.parametrize("suffix", ["png", "pgm"])
def test_sixteen_bits(tmp_path: Path, suffix: str) -> None:
    values = (np.arange(256).reshape(16, 16) * 250).astype(np.uint16)
    if suffix == "png":
        Image.fromarray(values).save(tmp_path / "deep.png")
    else:
        (tmp_path / "deep.pgm").write_bytes(b"P5 16 16 65535\n" + values.astype(">u2").tobytes())
    clean = images.load(tmp_path, SPEC, 5, Options())
    assert clean.images[0, ..., 0].tolist() == (values // 257).tolist()


def test_what_programs_leave_behind_is_no_class(tmp_path: Path) -> None:
    for place in ("0", "1", ".ipynb_checkpoints", "__MACOSX/0"):
        picture(tmp_path / place / "a.png")
    picture(tmp_path / "1" / "._a.png")
    assert images.load(tmp_path, SPEC, 2, Options()).found == 2


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    picture(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"not an image")
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "notes.txt").write_text("not an image either")
    clean = images.load(tmp_path, SPEC, 5, Options())
    assert len(clean.images) == 1
    assert set(clean.unreadable) == {"bad.png", "cut.png"}
    (tmp_path / "good.png").unlink()
    with pytest.raises(UsageError, match="none of its 2"):
        images.load(tmp_path, SPEC, 5, Options())


def test_empty_and_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no images"):
        images.load(tmp_path, SPEC, 5, Options())
    with pytest.raises(UsageError, match="no such folder"):
        images.load(tmp_path / "none", SPEC, 5, Options())


def test_size_and_channels_come_from_the_model(tmp_path: Path) -> None:
    array = np.zeros((40, 80, 3), np.uint8)
    array[:, 20:60] = 255  # the middle square
    Image.fromarray(array).save(tmp_path / "wide.png")
    grey = images.load(tmp_path, Input("x", "NHWC", 1, 20, 20), 5, Options())
    assert grey.images.shape == (1, 20, 20, 1)
    assert grey.images.mean() > 240
    free = images.load(tmp_path, Input("x", "NCHW", 3, None, None), 5, Options())
    assert free.images.shape == (1, 40, 80, 3)
    assert images.load(tmp_path, Input("x", "NCHW", 3, None, None), 5, Options(size=24)).images.shape == (1, 24, 24, 3)


def test_limit_is_spread_over_the_classes(tmp_path: Path) -> None:
    for c, count in ((0, 30), (1, 5), (2, 5)):
        for i in range(count):
            picture(tmp_path / str(c) / f"{i}.png")
    clean = images.load(tmp_path, SPEC, 3, Options(max_images=12))
    assert clean.labels is not None
    assert clean.labels.bincount().tolist() == [4, 4, 4]
    assert clean.found == 40
    same = images.load(tmp_path, SPEC, 3, Options(max_images=12))
    assert (same.images == clean.images).all()


def test_names_of_the_model_file(tmp_path: Path) -> None:
    for name in ("dog", "ant"):
        picture(tmp_path / "imgs" / name / "a.png")
    clean = images.load(tmp_path / "imgs", SPEC, 3, Options(), known=("dog", "cat", "ant"))
    assert clean.labels is not None
    assert clean.labels.tolist() == [2, 0]
    assert (clean.labelled_by, clean.names) == ("labels from folder names by the model file", ("dog", "cat", "ant"))


def test_numbers_that_the_model_file_calls_its_classes(tmp_path: Path) -> None:
    """Folder 07 is the class called 7, which is not the one at index 7."""
    for name in ("07", "9"):
        picture(tmp_path / "imgs" / name / "a.png")
    labels = images.load(tmp_path / "imgs", SPEC, 2, Options(), known=("9", "7")).labels
    assert labels is not None
    assert labels.tolist() == [1, 0]


def test_folders_that_the_model_file_does_not_know(tmp_path: Path) -> None:
    for name in ("0", "1"):
        picture(tmp_path / "imgs" / name / "a.png")
    assert images.load(tmp_path / "imgs", SPEC, 2, Options(), known=("dog", "cat")).labelled_by == "labels from folder numbers"
