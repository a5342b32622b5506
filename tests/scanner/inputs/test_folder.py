"""What is an image of a folder, what only lies beside images, and where links lead."""

import os
from pathlib import Path

import pytest

from banscan import UsageError
from banscan.scanner.inputs import decode, folder, words
from tests.scanner.inputs.pictures import labels, load, picture, red

BESIDE = ("@eaDir", ".thumbnails", "Thumbs", "#recycle", "__MACOSX", "lost+found", ".AppleDouble", ".@__thumb", "$RECYCLE.BIN", "previews")


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Folders 0 to 9 with two pictures each."""
    place = tmp_path / "imgs"
    for c in range(10):
        for i in range(2):
            picture(place / str(c) / f"{i}.png", 10 * c + i)
    return place


@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize("inner", ["", "3"])
def test_what_programs_keep_beside_images(classes: Path, name: str, inner: str) -> None:
    picture(classes / inner / name / "3" / "0.png", 200)
    clean = load(classes, 10)
    assert len(clean.images) == clean.found == 20
    assert f"1 {'thumbnail' if name.lower() in words.THUMBNAILS else 'image'} in {name} left out" in clean.understood


def test_small_copies_and_files_of_systems(classes: Path) -> None:
    for name in ("0_thumb.png", "._0.png", "Thumbs.db", "desktop.ini", ".DS_Store"):
        picture(classes / "1" / f"{name}.png").rename(classes / "1" / name)
    picture(classes / "1" / "other_thumb.png")  # of nothing that lies beside it
    clean = load(classes, 10)
    assert clean.found == 21
    assert clean.left_out == ("1 thumbnail beside the images, 1 hidden file left out",)


def test_a_class_may_be_called_like_a_program_s_folder(tmp_path: Path) -> None:
    for name in ("thumbs", "@eaDir"):
        picture(tmp_path / "imgs" / name / "0.png")
    assert labels(load(tmp_path / "imgs", 2, known=("thumbs", "@eaDir"))) == [1, 0]


def test_links_to_folders_and_files_are_followed(classes: Path, tmp_path: Path) -> None:
    folders, files = tmp_path / "folders", tmp_path / "files"
    folders.mkdir()
    for c in range(10):
        (folders / str(c)).symlink_to(classes / str(c))
        (files / str(c)).mkdir(parents=True)
        for i in range(2):
            (files / str(c) / f"{i}.png").symlink_to(classes / str(c) / f"{i}.png")
    for place in (folders, files):
        assert red(load(place, 10)) == red(load(classes, 10))


def test_links_do_not_lead_in_circles(classes: Path) -> None:
    for name, target in (("up", ".."), ("self", "."), ("root", "/"), ("latest", "3"), ("circle", "circle"), ("gone", "nowhere")):
        (classes / name).symlink_to(target)
    (classes / "2" / "up").symlink_to("../..")
    os.mkfifo(classes / "4" / "pipe.png")
    clean = load(classes, 10)
    assert clean.found == 20
    assert "links to nowhere" in clean.understood
    assert "5 links to what was read already" in clean.understood


def test_a_file_counts_once_and_for_one_class(classes: Path) -> None:
    (classes / "4" / "again.png").symlink_to("0.png")
    (classes / "5" / "other.png").symlink_to("../6/0.png")
    clean = load(classes, 10)
    assert clean.found == 19
    assert labels(clean).count(4) == 2
    assert labels(clean).count(5) == 2
    assert labels(clean).count(6) == 1
    assert "1 copy left out" in clean.understood
    assert "2 images left out that lie in several class folders" in clean.understood


def test_class_folders_of_links_into_a_pool(classes: Path) -> None:
    """The class folders count, not the pool that holds the files themselves."""
    (classes / "pool").mkdir()
    for c in range(10):
        for i in range(2):
            (classes / str(c) / f"{i}.png").rename(classes / "pool" / f"{c}{i}.png")
            (classes / str(c) / f"{i}.png").symlink_to(f"../pool/{c}{i}.png")
    clean = load(classes, 10)
    assert [r // 10 for r in red(clean)] == labels(clean)
    assert clean.found == 20


def test_what_is_no_image_is_told(classes: Path) -> None:
    for name in ("a.heic", "b.HEIC", "c.nef", "d.zip", "readme.txt", "labels.csv"):
        (classes / name).write_bytes(b"II*\0 something else")
    clean = load(classes, 10)
    assert clean.left_out == (
        "2 .heic files, 1 .nef file left out, which cannot be decoded here: convert them to PNG or JPEG",
        "1 .zip file left out: expected images as single files",
        "2 files are no images (labels.csv, readme.txt)",
    )
    for path in classes.rglob("*.png"):
        path.unlink()
    with pytest.raises(UsageError, match=r"no images in it \(2 \.heic files"):
        load(classes, 10)


def test_pipes_and_sockets_are_told(classes: Path) -> None:
    os.mkfifo(classes / "fifo.png")
    assert load(classes, 10).left_out == ("1 pipe or socket left out (fifo.png)",)


def test_images_told_by_their_content(tmp_path: Path) -> None:
    for i, name in enumerate(("a", "b.img", "c.0001", "d.PNG", "e.jpg")):
        picture(tmp_path / f"{i}.png", 40 * i).rename(tmp_path / name)
    (tmp_path / "f").write_text("no image")
    clean = load(tmp_path, 5)
    assert red(clean) == [0, 40, 80, 120, 160]
    assert clean.left_out == ("1 file is no image (f)",)


def test_formats_that_this_installation_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "b.avif").write_bytes(b"\0\0\0\x1cftypavif")
    monkeypatch.setattr(decode, "readers", lambda names: [name for name in names if name != "AVIF"])
    assert "1 .avif file left out" in load(tmp_path, 5).understood


def test_folders_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "file.png")
    with pytest.raises(UsageError, match="is a file"):
        load(tmp_path / "file.png", 5)
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def closed(place: Path) -> object:
        if place.name == "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(place)

    monkeypatch.setattr(folder.os, "scandir", closed)
    assert "1 folder may not be read (closed)" in load(tmp_path, 5).understood
    monkeypatch.setattr(folder, "MOST", 0)
    with pytest.raises(UsageError, match="more than 0 files"):
        load(tmp_path, 5)


def test_names_that_are_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
    picture(tmp_path / "b.png")
    clean = load(tmp_path, 5)
    assert clean.unreadable == ("caf\\udce9.png",)
    clean.understood.encode()
