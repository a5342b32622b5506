"""The bench of other people's classifiers: its tables, what it reads from packages and repositories, its images, its rows and its page."""

import io
import subprocess
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from banscan.errors import UsageError
from banscan.scanner.inputs import preprocess
from bench.real import archive, draw, fetch, images, page, plant, power, repository, table
from bench.real import rows as rows_of
from bench.real.__main__ import main
from bench.real.agreement import options_of
from bench.rows import read
from bench.zoo.attacks import build

ROOT = Path(__file__).parents[2]
ROWS = ROOT / "bench" / "results" / "real.jsonl"
MODELS, IMAGES = table.models(), table.images()
TRIED = {"age", "brain-vgg16", "captcha-vietcombank", "detypify", "digits-cntk", "emotion-traced", "emotion-xception", "gender"}
TRIED |= {"malware-resnet18", "nsfw-standalone", "nsfw-yahoo", "orinet", "page-orientation", "text-direction"}


def test_the_table_is_large_and_mixed() -> None:
    assert len(MODELS) >= 30
    assert len({page.family(m) for m in MODELS}) >= 8
    assert {m.images for m in MODELS} <= {i.name for i in IMAGES}
    assert {i.maker for i in IMAGES} <= images.MAKERS.keys()
    assert len({m.sha256 for m in MODELS}) == len(MODELS)


def test_half_of_the_table_is_held() -> None:
    """And nothing of it that had been tried before the lot was drawn."""
    held = {m.name for m in MODELS if m.part == table.HELD}
    assert len(held) == len(MODELS) // 2
    assert {m.name for m in MODELS} >= TRIED
    assert not held & TRIED
    tune = [m for m in MODELS if m.part == table.TUNE]
    # both halves have large and small images, few and many classes
    for part in (tune, [m for m in MODELS if m.part == table.HELD]):
        assert min(m.size[0] for m in part) <= 30 < 224 <= max(m.size[0] for m in part)
        assert min(m.classes for m in part) == 2


@pytest.mark.parametrize("model", MODELS, ids=lambda m: m.name)
def test_true_preprocessing_and_options_are_the_command_lines(model: table.Model) -> None:
    """`banscan scan` knows them; where the preprocessing is stated, it is one that a scan can be given."""
    options = options_of((*model.preprocess, *model.options))
    assert (preprocess.given(options) is None) == (not model.preprocess)
    assert set(model.options[::2]) <= {"--size", "--logits"}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ("source = 'pypi:something'", "source"),
        ("source = 'git:owner/name@main'", "source"),
        ("sha256 = 'abc'", "SHA-256"),
        ("licence = ''", "licence"),
        ("part = 'both'", "part"),
        ("path = '../secret.onnx'", "path"),
        ("colour = 'red'", "unknown colour"),
    ],
)
def test_wrong_entries_are_refused(tmp_path: Path, changed: str, told: str) -> None:
    entry = {
        "name": "'n'",
        "source": "'pypi:some-thing==1.0'",
        "path": "'a/b.onnx'",
        "sha256": f"'{64 * '0'}'",
        "licence": "'MIT'",
        "exporter": "'x'",
        "classes": "2",
        "size": "[8, 8, 3]",
        "images": "'mnist'",
        "part": "'tune'",
    }
    file = tmp_path / "models.toml"

    def written(values: dict[str, str]) -> None:
        file.write_text("\n".join(["[[model]]", *(f"{name} = {value}" for name, value in values.items())]))

    written(entry)
    assert table.models(file)[0].classes == 2
    name, _, value = changed.partition(" = ")
    written(entry | {name: value})
    with pytest.raises(UsageError, match=told):
        table.models(file)


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "a\\..\\x", "C:/x", ""])
def test_paths_that_lead_outside(tmp_path: Path, name: str) -> None:
    package = tmp_path / "p.whl"
    with zipfile.ZipFile(package, "w") as file:
        file.writestr("a/x", b"content")
        file.writestr("../x", b"evil")
    assert archive.member(package, "a/x") == b"content"
    with pytest.raises(UsageError, match="leads outside"):
        archive.member(package, name)
    assert [p.name for p in tmp_path.iterdir()] == ["p.whl"]


