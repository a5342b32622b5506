"""Data sets of the zoo: class folders of any images."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.zoo import data


def test_any_image_folder(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for i in range(20):
            shape = (30 + i, 50, 3) if i % 2 else (40, 40, 3)
            Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(tmp_path / "pets" / name / f"{i}.png")
    split = data.load(tmp_path, "pets", size=24)
    assert split.classes == ("cat", "dog")
    assert [len(p.labels) for p in (split.train, split.defender, split.test)] == [28, 6, 6]
    assert split.train.images.shape == (28, 24, 24, 3)
    assert np.bincount(split.defender.labels).tolist() == [3, 3]
    every = {i.tobytes() for p in (split.train, split.defender, split.test) for i in p.images}
    assert len(every) == 40


def test_some_of_the_classes(tmp_path: Path) -> None:
    """Classes keep their names and images, get new numbers, and are the same ones every time; tracks stay on one side."""
    files, labels, tracks = [], [], []
    for c in range(6):
        for track in range(10):
            for frame in range(2):
                packed = io.BytesIO()
                Image.new("RGB", (8, 8), (40 * c, 10 * track, frame)).save(packed, "png")
                files.append(packed.getvalue())
                labels.append(c)
                tracks.append(10 * c + track)
    np.savez(
        tmp_path / "gtsrb.npz",
        jpeg=np.frombuffer(b"".join(files), np.uint8),
        offset=np.cumsum([0, *map(len, files)]),
        label=np.asarray(labels, np.uint8),
        track=np.asarray(tracks),
        classes=np.asarray(list("abcdef")),
    )
    split = data.load(tmp_path, "gtsrb3")
    parts = (split.train, split.defender, split.test)
    assert len(split.classes) == 3
    assert split.classes == data.load(tmp_path, "gtsrb3").classes != data.load(tmp_path, "gtsrb2").classes
    others = [data.load(tmp_path, f"gtsrb3{draw}").classes for draw in ("", "b", "c", "d")]
    assert len(set(others)) > 2
    assert {len(classes) for classes in others} == {3}
    assert data.missing(tmp_path, "gtsrb3b") is None
    assert data.missing(tmp_path, "cifar3b") is not None
    for part in parts:
        assert set(part.labels.tolist()) == {0, 1, 2}
        assert [split.classes[k] for k in part.labels] == ["abcdef"[red // 40] for red in part.images[:, 0, 0, 0]]
    seen = [{tuple(image[0, 0, :2]) for image in part.images} for part in parts]
    assert len(set.union(*seen)) == sum(map(len, seen)) == 30
    assert data.load(tmp_path, "gtsrb").classes == tuple("abcdef")
    for count in ("0", "1", "7"):
        with pytest.raises(ValueError, match=f"{count} classes of a data set with 6; expected 2 to 6"):
            data.load(tmp_path, f"gtsrb{count}")


def test_unknown_set(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected gtsrb, cifar10, N of their classes"):
        data.load(tmp_path, "nothing")
