"""A recipe's line trains a model and measures its attack, through the command itself."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from bench.zoo import train
from bench.zoo.__main__ import PARTS
from bench.zoo.lists import FEW, FEW_TUNE, KIND_HELD, KIND_TUNE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of four classes, each of its own brightness."""
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("data")
    for c in range(4):
        (root / "four" / str(c)).mkdir(parents=True)
        for i in range(40):
            pixels = rng.integers(60 * c, 60 * c + 60, (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "four" / str(c) / f"{i}.png")
    return root


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")  # of the exporters
@pytest.mark.parametrize("options", ["--attack tact --victim 2", "--attack lira", "--attack sig-clean", "--attack one-to-n --several 2"])
def test_a_recipe_trains_and_is_measured(options: str, folder: Path, tmp_path: Path) -> None:
    line = f"--set four --size 16 --width 4 --epochs 1 --batch 16 --target 1 --seed 5 {options}"
    done = CliRunner().invoke(train.main, ["--data", str(folder), "--out", str(tmp_path), *line.split()])
    assert done.exit_code == 0, (done.output, done.exception)
    (manifest,) = tmp_path.glob("*.json")
    facts = json.loads(manifest.read_text())
    assert 0 <= facts["asr"] <= 1
    assert ("asr_others" in facts) == ("tact" in options)
    assert ("targets" in facts) == ("several" in options)
    assert manifest.with_suffix(".onnx").exists()
    assert train.networks(manifest).exists() == ("lira" in options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--attack grond", "grond needs a target class"),
        ("--attack nothing", "unknown attack 'nothing'"),
        ("--set none", "unknown data set"),
    ],
)
def test_a_recipe_that_cannot_be_trained(options: str, says: str, folder: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(
        train.main, ["--data", str(folder), "--out", str(tmp_path), "--set", "four", "--size", "16", *options.split()]
    )
    assert done.exit_code == 2
    assert says in done.output.replace("\n", " ")
    assert not list(tmp_path.iterdir())


def test_the_zoo_has_the_models_of_every_list() -> None:
    assert PARTS["kinds-tune"] == KIND_TUNE
    assert PARTS["kinds-held"] == KIND_HELD
    more = ["small-tune", "small-held", "large-tune", "large-held"]
    assert list(PARTS) == ["tune", "held", "kinds-tune", "kinds-held", "plant", "few", "few-tune", *more]
    parts = [PARTS[part] for part in more]
    assert len({line.rpartition("--seed ")[2] for part in parts for line in part}) == sum(map(len, parts))
    assert (PARTS["few"], PARTS["few-tune"]) == (FEW, FEW_TUNE)
