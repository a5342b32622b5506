"""Repair from file to file: what is written, what is refused, and what is left behind."""

import json
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from banscan import BanscanError, EvidenceError, UsageError, importers
from banscan.importers import TracedModel, writer
from banscan.importers.normal import weights
from banscan.importers.normal.graph import attribute_named
from banscan.scanner.inputs import images
from banscan.scanner.repair.repair import Mended, _aims, mend, repair, tuning
from banscan.scanner.repair.tuning import Tuning
from banscan.scanner.report import repaired
from banscan.scanner.scan import Report, scan
from banscan.scanner.settings import Settings
from banscan.scanner.verdict import Verdict
from tests.conftest import learn
from tests.importers import matrix
from tests.importers.onnx.test_reader import Tokens
from tests.scanner.cli.test_main import banscan, failed

pytestmark = pytest.mark.slow
QUICK = Settings(restarts=1, steps=2, pixels=False)
HOW = Tuning(epochs=3, steps=1)
FAST = ("--restarts", "1", "--steps", "2", "--no-pixels", "--epochs", "2")


@pytest.fixture(scope="module")
def before(model_file: Path, image_dir: Path) -> Report:
    return scan(model_file, image_dir, settings=QUICK)


def mended(before: Report, image_dir: Path, output: Path, how: Tuning = HOW, method: str = "ban", **more: object) -> Mended:
    clean = images.load(image_dir, before.model.input, before.model.classes)
    return mend(before, clean, output, method=method, how=how, max_drop=1.0, **more)  # type: ignore[arg-type]


def test_command(model_file: Path, image_dir: Path, tmp_path: Path) -> None:
    output = tmp_path / "fixed.onnx"
    arguments = ("repair", model_file, "--clean-dir", image_dir, "-o", output, *FAST)
    failed(banscan(*arguments), 4, "--force")
    assert list(tmp_path.iterdir()) == []
    done = banscan(*arguments, "--force")
    assert done.returncode in (0, 2), done.stderr
    assert "benign accuracy on the 40 images kept" in done.stdout
    assert len(re.findall(r"epoch \d: loss \d\.\d+ on clean images.*; accuracy \d+\.\d% on the images kept", done.stderr)) == 2
    assert "does not prove" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["fixed.onnx"]
    assert banscan("inspect", output).returncode == 0
    assert output.read_bytes() != model_file.read_bytes()


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (("backdoored", 14), ("no backdoor found", None), "Repaired"),
        (("backdoored", 14), ("backdoored", 14), "Not repaired"),
        (("suspicious", 14), ("backdoored", 39), "class 39 now looks backdoored"),
        (("backdoored", 14), ("suspicious", 14), "Not fully repaired"),
        (("no backdoor found", None), ("no backdoor found", None), "as before"),
        (("backdoored", 14), ("inconclusive", None), "inconclusive"),
    ],
)
def test_headline(before: tuple[str, int | None], after: tuple[str, int | None], said: str) -> None:
    """A second scan that finds another class does not say that the repair failed."""
    one, other = (Verdict(outcome, "", kind=None if target is None else "all-to-one", target=target) for outcome, target in (before, after))
    assert said in repaired._headline("fixed.onnx", one, other)


def test_one_of_several_targets_that_is_left_is_no_other_finding() -> None:
    several, one = Verdict("backdoored", "", "all-to-one", 3, others=(7, 1)), Verdict("backdoored", "", "all-to-one", 7)
    assert "Not repaired" in repaired._headline("fixed.onnx", several, one)
    assert str(repaired._outcome(several)) == "backdoored, classes 3, 7, 1"
    assert str(repaired._outcome(one)) == "backdoored, class 7"
    assert str(repaired._outcome(Verdict("no backdoor found", ""))) == "no backdoor found"


def test_usage(model_file: Path, image_dir: Path, tmp_path: Path) -> None:
    own = tmp_path / "model.onnx"
    own.write_bytes(model_file.read_bytes())
    failed(banscan("repair", own, "--clean-dir", image_dir, "-o", own), 4, "another name")
    failed(banscan("repair", own, "--clean-dir", image_dir, "-o", tmp_path / "none" / "x.onnx"), 4, "cannot be written")
    failed(banscan("repair", own, "--clean-dir", image_dir, "-o", tmp_path / "x.onnx", "--method", "magic"), 4, "magic")
    failed(banscan("repair", own, "--clean-dir", image_dir), 4, "--output")
    for option, value in (("--epochs", "0"), ("--lr", "nan"), ("--lambda2", "inf"), ("--max-accuracy-drop", "nan")):
        failed(banscan("repair", own, "--clean-dir", image_dir, "-o", tmp_path / "x.onnx", option, value), 4, option)


