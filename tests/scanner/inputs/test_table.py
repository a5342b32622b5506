"""Labels from tables as spreadsheets, data sets and programs write them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from banscan import UsageError
from tests.scanner.inputs.pictures import labels, load, picture, red

COUNT, CLASSES = 40, 8
ROWS = [(f"{i:05d}.png", i % CLASSES) for i in range(COUNT)]
NAMES = [f"sïgn {chr(104 - c)}" for c in range(CLASSES)]


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pictures without class folders."""
    folder = tmp_path_factory.mktemp("tables") / "Test"
    for i, (name, label) in enumerate(ROWS):
        picture(folder / name, 30 * label + i // CLASSES)
    return folder


def table(heading: str | None, row: Callable[[str, int], str]) -> str:
    return "".join(f"{line}\n" for line in ([] if heading is None else [heading]) + [row(name, label) for name, label in ROWS])


TABLES = {
    "two columns": table(None, lambda f, c: f"{f},{c}"),
    "tabs": table("filename\tlabel", lambda f, c: f"{f}\t{c}"),
    "spaces": table(None, lambda f, c: f"{f} {c}"),
    "bars": table(None, lambda f, c: f"{f}|{c}"),
    "the other way around": table("label,image", lambda f, c: f"{c},{f}"),
    "spaces behind commas": table("file, label", lambda f, c: f"{f}, {c} "),
    "GTSRB": table("Filename;Width;Height;Roi.X1;ClassId", lambda f, c: f"{f};32;32;5;{c}"),
    "GTSRB at Kaggle": table("Width,Height,Roi.X1,ClassId,Path", lambda f, c: f"32,32,5,{c},Test/{f}"),
    "GTSRB converted": table("Filename;ClassId", lambda f, c: f"{f[:-4]}.ppm;{c}"),
    "Kaggle, no suffix": table("image_id,width,label", lambda f, c: f"{f[:-4]},3,{c}"),
    "numbers of images": table("id,label", lambda f, c: f"{int(f[:-4])},{c}"),
    "pandas' index": table(",filename,label", lambda f, c: f"{int(f[:-4])},{f},{c}"),
    "name and number of the class": table("path,class,class_id", lambda f, c: f"{f},stop,{c}"),
    "Windows": table("file,label", lambda f, c: f".\\{f},{c}").replace("\n", "\r\n"),
    "Windows, elsewhere": table("file,label", lambda f, c: f"C:\\data\\Test\\{f},{c}"),
    "elsewhere": table("file,label", lambda f, c: f"/home/x/data/{f},{c}"),
    "old Macs": table("file,label", lambda f, c: f"{f},{c}").replace("\n", "\r"),
    "case": table("FILE,LABEL", lambda f, c: f"{f.upper()},{c}"),
    "3.0": table("file,label", lambda f, c: f"{f},{c}.0"),
    "3,0": table("file;label", lambda f, c: f"{f};{c},0"),
    "quoted": table('"file","label"', lambda f, c: f'"{f}","{c}"'),
    "comments": "# made by hand\n" + table(None, lambda f, c: f"{f},{c}"),
    "Excel": "sep=;\n" + table("file;label;", lambda f, c: f"{f};{c};"),
    "two parts": table("Path,ClassId", lambda f, c: f"Train/{f},{(c + 1) % CLASSES}\nTest/{f},{c}"),
    "a column for each class": table("image," + ",".join(NAMES), lambda f, c: f + "".join(f",{float(c == k)}" for k in range(CLASSES))),
    "counted from 1": table("file,label", lambda f, c: f"{f},{c + 1}"),
    "names in order": table("file,class", lambda f, c: f"{f},{'abcdefgh'[c]}"),
}
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1")


def read(flat: Path, text: str | bytes, **options: object) -> list[int]:
    """Labels by a table; they have to be those that the pictures' colours say."""
    path = flat.parent / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    clean = load(flat, CLASSES, labels=path, **options)
    assert [r // 30 for r in red(clean)] == labels(clean)
    return labels(clean)


@pytest.mark.parametrize("name", TABLES)
def test_tables(flat: Path, name: str) -> None:
    assert len(read(flat, TABLES[name])) == COUNT


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings_and_names(flat: Path, tmp_path: Path, encoding: str) -> None:
    names = tmp_path / "names.txt"
    names.write_bytes("\n".join(NAMES).encode(encoding))
    text = table("file;Schild", lambda f, c: f"{f};{NAMES[c].upper()}")
    assert len(read(flat, text.encode(encoding), classes=names)) == COUNT


def test_what_was_understood(flat: Path) -> None:
    path = flat.parent / "labels.csv"
    path.write_text(TABLES["GTSRB"] + "other.png;32;32;5;1\n")
    clean = load(flat, CLASSES, labels=path)
    assert (
        clean.understood
        == "40 images of 8 classes, labels from labels.csv (columns Filename and ClassId); 1 row of labels.csv for other files"
    )
    path.write_text(TABLES["counted from 1"])
    assert load(flat, CLASSES, labels=path).labelled_by == "labels from labels.csv, less 1 since they are numbered 1 to 8"


def test_images_that_are_left_out(flat: Path) -> None:
    rows = [f"{f},{c}" for f, c in ROWS[:30]] + [f"{f},{(c + 1) % CLASSES}" for f, c in ROWS[:4]]
    rows[10], rows[11] = f"{ROWS[10][0]},", f"{ROWS[11][0]},-1"
    assert len(read(flat, "file,label\n" + "\n".join(rows))) == 24
    clean = load(flat, CLASSES, labels=flat.parent / "labels.csv")
    assert clean.left_out == (
        "10 images without a row in labels.csv left out (00030.png, 00031.png, 00032.png, …)",
        "2 images without a label in labels.csv left out (00010.png, 00011.png)",
        "4 images with different labels in labels.csv left out (00000.png, 00001.png, 00002.png, …)",
    )


def test_paths_below_folders(tmp_path: Path) -> None:
    """The same name in every folder: the folders decide, also where others stand in front of them."""
    for c in range(CLASSES):
        picture(tmp_path / "imgs" / f"series{c}" / "image.png", 30 * c)
    assert len(read(tmp_path / "imgs", "".join(f"x/y/series{c}/image.png,{c}\n" for c in range(CLASSES)))) == CLASSES
    with pytest.raises(UsageError, match="names none of the images"):
        read(tmp_path / "imgs", "".join(f"image.png,{c}\n" for c in range(CLASSES)))


def test_accents_that_are_put_together_otherwise(tmp_path: Path) -> None:
    """As Macs write the names of files."""
    for c in range(CLASSES):
        picture(tmp_path / "imgs" / f"caf\u00e9{c}.png", 30 * c)
    assert len(read(tmp_path / "imgs", "".join(f"cafe\u0301{c}.png,{c}\n" for c in range(CLASSES)))) == CLASSES


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (table("file,class", lambda f, c: f"{f},{'ab'[c % 2]}"), "line 2 has the label 'a'; expected a label from 0 to 7, or --classes"),
        (table(None, lambda f, c: f"{f},{c + 2}"), "line 7 has the label '8'"),
        (table(None, lambda f, c: f"{f},{c + 0.5}"), "line 1 has the label '0.5'"),
        (table(None, lambda f, c: f"{f},32,{c}"), "cannot tell which column holds the labels"),
        (table("file,x,y1,z", lambda f, c: f"{f},32,7,{c}"), "expected a column called label or class"),
        (table(None, lambda f, c: f"a{f},{c}"), "names none of the images"),
        (table(None, lambda f, c: f"{f},{c}\n{f},{(c + 1) % CLASSES}"), "different labels for 40 images"),
        ("00000.png,1\n", r"no label for 00001\.png and 38 more images"),
        ("", "names none of the images"),
        ("file,label\n" + '"' + "x" * 200_000, "no row of a table"),
        (b"\x80\0\x01" * 99, "is no text"),
        (b"PK\x03\x04 a spreadsheet", "save it as CSV"),
    ],
)
def test_tables_that_cannot_be_read(flat: Path, text: str | bytes, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        read(flat, text)


@pytest.mark.parametrize("option", ["labels", "classes"])
def test_files_that_are_not_there(flat: Path, option: str) -> None:
    with pytest.raises(UsageError, match=r"none\.txt: no such file"):
        load(flat, CLASSES, **{option: flat.parent / "none.txt"})
    with pytest.raises(UsageError, match="is a folder"):
        load(flat, CLASSES, **{option: flat.parent})
