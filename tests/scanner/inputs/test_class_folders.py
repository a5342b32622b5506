"""Labels from folders: levels, numbers, names, and what is no class."""

from collections.abc import Callable
from pathlib import Path

import pytest

from banscan import UsageError
from tests.scanner.inputs.pictures import labels, load, picture, red

CLASSES = 12
SIGNS = [f"sign {chr(97 + c)}" for c in range(CLASSES)]
# where the picture i of class c lies
LAYOUTS: dict[str, Callable[[int, int], str]] = {
    "padded": lambda c, i: f"{c:05d}/{i}.png",
    "not padded": lambda c, i: f"{c}/{i}.png",
    "one level deeper": lambda c, i: f"val/{c}/{i}.png",
    "two levels deeper": lambda c, i: f"gtsrb/clean/{c}/{i}.png",
    "splits": lambda c, i: f"{('train', 'val', 'test')[i % 3]}/{c}/{c}_{i}.png",
    "folds": lambda c, i: f"fold{i % 5 + 1}/{c}/{c}_{i}.png",
    "folds by number": lambda c, i: f"{i % 5}/{c}/{c}_{i}.png",
    "tracks": lambda c, i: f"{c}/track{i % 3}/{i}.png",
    "tracks by number": lambda c, i: f"{c}/{i % 3}/{i}.png",
    "tracks among pictures": lambda c, i: f"{c}/{i}.png" if i % 2 else f"{c}/more/{i}.png",
    "prefix": lambda c, i: f"class_{c}/{i}.png",
    "prefix of a number": lambda c, i: f"Class {c:02d}/{i}.png",
    "number and name": lambda c, i: f"{c}_{SIGNS[-c - 1]}/{i}.png",
    "number, and another one": lambda c, i: f"{c} - {20 * (c % 3)} km/h".replace("/", "p") + f"/{i}.png",
    "name and number": lambda c, i: f"{SIGNS[-c - 1]}_{c}/{i}.png",
    "sorted names": lambda c, i: f"{SIGNS[c]}/{i}.png",
    "sorted names below splits": lambda c, i: f"{('train', 'test')[i % 2]}/{SIGNS[c]}/{c}_{i}.png",
    "groups of classes": lambda c, i: f"{('round', 'square')[c % 2]}/{c}/{i}.png",
    "counted from 1": lambda c, i: f"{c + 1}/{i}.png",
    "counted from 1, padded": lambda c, i: f"test/{c + 1:03d}.{SIGNS[-c - 1]}/{i}.png",
}