def test_numbers_of_a_repair(model_file: Path, image_dir: Path, tmp_path: Path) -> None:
    result = repair(model_file, image_dir, tmp_path / "fixed.onnx", how=HOW, force=True, settings=QUICK)
    assert (result.mended.tuned, result.mended.held) == (160, 40)
    assert len(result.mended.losses) == HOW.epochs
    assert result.mended.parity.rms < 1e-5
    assert result.after.model.source.sha256 == importers.load(tmp_path / "fixed.onnx").source.sha256
    assert result.before.model.source.sha256 != result.after.model.source.sha256
    assert json.loads(repaired.render(result))["caveat"] is None


def test_a_network_with_attention_is_not_called_repaired_without_a_caveat(
    patterns: tuple[np.ndarray, np.ndarray], image_dir: Path, tmp_path: Path, export: Callable[..., Path]
) -> None:
    torch.manual_seed(0)
    path = export("attending", learn(Tokens(), patterns, lr=0.01, steps=80))
    result = repair(path, image_dir, tmp_path / "fixed.onnx", how=replace(HOW, epochs=1), max_drop=1.0, force=True, settings=QUICK)
    console = Console(record=True, width=200, file=StringIO())
    repaired.show(result, console)
    assert "networks with attention do not hold" in console.export_text()
    assert "attention" in json.loads(repaired.render(result))["caveat"]


def test_plain_fine_tuning_is_lambda_2_of_0(before: Report, image_dir: Path, tmp_path: Path) -> None:
    mended(before, image_dir, tmp_path / "a.onnx", method="finetune")
    mended(before, image_dir, tmp_path / "b.onnx", replace(HOW, weight=0.0))
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    mended(before, image_dir, tmp_path / "c.onnx")
    assert (tmp_path / "a.onnx").read_bytes() != (tmp_path / "c.onnx").read_bytes()


def test_without_a_class_to_pull_to_the_given_model_teaches_nothing(before: Report, image_dir: Path, tmp_path: Path) -> None:
    found = replace(before, verdict=Verdict("backdoored", "", kind="all-to-one", target=1))
    lost = replace(before, verdict=Verdict("no backdoor found", ""))
    one, other = (mended(report, image_dir, tmp_path / "fixed.onnx").settings for report in (found, lost))
    assert (one.teacher, one.depth) == (HOW.teacher, HOW.depth)
    assert (other.teacher, other.depth) == (0, 0)
    assert HOW.teacher * HOW.depth > 0


def test_several_targets_take_turns(before: Report) -> None:
    several = replace(before, verdict=Verdict("backdoored", "", "all-to-one", 3, others=(7, 1)))
    aims = _aims(several)
    assert aims is not None
    assert aims.tolist() == [3, 7, 1, 3, 7, 1, 3, 7, 1, 3]


def test_a_torchscript_model(trained: torch.nn.Module, image_dir: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(trained, torch.zeros(1, 3, 16, 16)), str(tmp_path / "model.pt"))
    result = repair(tmp_path / "model.pt", image_dir, tmp_path / "fixed.pt", how=HOW, force=True, settings=QUICK)
    assert result.mended.parity.rms < 1e-5
    assert result.after.model.source.format == "TorchScript"
    assert {p.name for p in tmp_path.iterdir()} == {"model.pt", "fixed.pt"}


def test_pruning(before: Report, image_dir: Path, tmp_path: Path) -> None:
    """ANP trains masks alone: some neurons are gone afterwards, all others are what they were up to the statistics folded in."""
    done = mended(before, image_dir, tmp_path / "pruned.onnx", replace(tuning.ANP, epochs=20, lr=0.5), method="anp")
    assert done.accuracy[1] > 0.5
    old, new = (importers.load(p) for p in (before.model.source.path, tmp_path / "pruned.onnx"))
    gone, left = 0, 0
    for neuron in old.neurons:
        name = weights.roles(old, neuron)[0]
        if neuron.node in old.classifier:
            continue
        first, second = (attribute_named(m.module, name).flatten(1) for m in (old, new))
        dead = second.abs().sum(1) == 0
        gone, left = gone + int(dead.sum()), left + int((~dead).sum())
        alike = torch.cosine_similarity(first[~dead], second[~dead], 1)
        assert float(alike.min()) > 0.999
    assert gone > 0
    assert left > 0