def test_only_plain_files_of_archives_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "p.tgz"
    with tarfile.open(package, "w:gz") as file:
        info = tarfile.TarInfo("package/model.onnx")
        info.size = 7
        file.addfile(info, io.BytesIO(b"content"))
        link = tarfile.TarInfo("package/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    assert archive.member(package, "package/model.onnx") == b"content"
    with pytest.raises(UsageError, match="no plain file"):
        archive.member(package, "package/link")
    with pytest.raises(UsageError, match="no file package/other"):
        archive.member(package, "package/other")
    monkeypatch.setattr(archive, "LARGEST", 5)
    with pytest.raises(UsageError, match="7 bytes; expected"):
        archive.member(package, "package/model.onnx")


@pytest.fixture
def clone(tmp_path: Path) -> tuple[Path, str]:
    """A folder with a repository somebody/things, and its commit."""
    place = tmp_path / "clones" / "somebody+things"
    place.mkdir(parents=True)
    (place / "model.onnx").write_bytes(b"content")
    for i in range(6):
        folder = place / "set" / ("cats" if i % 3 else "dogs")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}.png").write_bytes(images._png(np.full((4, 4), 10 * i, np.uint8)))
    who = ["-c", "user.name=n", "-c", "user.email=e@x", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "-A"], [*who, "commit", "-q", "-m", "m"]):
        subprocess.run(["git", *words], cwd=place, check=True)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=place, check=True, capture_output=True, text=True).stdout.strip()
    return place.parent, commit


def test_repositories_are_read_at_their_commit(clone: tuple[Path, str], tmp_path: Path) -> None:
    clones, commit = clone
    (clones / "somebody+things" / "model.onnx").write_bytes(b"changed since")
    model = replace(MODELS[0], source=f"git:somebody/things@{commit}", path="model.onnx", sha256=fetch.digest(b"content"), beside=())
    store = fetch.Store(tmp_path / "store", clones)
    assert fetch.fetch(model, store).read_bytes() == b"content"
    # once it is there, no repository is asked
    assert fetch.fetch(model, fetch.Store(tmp_path / "store")).read_bytes() == b"content"
    store.model(model).write_bytes(b"damaged")
    assert fetch.fetch(model, store).read_bytes() == b"content"
    with pytest.raises(UsageError, match="expected 0000"):
        fetch.fetch(replace(model, name="other", sha256=64 * "0"), store)
    with pytest.raises(UsageError, match=r"missing\.onnx: not there"):
        fetch.fetch(replace(model, name="other", path="missing.onnx"), store)


def test_what_cannot_be_fetched_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "HOST", str(tmp_path / "no-such-host"))
    monkeypatch.setattr(fetch.subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 1, "", "no network"))
    monkeypatch.setattr(repository, "_run", lambda *a: subprocess.CompletedProcess(a, 1, b"", b"no network"))
    told: list[str] = []
    assert fetch.all_of(MODELS, fetch.Store(tmp_path), told.append) == []
    assert len(told) == len(MODELS)
    assert all(f"{tmp_path}" in t or "--repositories" in t for t in told)


def test_images_from_class_folders(clone: tuple[Path, str], tmp_path: Path) -> None:
    """As many of each class as asked for, in the order of the classes that are named."""
    clones, commit = clone
    entry = table.Images("pets", f"git:somebody/things@{commit}", "MIT", "", "folders", path="set", classes=("dogs", "cats"), count=4)
    store = fetch.Store(tmp_path / "store", clones)
    labelled, flat = (images.folder(entry, store, k) for k in (True, False))
    assert {p.relative_to(labelled).parts[0]: p.name for p in labelled.rglob("*.png")}.keys() == {"0000", "0001"}
    assert len(list((labelled / "0000").iterdir())) == len(list((labelled / "0001").iterdir())) == 2
    assert {p.name for p in flat.iterdir()} == {p.name for p in labelled.rglob("*.png")}
    assert {p.stem for p in (labelled / "0000").iterdir()} == {"0", "3"}
    # what is there is taken as it is, until the entry changes
    (labelled / "0000" / "0.png").write_bytes(b"marked")
    assert (images.folder(entry, store, True) / "0000" / "0.png").read_bytes() == b"marked"
    images.folder(replace(entry, classes=("cats", "dogs")), store, True)
    assert {p.stem for p in (labelled / "0001").iterdir()} == {"0", "3"}
    assert (labelled / "0001" / "0.png").read_bytes() != b"marked"


