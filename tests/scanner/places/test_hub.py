"""Models of a hub: the client's own code against a hub on this machine, and the command line as a process."""

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest

from banscan.errors import BanscanError, ModelError, UsageError
from banscan.scanner.places import place
from tests.scanner.places.fake_hub import COMMIT, Hub, Repository, serving

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def hub(model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub that the client in this process asks, with a cache of its own."""
    assert "huggingface_hub" not in sys.modules, "it reads where its hub is only once"
    model = model_file.read_bytes()
    folder, harmed = tmp_path_factory.mktemp("external"), tmp_path_factory.mktemp("harm") / "done"
    onnx.save_model(
        onnx.load(model_file), str(folder / "model.onnx"), save_as_external_data=True, location="model.onnx_data", size_threshold=0
    )
    beside = {f"onnx/{path.name}": path.read_bytes() for path in folder.iterdir()}
    text = {"README.md": b"# a model", "config.json": b"{}", "modeling.py": b"raise SystemExit(9)", "pytorch_model.bin": b"\x80\x04."}
    repositories = {
        "o/one": Repository({"model.onnx": model, **text}),
        "o/several": Repository({"a/model.onnx": model, "b.onnx": model}),
        "o/beside": Repository({**beside, **text}),
        "o/none": Repository({"model.safetensors": b"x", **text}),
        "o/gated": Repository({}, error=(403, "GatedRepo")),
        "o/private": Repository({}, error=(401, "RepoNotFound")),
        "o/broken": Repository({}, error=(500, "")),
        "o/other": Repository({"model.onnx": model}, sent={"model.onnx": model[:-1] + b"x"}),
        "o/pickle": Repository({"model.pt": pickle.dumps(Harm(harmed), protocol=0)}),
    }
    with pytest.MonkeyPatch.context() as patch, serving(Hub(repositories)) as serves:
        patch.setenv("HF_ENDPOINT", serves.address)
        patch.setenv("HARMED", str(harmed))
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("HF_HUB_DISABLE_XET", "1")
        pytest.importorskip("huggingface_hub", reason="needs huggingface_hub (make test-frameworks)")
        yield serves


class Harm:
    """What a pickle does when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self.path}'",)