def build(folder: Path, layout: Callable[[int, int], str], of: range = range(CLASSES)) -> Path:
    for c in of:
        for i in range(6):
            picture(folder / layout(c, i), 20 * c + i)
    return folder


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(tmp_path: Path, name: str) -> None:
    clean = load(build(tmp_path, LAYOUTS[name]), CLASSES)
    assert clean.found == 6 * CLASSES
    assert [r // 20 for r in red(clean)] == labels(clean)
    assert clean.left_out == ()
    assert clean.understood.startswith(f"{6 * CLASSES} images of {CLASSES} classes in class folders")


def test_what_is_done_with_numbers_from_1_is_told(tmp_path: Path) -> None:
    clean = load(build(tmp_path, LAYOUTS["counted from 1"]), CLASSES)
    assert "numbered 1 to 12, which count as classes 0 to 11 since there is no 0" in clean.understood
    assert clean.labelled_by == "labels from folder numbers, less 1"


def test_numbers_without_0_that_stay_below_the_classes_are_the_model_s(tmp_path: Path) -> None:
    clean = load(build(tmp_path, LAYOUTS["padded"], range(1, CLASSES)), CLASSES)
    assert [r // 20 for r in red(clean)] == labels(clean)


def test_numbers_from_1_with_gaps_are_named_as_the_error_says(tmp_path: Path) -> None:
    """Three classes of twelve: too few to tell that there is no class 0."""
    with pytest.raises(UsageError, match=r"numbers from 1 the lines 1 to 12, .*without images \(seq 1 12 > classes\.txt\)") as error:
        load(build(tmp_path / "plain", LAYOUTS["counted from 1"], range(3, 12, 4)), CLASSES)
    assert "'12' is no class of this model, which has classes 0 to 11" in str(error.value)
    (tmp_path / "classes.txt").write_text("".join(f"{c}\n" for c in range(1, 13)))
    clean = load(tmp_path / "plain", CLASSES, classes=tmp_path / "classes.txt")
    assert [r // 20 for r in red(clean)] == labels(clean)
    assert sorted(set(labels(clean))) == [3, 7, 11]


def test_parts_of_a_data_set_are_told_and_copies_count_once(tmp_path: Path) -> None:
    build(tmp_path, LAYOUTS["splits"])
    for i in range(3):
        source = tmp_path / ("train", "val", "test")[i] / "4" / f"4_{i}.png"
        (tmp_path / "train" / "4" / f"4_{i}.png").write_bytes(source.read_bytes())
    clean = load(tmp_path, CLASSES)
    assert clean.found == 6 * CLASSES
    assert "in test, train and val together; 2 copies left out" in clean.understood


def test_names_count_at_any_level_and_however_they_are_written(tmp_path: Path) -> None:
    build(tmp_path / "imgs", lambda c, i: f"train/{SIGNS[c].replace(' ', '_').upper()}/{i}.png")
    clean = load(tmp_path / "imgs", CLASSES, known=tuple(reversed(SIGNS)))
    assert labels(clean) == [CLASSES - 1 - r // 20 for r in red(clean)]
    assert clean.understood == "72 images of 12 classes in class folders named by the model file, in train"


def test_synsets_are_known_by_their_first_word(tmp_path: Path) -> None:
    build(tmp_path / "imgs", lambda c, i: f"n{1440764 + c:08d}/{i}.png", range(4))
    names = tmp_path / "words.txt"
    names.write_text("".join(f"n{1440764 + c:08d} tench {c}, Tinca tinca\n" for c in reversed(range(CLASSES))))
    clean = load(tmp_path / "imgs", CLASSES, classes=names)
    assert labels(clean) == [CLASSES - 1 - r // 20 for r in red(clean)]


def test_names_with_numbers_in_front(tmp_path: Path) -> None:
    build(tmp_path / "imgs", LAYOUTS["sorted names"], range(5))
    names = tmp_path / "labels.txt"
    names.write_text("".join(f"{c} {SIGNS[-c - 1]}\n" for c in range(CLASSES)), encoding="utf-16")
    clean = load(tmp_path / "imgs", CLASSES, classes=names)
    assert labels(clean) == [CLASSES - 1 - r // 20 for r in red(clean)]


def test_names_of_the_user_beside_numbered_folders(tmp_path: Path) -> None:
    """They say what the classes are called; none of the folders is."""
    folder = build(tmp_path / "imgs", LAYOUTS["padded"])
    names = tmp_path / "names.txt"
    names.write_text("\n".join(SIGNS))
    clean = load(folder, CLASSES, classes=names)
    assert (clean.names, clean.labelled_by) == (tuple(SIGNS), "labels from folder numbers")


@pytest.mark.parametrize("by_name", [False, True])
def test_what_is_no_class_is_left_out_and_told(tmp_path: Path, by_name: bool) -> None:
    folder = build(tmp_path / "imgs", LAYOUTS["sorted names" if by_name else "padded"])
    picture(folder / "montage.png")
    picture(folder / "plots" / "accuracy.png")
    clean = load(folder, CLASSES, known=tuple(SIGNS) if by_name else None)
    assert clean.found == 6 * CLASSES
    assert clean.left_out == (
        "1 image beside the class folders left out (montage.png)",
        "1 image left out in folders that are no class (plots)",
    )


def test_a_name_of_the_user_s_that_is_missing_stops(tmp_path: Path) -> None:
    """It may be misspelt; left out, the class would be missing without anybody noticing."""
    folder = build(tmp_path / "imgs", LAYOUTS["sorted names"])
    names = tmp_path / "names.txt"
    names.write_text("\n".join([*SIGNS[:-1], "sing l"]))
    picture(folder / "sign x" / "0.png")
    with pytest.raises(UsageError, match="'sign l' is not in it"):
        load(build(folder, lambda c, i: f"sign l/{c}{i}.png"), CLASSES, classes=names)


def test_numbers_are_not_taken_for_names_that_are_others(tmp_path: Path) -> None:
    """A file that calls its classes 1 to 12, and folders 0 to 11: folder 1 is not the class called 1."""
    clean = load(build(tmp_path, LAYOUTS["padded"]), CLASSES, known=tuple(str(c + 1) for c in range(CLASSES)))
    assert labels(clean) == [r // 20 for r in red(clean)]


def test_flat_folders(tmp_path: Path) -> None:
    for i in range(9):
        picture(tmp_path / "flat" / f"{i}.png", i)
        picture(tmp_path / "inner" / "images" / f"{i}.png", i)
    picture(tmp_path / "flat" / "plots" / "a.png")
    flat, inner = load(tmp_path / "flat", CLASSES), load(tmp_path / "inner", CLASSES)
    assert (flat.labels, inner.labels, flat.found, inner.found) == (None, None, 9, 9)
    assert flat.left_out == ("1 image in folders left out (plots)",)


@pytest.mark.parametrize(
    ("layout", "why"),
    [
        (lambda c, i: f"{c + 1}/{i}.png", "'10' is no class of this model, which has classes 0 to 9"),
        (lambda c, i: f"{'abc'[c % 3]}/{c}{i}.png", r"3 class folders for a model of 10 classes \(a, b, c\); number the folders or"),
        (lambda c, i: f"x{c}{i}.png" if i > 1 else f"{c % 10}/x{c}{i}.png", "images beside class folders"),
    ],
)
def test_folders_that_cannot_be_classes(tmp_path: Path, layout: Callable[[int, int], str], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        load(build(tmp_path, layout), 10)