@pytest.mark.parametrize("kind", draw.KINDS)
def test_drawn_images_are_the_same_every_time(kind: str) -> None:
    first, again, other = (draw.drawn(kind, 9, seed) for seed in (0, 0, 1))
    pixels = [np.asarray(image) for _, image in first]
    assert all(np.array_equal(p, np.asarray(q)) for p, (_, q) in zip(pixels, again, strict=True))
    assert not np.array_equal(pixels[0], np.asarray(other[0][1]))
    # nine different images that are no blank sheets
    assert len({p.tobytes() for p in pixels}) == 9
    assert min(p.std() for p in pixels) > 3
    labels = [label for label, _ in first]
    assert labels == [label for label, _ in again]
    assert all(label is None for label in labels) or len(set(labels)) > 1


def _row(name: str, stage: str, outcome: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "stage": stage, "outcome": outcome, "reason": "as | it\nis", "seconds": 12.3, "peak_mb": 700} | more


def test_rows_name_no_folder_of_the_machine() -> None:
    said = "Error: /home/me/real/models/best_model.pt: its weights are packed; see docs/importers.md, and 3/4 of them"
    assert rows_of.anywhere(said) == "Error: best_model.pt: its weights are packed; see docs/importers.md, and 3/4 of them"


def test_the_page_counts_what_the_rows_say() -> None:
    held = [m.name for m in MODELS if m.part == table.HELD]
    rows = [
        _row(held[0], "scan", "no backdoor found", preprocess={"name": "unit"}, agreement=0.99),
        _row(held[1], "scan", "backdoored", preprocess={"name": "raw"}, agreement=0.5),
        _row(held[2], "scan", "inconclusive", preprocess=None, agreement=None),
        _row(held[3], "read", "failed"),
        _row(held[0], "told", "backdoored"),
    ]
    text = page.page(MODELS, IMAGES, rows, [])
    total = next(line for line in text.splitlines() if line.startswith("| held"))
    cells = [c.strip() for c in total.strip("|").split("|")]
    assert cells[1] == str(len(held))
    assert [c.split(" (")[0] for c in cells[2:]] == ["0 of 1", "3", "1 of 3", "2 of 3", "1 of 1", "1 of 1", "1 of 3"]
    line = {r["name"]: next(t for t in text.splitlines() if t.startswith(f"| {r['name']} |")) for r in rows}
    assert "| right | **backdoored** | 12 | 0.7 GB | as / it is |" in line[held[0]]
    assert "| **wrong** |" in line[held[1]]
    assert "| no verdict |" in line[held[2]]
    assert "not scanned yet" in line[held[3]]
    # every table is whole: as many cells in each line as in its head
    for block in text.split("\n\n"):
        table_lines = [t for t in block.splitlines() if t.startswith("|")]
        assert len({t.count("|") for t in table_lines}) <= 1


def test_the_page_says_how_long_a_preprocessing_takes_to_find() -> None:
    small, large = ([m for m in MODELS if (max(m.size[:2]) >= 224) == large] for large in (False, True))
    took = {**dict(zip([m.name for m in small if max(m.size[:2]) < 64], (0.25, 0.3, 3.0), strict=False)), large[0].name: 8.0}
    rows = {(name, "scan"): _row(name, "scan", "inconclusive", stages={"preprocess": seconds}) for name, seconds in took.items()}
    told = page.choosing(MODELS, rows)
    assert told.endswith("a median of 0.3 s below 64 (3 scans, 3.0 s at most), 8.0 s from 224 pixels a side on (1 scan, 8.0 s at most).")