def banscan(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command as a process, which asks the same hub."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "banscan", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)


def test_one_file_is_fetched_and_nothing_else(hub: Hub, model_file: Path) -> None:
    hub.asked.clear()
    with place.local(Path("hf://o/one")) as model:
        assert model.path.read_bytes() == model_file.read_bytes()
        assert model.path.is_relative_to(os.environ["HF_HOME"])
        assert model.origin == f"hf://o/one@{COMMIT}/model.onnx"
    assert hub.fetched == {"model.onnx"}
    hub.asked.clear()
    with place.local(f"hf://o/one@{COMMIT}/model.onnx") as model:
        assert model.path.is_file()
    assert not hub.fetched  # it is in the client's cache


@pytest.mark.parametrize("revision", ["main", "v1", "refs/pr/1", COMMIT])
def test_a_revision_is_told_as_its_commit(hub: Hub, revision: str) -> None:
    with place.local(f"hf://o/one@{revision}") as model:
        assert model.origin == f"hf://o/one@{COMMIT}/model.onnx"


def test_weights_beside_the_model_come_with_it(hub: Hub) -> None:
    from banscan import importers

    hub.asked.clear()
    with place.local("hf://o/beside") as model:
        assert model.origin == f"hf://o/beside@{COMMIT}/onnx/model.onnx"
        assert importers.load(model.path).classes == 10
        kept = model.path
    assert hub.fetched == {"onnx/model.onnx", "onnx/model.onnx_data"}
    assert not kept.exists()


@pytest.mark.parametrize(
    ("name", "kind", "match"),
    [
        ("o/several", UsageError, r"holds 2 model files, a/model\.onnx, b\.onnx; name one: hf://o/several/a/model\.onnx$"),
        ("o/none", ModelError, r"holds no model file, and model\.safetensors is not read"),
        ("o/gated", UsageError, "gated; ask for access"),
        ("o/private", UsageError, "no such repository, or a private one"),
        ("o/missing", UsageError, "no such repository, or a private one"),
        ("o/one@v9", UsageError, "no such revision of o/one"),
        ("o/one/x.onnx", UsageError, r"holds no model file x\.onnx; it holds model\.onnx$"),
        ("o/one/modeling.py", ModelError, "no model file"),
        ("o/broken", BanscanError, "cannot be fetched"),
        ("o/other", BanscanError, "what arrived is not what the hub names"),
    ],
)
def test_what_cannot_be_fetched_is_one_sentence(hub: Hub, name: str, kind: type[BanscanError], match: str) -> None:
    with pytest.raises(BanscanError, match=match) as caught, place.local(f"hf://{name}"):
        pass
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_hub_that_is_not_there(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    done = banscan("inspect", "hf://o/one")
    assert done.returncode == 2
    assert done.stderr.startswith("Error: hf://o/one: cannot be fetched (")
    assert len(done.stderr.splitlines()) == 1
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE is set" in banscan("inspect", "hf://o/one").stderr


@pytest.mark.slow
def test_a_pickle_is_refused_and_not_loaded(hub: Hub) -> None:
    done = banscan("inspect", "hf://o/pickle")
    assert done.returncode == 3, done.stderr
    assert "pickle" in done.stderr
    assert not Path(os.environ["HARMED"]).exists()


@pytest.mark.slow
def test_commands_take_it_as_a_model(hub: Hub, image_dir: Path, tmp_path: Path) -> None:
    """Dry run, inspect, and a repair, which refuses a model that a scan does not flag."""
    done = banscan("hf://o/one@v1", "--clean-dir", image_dir, "--dry-run", "--format", "json")
    assert done.returncode == 0, done.stderr
    model = json.loads(done.stdout)["model"]
    assert model["origin"] == f"hf://o/one@{COMMIT}/model.onnx"
    assert len(model["sha256"]) == 64
    shown = banscan("inspect", "hf://o/one")
    assert shown.returncode == 0, shown.stderr
    assert f"@{COMMIT[:4]}" in shown.stdout
    assert banscan("inspect", "hf://o/one", "--structure").stdout.startswith("hf://o/one@")
    fast = ("--clean-dir", image_dir, "--restarts", "1", "--steps", "1", "--no-pixels", "--threads", "1")
    fixed = tmp_path / "fixed.onnx"
    refused = banscan("repair", "hf://o/one", *fast, "-o", fixed)
    assert "not flagged" in refused.stderr or fixed.exists(), refused.stderr


@pytest.mark.slow
def test_among_many(hub: Hub, model_file: Path, image_dir: Path, tmp_path: Path) -> None:
    """Results are kept with the origin; a second run scans nothing; one that is missing is told before anything is scanned."""
    fast = ("--clean-dir", image_dir, "--restarts", "1", "--steps", "1", "--no-pixels", "--threads", "1", "--results", tmp_path / "kept")
    other = tmp_path / "other.onnx"
    other.write_bytes(model_file.read_bytes() + b"\x72\x03abc")  # a field of metadata
    done = banscan("scan", "hf://o/one", other, *fast, "--exit-zero")
    assert f"hf://o/one@{COMMIT}/model.onnx" in done.stdout, done.stdout + done.stderr
    kept = [json.loads(path.read_text()) for path in (tmp_path / "kept").glob("*.json") if not path.name.startswith("shard")]
    assert f"hf://o/one@{COMMIT}/model.onnx" in {(document["report"] or {"model": {}})["model"].get("origin") for document in kept}
    refused = banscan("scan", "hf://o/missing", other, *fast)
    assert (refused.returncode, "no such repository" in refused.stderr) == (4, True)
