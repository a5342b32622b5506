"""Data sets of the zoo: class folders of any images."""

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


def test_unknown_set(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected gtsrb, gtsrbN, cifar10 or a folder"):
        data.load(tmp_path, "nothing")