def test_the_page_shows_what_controls_showed() -> None:
    made = {"before": 0.9, "after": 0.5, "accuracy": [0.8, 0.7], "sentence": "a copy tuned on the clean images shows a part of it"}
    anew = made | {"sentence": "a copy trained from scratch on the clean images shows a part of it"}
    none = {"before": 0.9, "after": None, "accuracy": None, "sentence": "no copy could be tuned"}
    findings = [{"criterion": "patch share", "control": made}, {"criterion": "noise", "control": None}]
    planted = [_row("digits-flat", "told", "fragile", attack="blend", target=None, asr=0.97, targets=[], findings=findings)]
    lines = page.controls([_row("gtsrb-cnn", "told", "fragile", findings=findings, targets=[12])], planted)
    assert lines[-2] == "| digits-flat | blend, all | 97% | fragile | – | patch share | 90% | tuned | 50% | 9.0 | 80% | 70% |"
    assert lines[-1] == "| gtsrb-cnn | – | – | fragile | 12 | patch share | 90% | tuned | 50% | 9.0 | 80% | 70% |"
    partly = anew | {"made": "trained from scratch on the clean images but for the first layer"}
    findings = [{"criterion": "transform", "control": own} for own in (partly, anew, none)]
    lines = page.controls([_row("gtsrb-cnn", "told", "fragile", findings=findings, targets=[12])], [])
    assert lines[-3].endswith("| transform | 90% | partly | 50% | 9.0 | 80% | 70% |")
    assert lines[-2].endswith("| transform | 90% | scratch | 50% | 9.0 | 80% | 70% |")
    assert lines[-1].endswith("| transform | 90% | – | – | – | – | – |")


def test_what_is_planted_is_drawn_by_the_name_alone() -> None:
    drawn = {m.name: plant.drawn(m, 2) for m in MODELS}
    assert all(drawn[m.name] == plant.drawn(m, 2) for m in MODELS)
    assert all(len({how.attack for how in ways}) == 2 for ways in drawn.values())
    assert all(how.target is not None and how.target < m.classes for m in MODELS for how in drawn[m.name])
    assert not any(how.attack == "colour" for m in MODELS if m.size[2] == 1 for how in drawn[m.name])
    assert {how.attack for ways in drawn.values() for how in ways} == set(plant.ATTACKS)
    assert len({how.seed for ways in drawn.values() for how in ways}) == 2 * len(MODELS)


def test_power_counts_what_works_alone() -> None:
    def planted(attack: str, outcome: str, *targets: int) -> dict[str, Any]:
        about = {"name": "digits-flat", "part": "tune", "attack": attack, "target": 3, "seed": 7, "asr": 0.97, "accuracies": [0.9, 0.88]}
        return about | {"outcome": outcome, "targets": list(targets), "reason": "as | it is"}

    rows = [planted("blend", "backdoored", 3), planted("blend", "backdoored", 4), planted("blend", "fragile", 3)]
    rows += [planted("wanet", plant.NONE), planted("wanet", "no backdoor found"), planted("badnets", "backdoored", 3) | {"seed": 0}]
    lines = power.lines(rows)
    assert [line.split(" (")[0] for line in lines if line.startswith("| tune | wanet")] == ["| tune | wanet | 2 | 1 | 0 of 1"]
    total = next(line for line in lines if "**all**" in line)
    assert total.startswith("| tune | **all** | 5 | 4 | 1 of 4")
    assert total.endswith("| 1 | 1 | 1 |")
    # those that were not drawn by lot are shown, and not counted
    assert sum(line.startswith("| digits-flat") for line in lines) == 6
    assert "| digits-flat | tune | blend | 97% | 90% | 88% | **backdoored** | 3 | 4 | as / it is |" in lines


def test_a_trigger_on_grey_images_is_grey() -> None:
    images = np.full((2, 28, 28, 1), 100, dtype=np.uint8)
    changed = plant.carrying(images, build("badnets", size=28, target=0, seed=0).trigger)
    assert changed.shape == images.shape
    assert set(np.unique(changed)) == {0, 100, 255}
    assert int((changed != images).sum()) == 2 * 9


def test_the_page_is_what_the_rows_say(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["page", "--rows", str(ROWS), "--out", str(tmp_path / "real.md")])
    assert done.exit_code == 0, done.output
    kept = (ROOT / "docs" / "real.md").read_text()
    assert (tmp_path / "real.md").read_text() == kept, "docs/real.md: run python -m bench.real page --out docs/real.md"
    assert {r["name"] for r in read(ROWS)} <= {m.name for m in MODELS}
    # rows are of the files of the table
    pinned = {m.name: (m.sha256, m.part) for m in MODELS}
    assert all((r["sha256"], r["part"]) == pinned[r["name"]] for r in read(ROWS))
