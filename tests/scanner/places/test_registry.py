"""Models of an MLflow registry: the client's own code against a registry in a folder."""

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from banscan.errors import BanscanError, ModelError, UsageError
from banscan.scanner.places import place

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module", autouse=True)
def registry(model_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Versions 1 (alias *champion*): a model beside code and a pickle; 2: two models; 3: none."""
    folder = tmp_path_factory.mktemp("mlflow")
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setenv("MLFLOW_TRACKING_URI", f"file://{folder}/runs")
        patch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        mlflow = pytest.importorskip("mlflow", reason="needs mlflow-skinny (make test-frameworks)")
        client = mlflow.MlflowClient()
        client.create_registered_model("tiny net")
        model = model_file.read_bytes()
        versions = (
            {"model.onnx": model, "MLmodel": b"flavors: {}\n", "code/load.py": b"raise SystemExit(9)", "data/model.pkl": b"x"},
            {"b.onnx": model, "data/model.onnx": model},
            {"MLmodel": b"flavors: {}\n"},
        )
        for number, files in enumerate(versions, start=1):
            source = folder / f"source{number}"
            for name, data in files.items():
                (source / name).parent.mkdir(parents=True, exist_ok=True)
                (source / name).write_bytes(data)
            client.create_model_version("tiny net", source=str(source))
        client.set_registered_model_alias("tiny net", "champion", "1")
        yield folder


@pytest.mark.parametrize("name", ["tiny net/1", "tiny net@champion", "tiny net/champion", "tiny net/1/model.onnx"])
def test_a_version_is_fetched(name: str, model_file: Path) -> None:
    with place.local(f"models:/{name}") as model:
        assert model.path.read_bytes() == model_file.read_bytes()
        assert model.origin == "models:/tiny net/1/model.onnx"
        assert [path.name for path in model.path.parent.iterdir()] == ["model.onnx"]
        kept = model.path
    assert not kept.exists()


def test_a_folder_of_it(model_file: Path) -> None:
    with place.local("models:/tiny net/2/data") as model:
        assert model.path.read_bytes() == model_file.read_bytes()
        assert model.origin == "models:/tiny net/2/data/model.onnx"


@pytest.mark.parametrize(
    ("name", "kind", "match"),
    [
        ("tiny net/2", UsageError, r"holds 2 model files, b\.onnx, data/model\.onnx; name one: models:/tiny net/2/b\.onnx$"),
        ("tiny net/3", ModelError, "holds no model file"),
        ("tiny net/9", UsageError, "no such model in file://"),
        ("tiny net@nobody", UsageError, "no such model in file://"),
        ("other/1", UsageError, "no such model in file://"),
        ("tiny net/1/code/load.py", ModelError, "no model file"),
    ],
)
def test_what_cannot_be_fetched_is_one_sentence(name: str, kind: type[BanscanError], match: str) -> None:
    with pytest.raises(BanscanError, match=match) as caught, place.local(f"models:/{name}"):
        pass
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)


def banscan(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", "NO_COLOR": "1", **environment}
    command = [sys.executable, "-m", "banscan", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=known, timeout=300, check=False)


@pytest.mark.slow
def test_the_command_line() -> None:
    done = banscan("inspect", "models:/tiny net@champion")
    assert done.returncode == 0, done.stderr
    assert "models:/tiny net/1/model.onnx" in done.stdout
    unset = banscan("inspect", "models:/tiny net/1", MLFLOW_TRACKING_URI="")
    assert (unset.returncode, "MLFLOW_TRACKING_URI" in unset.stderr) == (4, True)
    away = banscan(
        "inspect", "models:/tiny net/1", MLFLOW_TRACKING_URI="http://somebody:secret@127.0.0.1:9", MLFLOW_HTTP_REQUEST_MAX_RETRIES="0"
    )
    assert away.returncode == 2
    assert "cannot be fetched from http://127.0.0.1:9" in away.stderr
    assert "secret" not in away.stderr
    assert len(away.stderr.splitlines()) == 1
