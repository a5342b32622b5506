"""Repair from file to file: what is written, what is refused, and what is left behind."""

import warnings
from dataclasses import asdict, replace
from pathlib import Path, PosixPath
from typing import Any

import pytest
import torch

from banscan import BanscanError, EvidenceError, ModelError, UsageError, importers
from banscan.importers import TracedModel, attribute_named, writer
from banscan.importers.normal import weights
from banscan.scanner.findings import ONE, Verdict
from banscan.scanner.inputs import images
from banscan.scanner.inputs.images import CleanSet
from banscan.scanner.repair.mend import OnEpoch, mend, unheard
from banscan.scanner.repair.repair import repair
from banscan.scanner.repair.result import Mended
from banscan.scanner.repair.settings import ANP, BAN, FINETUNE, METHODS, RepairSettings, Tuning
from banscan.scanner.scan import Examined, examine
from banscan.scanner.settings import Options, Settings
from tests.importers import matrix

pytestmark = pytest.mark.slow
QUICK = Settings(restarts=1, steps=2, pixels=False, controls=False)
HOW = Tuning(epochs=3, steps=1)
FORCED = RepairSettings(epochs=2, force=True, max_accuracy_drop=1.0)


@pytest.fixture(scope="module")
def before(model_file: Path, image_dir: Path) -> Examined:
    return examine(model_file, image_dir, settings=QUICK)


def mended(before: Examined, image_dir: Path, output: Path, how: Tuning = HOW, method: str = BAN, on_epoch: OnEpoch = unheard) -> Mended:
    return mend(before, clean(before, image_dir), output, method=method, how=how, max_drop=1.0, on_epoch=on_epoch)


def clean(before: Examined, image_dir: Path, most: int = 500) -> CleanSet:
    return images.load(image_dir, before.model.input, before.model.classes, Options(max_images=most))


def said(before: Examined, *targets: int) -> Examined:
    """As if the scan had found these targets, or nothing."""
    outcome, kind = ("backdoored", ONE) if targets else ("no backdoor found", None)
    return replace(before, report=replace(before.report, verdict=Verdict(outcome=outcome, reason="", kind=kind, targets=targets)))


def test_numbers_of_a_repair(model_file: Path, image_dir: Path, tmp_path: Path) -> None:
    result = repair(model_file, image_dir, tmp_path / "fixed.onnx", tuning=FORCED, settings=QUICK)
    assert (result.mended.tuned, result.mended.held) == (160, 40)
    assert len(result.mended.losses) == FORCED.epochs
    assert result.mended.parity.rms < 1e-5
    assert result.after.model.sha256 == importers.load(tmp_path / "fixed.onnx").source.sha256
    assert result.before.model.sha256 != result.after.model.sha256
    assert not result.attention
    assert kinds(asdict(result)) <= {str, int, float, bool, bytes, type(None), PosixPath}


def kinds(value: Any) -> set[type]:
    """Of everything in nested containers: a result holds neither tensors nor the model; pictures are bytes of PNG."""
    if isinstance(value, dict):
        value = list(value.values())
    return set().union(*map(kinds, value)) if isinstance(value, list | tuple) else {type(value)}


def test_what_is_not_flagged_is_left_alone(model_file: Path, image_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"not flagged .*--force"):
        repair(model_file, image_dir, tmp_path / "fixed.onnx", tuning=replace(FORCED, force=False), settings=QUICK)
    assert list(tmp_path.iterdir()) == []


def test_the_model_itself_is_not_written_over(model_file: Path, image_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="another name"):
        repair(model_file, image_dir, model_file, tuning=FORCED, settings=QUICK)
    with pytest.raises(UsageError, match="cannot be written"):
        repair(model_file, image_dir, tmp_path / "none" / "x.onnx", tuning=FORCED, settings=QUICK)


def test_a_file_that_cannot_be_written_back_is_told_before_any_work(image_dir: Path, tmp_path: Path) -> None:
    path = matrix.write("vgg", "torch.export", tmp_path)
    assert path is not None
    with pytest.raises(ModelError, match="cannot be written back"):
        repair(path, image_dir, tmp_path / "x.pt2", tuning=FORCED, settings=QUICK)


def test_plain_fine_tuning_is_lambda_2_of_0(before: Examined, image_dir: Path, tmp_path: Path) -> None:
    mended(before, image_dir, tmp_path / "a.onnx", method=FINETUNE)
    mended(before, image_dir, tmp_path / "b.onnx", replace(HOW, weight=0.0))
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    mended(before, image_dir, tmp_path / "c.onnx")
    assert (tmp_path / "a.onnx").read_bytes() != (tmp_path / "c.onnx").read_bytes()


def test_without_a_class_to_pull_to_the_given_model_teaches_nothing(before: Examined, image_dir: Path, tmp_path: Path) -> None:
    one, other = (mended(said(before, *found), image_dir, tmp_path / "fixed.onnx").settings for found in ((1,), ()))
    assert (one.teacher, one.depth) == (HOW.teacher, HOW.depth)
    assert (other.teacher, other.depth) == (0, 0)
    assert HOW.teacher * HOW.depth > 0