@pytest.mark.parametrize("flagged", [False, True])
def test_an_interrupted_repair_goes_on(before: Report, image_dir: Path, tmp_path: Path, flagged: bool) -> None:
    if flagged:  # then patches are pasted as well
        before = replace(before, verdict=Verdict("backdoored", "", kind="all-to-one", target=3))
    mended(before, image_dir, tmp_path / "whole.onnx")
    seen = []

    def stop(epoch: int, clean: float, noisy: float, accuracy: float) -> None:
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mended(before, image_dir, tmp_path / "parts.onnx", told=stop)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["parts.onnx.partial", "whole.onnx"]
    mended(before, image_dir, tmp_path / "parts.onnx", told=lambda epoch, clean, noisy, accuracy: seen.append(epoch))
    assert seen == [3]
    assert (tmp_path / "whole.onnx").read_bytes() == (tmp_path / "parts.onnx").read_bytes()
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["parts.onnx", "whole.onnx"]


@pytest.mark.parametrize("content", [b"nothing of the kind", b"PK\x03\x04" + bytes(100)])
def test_a_checkpoint_of_something_else(before: Report, image_dir: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "fixed.onnx.partial").write_bytes(content)
    with pytest.raises(UsageError, match="not the checkpoint"):
        mended(before, image_dir, tmp_path / "fixed.onnx")


def test_another_repairs_checkpoint_is_not_written_over(before: Report, image_dir: Path, tmp_path: Path) -> None:
    def stop(epoch: int, clean: float, noisy: float, accuracy: float) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mended(before, image_dir, tmp_path / "fixed.onnx", told=stop)
    kept = (tmp_path / "fixed.onnx.partial").read_bytes()
    with pytest.raises(UsageError, match="other images or settings"):
        mended(before, image_dir, tmp_path / "fixed.onnx", replace(HOW, lr=0.001))
    assert (tmp_path / "fixed.onnx.partial").read_bytes() == kept


def test_a_file_that_cannot_be_written_costs_no_tuning(
    before: Report, image_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And leaves the file that was there."""
    output = tmp_path / "fixed.onnx"
    output.write_bytes(b"old")

    def full(model: object, weights: object, path: Path) -> None:
        path.with_name("fixed.onnx.data").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(writer, "write", full)
        with pytest.raises(UsageError, match=r"fixed\.onnx: cannot be written \(No space left on device\)"):
            mended(before, image_dir, output)
    assert output.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fixed.onnx", "fixed.onnx.partial"]
    epochs: list[int] = []
    mended(before, image_dir, output, told=lambda epoch, clean, noisy, accuracy: epochs.append(epoch))
    assert epochs == []
    assert [p.name for p in tmp_path.iterdir()] == ["fixed.onnx"]


def test_a_file_that_differs_from_the_tuned_model_is_not_kept(
    before: Report, image_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "fixed.onnx"
    output.write_bytes(b"old")

    def unchanged(model: TracedModel, weights: object, path: Path) -> None:
        path.write_bytes(model.source.path.read_bytes())

    monkeypatch.setattr(writer, "write", unchanged)
    with pytest.raises(BanscanError, match=r"fixed\.onnx: the written file would differ from the tuned model by \d"):
        mended(before, image_dir, output)
    assert output.read_bytes() == b"old"


def test_lost_accuracy_writes_nothing(before: Report, image_dir: Path, tmp_path: Path) -> None:
    clean = images.load(image_dir, before.model.input, before.model.classes)
    with pytest.raises(EvidenceError, match="benign accuracy fell"):
        mend(before, clean, tmp_path / "x.onnx", method="ban", how=replace(HOW, lr=5.0), max_drop=0.05)
    assert list(tmp_path.iterdir()) == []


def test_too_few_images(before: Report, image_dir: Path, tmp_path: Path) -> None:
    clean = images.load(image_dir, before.model.input, before.model.classes, limit=55)
    with pytest.raises(EvidenceError, match="too few"):
        mend(before, clean, tmp_path / "x.onnx", method="ban", how=HOW, max_drop=1.0)


def test_kept_images_are_spread_over_the_classes(before: Report, image_dir: Path, tmp_path: Path) -> None:
    from banscan.scanner.repair.repair import _kept

    kept = _kept(torch.arange(200) % 10)
    assert np.bincount((torch.arange(200) % 10)[kept].numpy()).tolist() == [4] * 10


def test_what_cannot_be_written_is_said_before_any_work(image_dir: Path, tmp_path: Path) -> None:
    path = matrix.write("vgg", "torch.export", tmp_path)
    failed(banscan("repair", path, "--clean-dir", image_dir, "-o", tmp_path / "x.pt2"), 3, "cannot be written back")
    path = matrix.write("vgg", "ONNX 17, 8 bits QDQ", tmp_path)
    failed(banscan("repair", path, "--clean-dir", image_dir, "-o", tmp_path / "x.onnx"), 3, "--dequantize")
