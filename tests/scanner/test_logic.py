"""Logic in the graph in a scan: what it does to the verdict, and to a file that cannot be read with it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from banscan.errors import EvidenceError
from banscan.importers.structure.finding import BRANCH, DECISION, PROVED, SUSPICIOUS, Logic, Structure
from banscan.scanner import logic
from banscan.scanner.findings import Verdict
from banscan.scanner.verdict import inconclusive
from bench.zoo.logic import written
from tests.importers.equivalent.network import graph, network
from tests.importers.structure.files import TARGET, Branched, images, saved
from tests.importers.structure.test_scripted import script
from tests.scanner.cli.test_main import banscan, failed

PLACE = Logic(tensor="hit", node="n", operator="Greater", kind=DECISION, before=0, after=0, constant=True)
SWITCH = replace(PLACE, outcome=PROVED, state="true", target=7, moved=1.0, changed=0.9)
CALM = Verdict(outcome="no backdoor found", reason="no class stands out", score=0.2)


def test_a_proof_outranks_the_networks_verdict() -> None:
    verdict = logic.weighed(CALM, Structure(places=(SWITCH,), apart=True))
    assert (verdict.outcome, verdict.targets, verdict.criterion, verdict.score) == ("backdoored", (7,), logic.CRITERION, 0.2)
    for part in ("Greater 'hit'", "class 7", "100%", "the network without it: no backdoor found"):
        assert part in verdict.reason


def test_a_trained_backdoor_beside_it_is_named_as_well() -> None:
    trained = Verdict(outcome="backdoored", reason="class 3 stands out", targets=(3,), kind="all-to-one")
    assert logic.weighed(trained, Structure(places=(SWITCH,), apart=True)).targets == (7, 3)


def test_a_doubt_makes_a_calm_file_suspicious() -> None:
    doubt = replace(SWITCH, outcome=SUSPICIOUS, moved=0.4)
    assert logic.weighed(CALM, Structure(places=(doubt,))).outcome == "suspicious"
    trained = Verdict(outcome="backdoored", reason="class 3 stands out", targets=(3,))
    assert logic.weighed(trained, Structure(places=(doubt,))) == trained


def test_what_does_nothing_changes_no_verdict() -> None:
    for places in ((), (PLACE,), (replace(PLACE, kind=BRANCH, outcome="idle"),)):
        assert logic.weighed(CALM, Structure(places=places)) == CALM
    assert logic.weighed(inconclusive("too few images"), None).outcome == "inconclusive"


def test_repair_refuses_what_it_cannot_take_out() -> None:
    with pytest.raises(EvidenceError, match="repair changes weights"):
        logic.check(Structure(places=(SWITCH,)), Path("m.onnx"))
    logic.check(Structure(places=(PLACE,)), Path("m.onnx"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Clean images in a flat folder."""
    place = tmp_path / "clean"
    place.mkdir()
    for k, image in enumerate(images(60)):
        Image.fromarray(np.rint(image.transpose(1, 2, 0) * 255).astype(np.uint8)).save(place / f"{k}.png")
    return place


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["where", "soft"])
def test_the_command_line_says_backdoored(tmp_path: Path, folder: Path, variant: str) -> None:
    path = saved(written(graph(), variant, TARGET), tmp_path / "logic.onnx")
    quick = ("--preprocess", "unit", "--restarts", "1", "--steps", "1", "--no-pixels", "--threads", "1")
    result = banscan(path, "--clean-dir", folder, *quick)
    assert result.returncode == 1, result.stderr
    assert f"Backdoored: class {TARGET}" in result.stdout


@pytest.mark.slow
def test_inspect_shows_the_structure(tmp_path: Path, folder: Path) -> None:
    path = saved(written(graph(), "where", TARGET), tmp_path / "logic.onnx")
    seen = banscan("inspect", path, "--structure")
    assert seen.returncode == 0, seen.stderr
    assert "Greater" in seen.stdout
    assert "--clean-dir" in seen.stdout
    for only_with_images in ("set to", "on clean images", "share"):
        assert only_with_images not in seen.stdout
    forced = banscan("inspect", path, "--structure", "--clean-dir", folder)
    assert forced.returncode == 0, forced.stderr
    assert "100%" in forced.stdout
    assert banscan("inspect", path, "--clean-dir", folder).returncode == 4


@pytest.mark.slow
def test_inspect_takes_the_options_of_images(tmp_path: Path, folder: Path) -> None:
    """The images support several preprocessings equally well; the one that is named is taken."""
    path = saved(written(graph(), "where", TARGET), tmp_path / "logic.onnx")
    forced = banscan("inspect", path, "--structure", "--clean-dir", folder, "--preprocess", "unit", "--max-images", "40")
    assert forced.returncode == 0, forced.stderr
    assert "Greater" in forced.stdout
    assert "100%" in forced.stdout
    for arguments in (("--structure", "--preprocess", "unit"), ("--mean", "0.5")):
        failed(banscan("inspect", path, *arguments), 4, "only used with --structure and --clean-dir")
    failed(banscan("inspect", path, "--structure", "--clean-dir", folder, "--preprocess", "odd"), 4, "odd")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_inspect_says_where_to_look_at_what_cannot_be_read(tmp_path: Path, folder: Path) -> None:
    path = script(Branched(), tmp_path / "branched.pt")
    failed(banscan("inspect", path), 2, "--structure --clean-dir")
    assert "If" in banscan("inspect", path, "--structure").stdout
    forced = banscan("inspect", path, "--structure", "--clean-dir", folder, "--preprocess", "unit")
    assert f" {TARGET} " in forced.stdout
    assert "100%" in forced.stdout


@pytest.mark.slow
def test_a_dry_run_names_what_was_taken_out(tmp_path: Path, folder: Path) -> None:
    path = saved(written(graph(), "branch", TARGET), tmp_path / "branch.onnx")
    done = banscan(path, "--clean-dir", folder, "--dry-run", "--preprocess", "unit", "--no-pixels", width=160)
    assert done.returncode == 1, done.stderr
    assert "If" in done.stdout or "Greater" in done.stdout
    assert f"Backdoored: class {TARGET}" in done.stdout
    assert "without what is proved here" in done.stdout


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_file_that_nothing_converts_is_refused_before_its_images_are_read(tmp_path: Path) -> None:
    path = script(network(), tmp_path / "plain.pt")
    (tmp_path / "clean").mkdir()
    (tmp_path / "clean" / "broken.png").write_bytes(b"none")
    failed(banscan(path, "--clean-dir", tmp_path / "clean", "--as", "int8"), 4, "has no runtime that makes int8 of it")