def test_a_torchscript_model(trained: torch.nn.Module, image_dir: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(trained, torch.zeros(1, 3, 16, 16)), str(tmp_path / "model.pt"))
    result = repair(tmp_path / "model.pt", image_dir, tmp_path / "fixed.pt", tuning=FORCED, settings=QUICK)
    assert result.mended.parity.rms < 1e-5
    assert result.after.model.format == "TorchScript"
    assert {p.name for p in tmp_path.iterdir()} == {"model.pt", "fixed.pt"}


def test_pruning(before: Examined, image_dir: Path, tmp_path: Path) -> None:
    """ANP trains masks alone: some neurons are gone afterwards, all others are what they were up to the statistics folded in."""
    done = mended(before, image_dir, tmp_path / "pruned.onnx", replace(METHODS[ANP], epochs=20, lr=0.5), method=ANP)
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
def test_an_interrupted_repair_goes_on(before: Examined, image_dir: Path, tmp_path: Path, flagged: bool) -> None:
    if flagged:  # then patches are pasted as well
        before = said(before, 3)
    mended(before, image_dir, tmp_path / "whole.onnx")
    seen = []

    def stop(epoch: int, clean: float, noisy: float, accuracy: float) -> None:
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mended(before, image_dir, tmp_path / "parts.onnx", on_epoch=stop)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["parts.onnx.partial", "whole.onnx"]
    mended(before, image_dir, tmp_path / "parts.onnx", on_epoch=lambda epoch, clean, noisy, accuracy: seen.append(epoch))
    assert seen == [3]
    assert (tmp_path / "whole.onnx").read_bytes() == (tmp_path / "parts.onnx").read_bytes()
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["parts.onnx", "whole.onnx"]


@pytest.mark.parametrize("content", [b"nothing of the kind", b"PK\x03\x04" + bytes(100)])
def test_a_checkpoint_of_something_else(before: Examined, image_dir: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "fixed.onnx.partial").write_bytes(content)
    with pytest.raises(UsageError, match="not the checkpoint"):
        mended(before, image_dir, tmp_path / "fixed.onnx")


def test_another_repairs_checkpoint_is_not_written_over(before: Examined, image_dir: Path, tmp_path: Path) -> None:
    def stop(epoch: int, clean: float, noisy: float, accuracy: float) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        mended(before, image_dir, tmp_path / "fixed.onnx", on_epoch=stop)
    kept = (tmp_path / "fixed.onnx.partial").read_bytes()
    assert before.preprocess is not None
    other = replace(before, preprocess=replace(before.preprocess, mean=(0.05,) * 3))
    for given, how in ((before, replace(HOW, lr=0.001)), (other, HOW)):
        with pytest.raises(UsageError, match="other images or settings"):
            mended(given, image_dir, tmp_path / "fixed.onnx", how)
    assert (tmp_path / "fixed.onnx.partial").read_bytes() == kept


def test_a_file_that_cannot_be_written_costs_no_tuning(
    before: Examined, image_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And leaves the file that was there."""
    output = tmp_path / "fixed.onnx"
    output.write_bytes(b"old")

    def full(model: object, weights: object, path: Path) -> None:
        path.with_name("fixed.onnx.data").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(writer, "write", full)
        with pytest.raises(BanscanError, match=r"fixed\.onnx: cannot be written \(No space left on device\)"):
            mended(before, image_dir, output)
    assert output.read_bytes() == b"old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fixed.onnx", "fixed.onnx.partial"]
    epochs: list[int] = []
    mended(before, image_dir, output, on_epoch=lambda epoch, clean, noisy, accuracy: epochs.append(epoch))
    assert epochs == []
    assert [p.name for p in tmp_path.iterdir()] == ["fixed.onnx"]


def test_a_file_that_differs_from_the_tuned_model_is_not_kept(
    before: Examined, image_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "fixed.onnx"
    output.write_bytes(b"old")

    def unchanged(model: TracedModel, weights: object, path: Path) -> None:
        path.write_bytes(model.source.path.read_bytes())

    monkeypatch.setattr(writer, "write", unchanged)
    with pytest.raises(BanscanError, match=r"fixed\.onnx: the written file would differ from the tuned model by \d"):
        mended(before, image_dir, output)
    assert output.read_bytes() == b"old"


def test_lost_accuracy_writes_nothing(before: Examined, image_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="benign accuracy fell"):
        mend(before, clean(before, image_dir), tmp_path / "x.onnx", method=BAN, how=replace(HOW, lr=5.0), max_drop=0.05)
    assert list(tmp_path.iterdir()) == []


def test_too_few_images(before: Examined, image_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="too few"):
        mend(before, clean(before, image_dir, 55), tmp_path / "x.onnx", method=BAN, how=HOW, max_drop=1.0)
