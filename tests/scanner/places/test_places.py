"""Names of models elsewhere, which file is taken of many, and what is told of names that cannot be."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest

from banscan.errors import ModelError, UsageError
from banscan.scanner.fleet import models, table
from banscan.scanner.inputs import given
from banscan.scanner.places import hub, place, registry
from banscan.scanner.places.choice import chosen
from banscan.scanner.places.place import Local
from banscan.scanner.report import sarif, summary
from banscan.scanner.report.html.page import to_html
from banscan.scanner.report.json import read, render, to_dict
from banscan.scanner.request import Request, plain, restored

GOLDEN = Path(__file__).parents[2] / "golden"
ORIGIN = "hf://o/n@0123456789abcdef0123456789abcdef01234567/model.onnx"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf://o/n", "hf://o/n"),
        ("hf:/o/n", "hf://o/n"),
        ("hf://o/n@main/a/model.onnx", "hf://o/n@main"),
        ("hf://o-1/n.x_2@refs/pr/7/a", "hf://o-1/n.x_2@refs/pr/7"),
        ("models:/tiny net/3", "models:/tiny net/3"),
        ("models:/n@champion/data", "models:/n@champion"),
        ("models:/n/champion", "models:/n@champion"),
    ],
)
def test_a_name_is_read_with_and_without_its_second_slash(text: str, expected: str) -> None:
    assert place.elsewhere(text)
    assert place.elsewhere(Path(text))
    kind, rest = place._kind(Path(text))
    assert str(kind.parse(rest)) == expected


def test_parts_of_names() -> None:
    assert hub.parse("o/n@refs/pr/7/a/b.onnx") == hub.Place("o/n", "refs/pr/7", "a/b.onnx")
    assert registry.parse("n/12/a/b.onnx") == registry.Place("n", "12", None, "a/b.onnx")
    assert registry.parse("n@best") == registry.Place("n", None, "best", None)


@pytest.mark.parametrize("text", ["model.onnx", "./hf/model.onnx", "hf.onnx", "C:/models/x.onnx", "models/x/1", "s3://b/k", "ahf://o/n"])
def test_paths_are_paths(text: str) -> None:
    assert not place.elsewhere(text)
    with place.local(text) as model:
        assert model == Local(Path(text))


@pytest.mark.parametrize("text", ["hf://o", "hf://o/", "hf://o/n@", "hf://o/../n", "hf://o/n/../../x", "hf://o o/n", "hf://o/n@a@b"])
def test_what_names_nothing_on_the_hub(text: str) -> None:
    with pytest.raises(UsageError, match="names no model; expected hf://owner/name"):
        place.check(Path(text))


@pytest.mark.parametrize("text", ["models:/n", "models:/n@", "models:/n/1/../2"])
def test_what_names_nothing_in_a_registry(text: str) -> None:
    with pytest.raises(UsageError, match="names no model; expected models:/name/version"):
        place.check(Path(text))


@pytest.mark.parametrize(("text", "extra"), [("hf://o/n", "hf"), ("models:/n/1", "mlflow")])
def test_a_client_that_is_missing(text: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=rf"^{text}: needs .* pip install 'banscan\[{extra}\]'$"):
        given.check(Path(text))
    with pytest.raises(UsageError, match="pip install"), place.local(text):
        pass
    with pytest.raises(UsageError, match="pip install"):
        models.check([Path(text)])


def test_one_model_is_taken_with_the_weights_beside_it() -> None:
    names = [
        "README.md",
        "run.py",
        "a/m.onnx",
        "a/m.onnx_data",
        "a/m.onnx.data",
        "a/m.onnx_data_1",
        "a/m.onnx.py",
        "a/m.onnx_database",
        "m.onnx_data",
    ]
    assert chosen("p", names, None) == ("a/m.onnx", "a/m.onnx.data", "a/m.onnx_data", "a/m.onnx_data_1")
    assert chosen("p", [*names, "b.pt"], "a") == chosen("p", [*names, "b.pt"], "a/m.onnx")


def test_of_several_models_none_is_taken() -> None:
    with pytest.raises(UsageError, match=r"^p: holds 2 model files, a\.onnx, b/c\.pt2; name one: p/a\.onnx$"):
        chosen("p", ["b/c.pt2", "a.onnx"], None)
    with pytest.raises(UsageError, match=r"holds 30 model files, (m\d\d\.onnx, ){8}…; name one"):
        chosen("p", [f"m{i:02d}.onnx" for i in range(30)], None)


def test_where_there_is_no_model() -> None:
    with pytest.raises(ModelError, match=r"holds no model file, and w\.safetensors is not read; expected a file that ends in .*\.onnx"):
        chosen("p", ["w.safetensors", "code.py"], None)
    with pytest.raises(ModelError, match=r"p/code\.py: no model file"):
        chosen("p", ["m.onnx", "code.py"], "code.py")
    with pytest.raises(UsageError, match=r"holds no model file x\.onnx; it holds m\.onnx"):
        chosen("p", ["m.onnx"], "x.onnx")


@pytest.mark.parametrize("name", ["../m.onnx", "/etc/m.onnx", "a/../../m.onnx", "a\\m.onnx", "a//m.onnx", "./m.onnx", "a\0m.onnx"])
def test_names_that_lead_out_are_no_models(name: str) -> None:
    with pytest.raises(ModelError):
        chosen("p", [name], None)


def test_reports_say_where_a_model_is_from() -> None:
    report = Local(Path("x"), ORIGIN).named(read((GOLDEN / "backdoored.json").read_text()))
    assert read(render(report)) == report
    assert to_dict(report)["model"]["origin"] == ORIGIN
    assert f"{ORIGIN}: Backdoored" in summary.line(report)
    run = sarif.to_sarif([report])["runs"][0]
    assert (
        run["artifacts"][0]["location"]["uri"] == run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == ORIGIN
    )
    assert f"banscan {ORIGIN} --clean-dir" in to_html(report)


def test_a_report_that_was_stored_without_an_origin_is_read() -> None:
    document = json.loads((GOLDEN / "clean.json").read_text())
    del document["model"]["origin"]
    assert read(json.dumps(document)).model.origin is None


def test_a_request_carries_the_origin_to_other_processes() -> None:
    request = Request(origin=ORIGIN)
    assert restored(plain(request)) == request


@pytest.mark.skipif(importlib.util.find_spec("huggingface_hub") is None, reason="needs huggingface_hub (make test-frameworks)")
def test_lists_of_models_may_name_some_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "imgs").mkdir()
    (tmp_path / "m.onnx").write_bytes(b"m")
    words = [Path("hf://o/n@main"), tmp_path / "m.onnx"]
    assert set(models.listed(words).models) == set(words)
    assert not models.several(words[:1])
    with pytest.raises(UsageError, match="given twice"):
        models.listed([words[0], words[0]])
    (tmp_path / "list.csv").write_text("model,images\nm.onnx,imgs\nhf://o/n@main,imgs\n")
    jobs = table.jobs(tmp_path / "list.csv", None, Request())
    assert [job.model for job in jobs] == [tmp_path / "m.onnx", words[0]]
    named = replace(jobs[0], request=replace(jobs[0].request, origin=ORIGIN))
    assert named.asked() == jobs[0].asked()
