"""Data sets as their archives unpack, the recipes, and the pages of the BAN paper from made rows; nothing is trained."""

import json
from itertools import product
from math import isnan, nan
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from bench.paper import cells, measure, page, printed, recipes, store
from bench.paper.__main__ import main
from bench.paper.printed import DETECTION, Key
from bench.zoo import data, models, queue, train

ROOT = Path(__file__).parents[2]
ROWS = ROOT / "bench" / "results"


def picture(path: Path, colour: int, size: tuple[int, int] = (9, 9)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (colour, 0, 255 - colour)).save(path)


@pytest.fixture
def cifar(tmp_path: Path) -> Path:
    """Five files of 40 records and one for testing; a record's first red pixel is its label, its last blue one its file."""
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    (folder / "batches.meta.txt").write_text("\n".join("abcdefghij") + "\n\n")
    for k in range(6):
        records = np.zeros((40, 3073), np.uint8)
        records[:, 0] = np.arange(40) % 10
        records[:, 1] = records[:, 0]
        records[:, -1] = k
        records.tofile(folder / ("test_batch.bin" if k == 5 else f"data_batch_{k + 1}.bin"))
    return tmp_path


def test_cifar10_is_read_from_its_binary_version(cifar: Path) -> None:
    split = data.load(cifar, "cifar10")
    assert split.classes == tuple("abcdefghij")
    assert [len(p.labels) for p in (split.train, split.defender, split.test)] == [180, 20, 40]
    for part in (split.train, split.defender, split.test):
        assert part.images.shape[1:] == (32, 32, 3)
        assert (part.images[:, 0, 0, 0] == part.labels).all()
    assert set(split.train.images[:, -1, -1, 2]) == {0, 1, 2, 3, 4}
    assert set(split.test.images[:, -1, -1, 2]) == {5}
    assert np.bincount(split.defender.labels).tolist() == [2] * 10
    few = data.load(cifar, "cifar3")
    assert few.classes == tuple(split.classes[k] for k in sorted(np.random.default_rng(3).permutation(10)[:3]))
    assert len(few.train.labels) == 54


def test_pickles_are_not_read(tmp_path: Path) -> None:
    """Reading one would run what it says."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(ValueError, match=r"holds Python pickles, which can run code and are not read; expected the binary version"):
        data.load(tmp_path, "cifar10")
    assert not Path("ran").exists()


@pytest.mark.parametrize("change", ["missing", "short", "label"])
def test_cifar10_that_is_not_whole(cifar: Path, change: str) -> None:
    path = cifar / "cifar-10-batches-bin" / "data_batch_3.bin"
    content = bytearray(path.read_bytes())
    if change == "missing":
        path.unlink()
    elif change == "short":
        path.write_bytes(content[:-1])
    else:
        content[3073] = 10
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"data_batch_3\.bin (is missing|does not hold records)[^\n]*expected[^\n]*cifar-10-binary"):
        data.load(cifar, "cifar10")


@pytest.fixture
def gtsrb(tmp_path: Path) -> Path:
    """Three classes of ten tracks of three frames; the colour tells class and track."""
    head = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"
    for c in range(3):
        folder = tmp_path / "GTSRB" / "Final_Training" / "Images" / f"{c:05d}"
        rows = [head]
        for track, frame in product(range(10), range(3)):
            name = f"{track:05d}_{frame:05d}.ppm"
            picture(folder / name, 80 * c + track, (9, 12))
            rows.append(f"{name};9;12;1;1;8;8;{c}")
        (folder / f"GT-{c:05d}.csv").write_text("\n".join(rows) + "\n")
    images = tmp_path / "GTSRB" / "Final_Test" / "Images"
    for k in range(6):
        picture(images / f"{k:05d}.ppm", 80 * (k % 3) + 50)
    (images / "GT-final_test.csv").write_text("\n".join([head, *(f"{k:05d}.ppm;9;9;1;1;8;8;{k % 3}" for k in range(6))]) + "\n")
    return tmp_path


def test_gtsrb_is_read_from_its_official_folders(gtsrb: Path) -> None:
    split = data.load(gtsrb, "gtsrb", 16)
    assert split.classes == ("00000", "00001", "00002")
    assert [len(p.labels) for p in (split.train, split.defender, split.test)] == [81, 9, 6]
    assert split.train.images.shape[1:] == (16, 16, 3)
    for part in (split.train, split.defender, split.test):
        assert (part.images[:, 8, 8, 0] // 80 == part.labels).all()
    # all frames of a track are on one side
    assert not {i[8, 8, 0] for i in split.train.images} & {i[8, 8, 0] for i in split.defender.images}
    few = data.load(gtsrb, "gtsrb2", 16)
    assert len(few.classes) == 2
    assert set(few.test.labels) == {0, 1}
    # the classes of the test images come in an archive of their own
    (gtsrb / "GTSRB" / "Final_Test" / "Images" / "GT-final_test.csv").rename(gtsrb / "GTSRB" / "GT-final_test.csv")
    assert (data.load(gtsrb, "gtsrb", 16).test.labels == split.test.labels).all()
    (gtsrb / "GTSRB" / "GT-final_test.csv").unlink()
    with pytest.raises(ValueError, match=r"GT-final_test\.csv is missing; expected the classes of the test images"):
        data.load(gtsrb, "gtsrb", 16)


def test_gtsrb_that_is_not_whole(gtsrb: Path) -> None:
    images = gtsrb / "GTSRB" / "Final_Training" / "Images"
    (images / "00001" / "00002_00001.ppm").unlink()
    with pytest.raises(ValueError, match=r"00002_00001\.ppm: no such file; expected an image"):
        data.load(gtsrb, "gtsrb")
    (images / "00001" / "GT-00001.csv").write_text("Filename,ClassId\n../../x.ppm,1\n")
    with pytest.raises(ValueError, match=r"GT-00001\.csv has no columns Filename and ClassId"):
        data.load(gtsrb, "gtsrb")
    (images / "00001" / "GT-00001.csv").write_text("Filename;ClassId\n../../x.ppm;1\n")
    with pytest.raises(ValueError, match=r"GT-00001\.csv names no images, or such in other folders"):
        data.load(gtsrb, "gtsrb")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny-imagenet-200"
    names = ("n03", "n01", "n02")
    for c, name in enumerate(sorted(names)):
        for k in range(20):
            picture(folder / "train" / name / "images" / f"{name}_{k}.JPEG", 100 * c, (64, 64))
    (folder / "wnids.txt").write_text("\n".join(names) + "\n")
    rows = []
    for k in range(6):
        picture(folder / "val" / "images" / f"val_{k}.JPEG", 100 * (k % 3), (64, 64))
        rows.append(f"val_{k}.JPEG\tn0{k % 3 + 1}\t0\t0\t63\t63")
    (folder / "val" / "val_annotations.txt").write_text("\n".join(rows) + "\n")
    return tmp_path


def test_tiny_imagenet_is_read_as_it_unpacks(tiny: Path) -> None:
    split = data.load(tiny, "tinyimagenet", 64)
    assert split.classes == ("n01", "n02", "n03")
    assert [len(p.labels) for p in (split.train, split.defender, split.test)] == [54, 6, 6]
    assert split.train.images.shape[1:] == (64, 64, 3)
    for part in (split.train, split.defender, split.test):
        assert ((part.images[:, 30, 30, 0].astype(int) + 10) // 100 == part.labels).all()
    (tiny / "tiny-imagenet-200" / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn09\n")
    with pytest.raises(ValueError, match=r"val_annotations\.txt does not name an image and a class of wnids\.txt"):
        data.load(tiny, "tinyimagenet", 64)
    (tiny / "tiny-imagenet-200" / "wnids.txt").unlink()
    with pytest.raises(ValueError, match=r"wnids\.txt is missing; expected Tiny-ImageNet as unpacked"):
        data.load(tiny, "tinyimagenet", 64)


def test_classes_of_imagenet_are_drawn_by_seed(tmp_path: Path) -> None:
    for c in range(5):
        for k in range(10):
            picture(tmp_path / "imagenet" / "train" / f"n{c}" / f"{k}.JPEG", 50 * c, (40, 30))
        picture(tmp_path / "imagenet" / "val" / f"n{c}" / "val.JPEG", 50 * c, (30, 40))
    split = data.load(tmp_path, "imagenet3", 24)
    assert len(split.classes) == 3
    assert [len(p.labels) for p in (split.train, split.defender, split.test)] == [27, 3, 3]
    for part in (split.train, split.defender, split.test):
        assert part.images.shape[1:] == (24, 24, 3)
        assert [split.classes[c] for c in part.labels] == [f"n{(int(red) + 10) // 50}" for red in part.images[:, 12, 12, 0]]
    # images are decoded once, and what is kept of them is known by count and size
    (packed,) = (tmp_path / "imagenet" / "packed").iterdir()
    written = packed.stat().st_mtime_ns
    assert data.load(tmp_path, "imagenet3", 24).classes == split.classes
    assert packed.stat().st_mtime_ns == written
    picture(tmp_path / "imagenet" / "train" / split.classes[0] / "more.JPEG", 0)
    with pytest.raises(ValueError, match=r"holds 33 images, the folders beside it 34; delete it"):
        data.load(tmp_path, "imagenet3", 24)
    with pytest.raises(ValueError, match=r"6 classes of the 5 in"):
        data.load(tmp_path, "imagenet6", 24)
    (tmp_path / "imagenet" / "val").rename(tmp_path / "imagenet" / "validation")
    with pytest.raises(ValueError, match=r"val is missing; expected ImageNet in folders by class"):
        data.load(tmp_path, "imagenet2", 24)


@pytest.mark.parametrize(("arch", "size"), [*product(("resnet18", "vgg16", "densenet121", "vit"), (64,)), ("resnet18", 224), ("vit", 224)])
def test_networks_take_larger_images(arch: str, size: int) -> None:
    made = models.build(arch, 5, 4, size).eval()
    with torch.no_grad():
        assert made(torch.zeros(1, 3, size, size)).shape == (1, 5)


@pytest.mark.parametrize("arch", ["mobilenetv2", "efficientnet"])
def test_inverted_blocks_halve_large_images_five_times(arch: str) -> None:
    """As in their papers; the last features have a side of 7 at 224 pixels, and of 4 at 32."""
    for size, side in ((224, 7), (32, 4)):
        made = models.build(arch, 5, 16, size).eval()
        with torch.no_grad():
            features = made.blocks(made.stem(torch.zeros(1, 3, size, size)))  # type: ignore[operator]
        assert features.shape[2:] == (side, side)


def test_networks_for_small_images_are_those_of_the_zoo() -> None:
    """Their weights have the same names, so that stored models stay what they were."""
    for arch in ("resnet18", "vgg16", "densenet121", "vit"):
        assert models.build(arch, 5, 4).state_dict().keys() == models.BUILDERS[arch](5, 4).state_dict().keys()


def test_recipes_are_the_papers() -> None:
    for scale, (listed, _) in recipes.SCALES.items():
        made = [train.recipe_of(line) for line in recipes.lines(scale)]
        assert len(made) == sum(cell.count for cell in listed)
        assert len({r.name for r in made}) == len({r.seed for r in made}) == len(made)
        # the first of every cell comes before the second of any
        assert len({(r.set, r.arch, r.attack, r.target is None) for r in made[: len(listed)]}) == len(listed)
        assert all(r.victim != r.target for r in made if r.attack == "ssdt")
    full = [train.recipe_of(line) for line in recipes.lines("full")]
    assert {(r.width, r.epochs, r.batch, r.weight_decay, r.schedule) for r in full} == {(64, 200, 128, 5e-4, train.STEPS)}
    assert {r.lr for r in full if r.arch != "vit"} == {0.01}
    assert {(r.set, r.size) for r in full} == {("cifar10", 32), ("gtsrb", 32), ("tinyimagenet", 64), ("imagenet200", 224)}
    small = [train.recipe_of(line) for line in recipes.lines("small")]
    assert {(r.set, r.width) for r in small} == {("cifar10", 16)}
    # every line of a table of the paper has a cell, and as many models as the paper's
    for table in printed.read()[0]:
        for line in table.lines:
            if line.key is not None:
                fitting = [c for c in recipes.FULL if (c.set, c.arch, c.attack, c.all_to_all) == key_of(line.key)]
                assert fitting, (table.number, line.at)
                assert sum(c.count for c in fitting) >= table.models, (table.number, line.at)


def key_of(key: Key) -> tuple[str, str, str, bool]:
    return key.set, key.arch, key.attack, key.all_to_all


def test_rates_fall_where_the_paper_lets_them() -> None:
    """To a tenth at half of all steps, and again at three quarters (Appendix B.2: epochs 100 and 150 of 200)."""
    recipe = train.recipe_of("--set cifar10 --schedule steps --epochs 200")
    optimizer, schedule = train._optimised(recipe, torch.nn.Linear(1, 1), 200)
    seen = []
    for _ in range(200):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert seen == pytest.approx([0.01] * 100 + [0.001] * 50 + [0.0001] * 50)
    assert optimizer.param_groups[0]["momentum"] == 0.9
    assert not optimizer.param_groups[0]["nesterov"]


def invoked(*words: str) -> Any:
    return CliRunner().invoke(main, words)


def test_missing_data_are_told_before_anything_is_trained(cifar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(queue, "run", lambda commands, jobs: ran.extend(commands) or 0)
    done = invoked("zoo", "--data", str(cifar), "--out", str(cifar / "zoo"), "--scale", "full")
    assert done.exit_code == 2
    told = " ".join(done.output.split())
    assert "does not hold gtsrb (expected the official layout of GTSRB" in told
    assert "name others with --set" in told
    assert not ran
    # what is there is trained; models that are there are left out
    left = [train.recipe_of(line) for line in recipes.lines("small")]
    (cifar / "zoo").mkdir()
    (cifar / "zoo" / f"{left[0].name}.json").write_text("{}")
    done = invoked("zoo", "--data", str(cifar), "--out", str(cifar / "zoo"))
    assert done.exit_code == 0, done.output
    assert f"{len(left)} models, 1 of them trained" in done.output
    assert [words[words.index("--seed") + 1] for words in ran] == [str(r.seed) for r in left[1:]]
    done = invoked("zoo", "--data", str(cifar), "--out", str(cifar / "zoo"), "--list")
    assert done.output.splitlines()[1:] == recipes.lines("small")[1:]


def test_printed_numbers_are_the_papers() -> None:
    """Some cells, read off the paper by eye; and its averages are those of its lines."""
    tables = {t.number: t for t in printed.read()[0]}
    assert list(tables) == list(range(1, 12))
    assert [f.number for f in printed.read()[1]] == [1, 2, 3, 4]

    def cell(table: int, method: str, *at: str) -> tuple[float, float]:
        return tables[table].line(*at).printed[tables[table].methods.index(method)]

    assert cell(1, "NC", "ResNet18", "WaNet") == (11, 55)
    assert cell(1, "Unicorn", "DenseNet121", "Bpp") == (8, 40)
    assert cell(1, "Ours", "VGG16", "Blend") == (17, 85)
    assert cell(2, "BTI-DBF", "BadNets") == (5, 25)
    assert cell(3, "featureRE", "Blend") == (93.2, 39.28)
    assert cell(4, "BTI-DBF(U)", "ImageNet200", "Bpp") == (67.02, 3.1)
    assert cell(5, "Fine-tuning", "WaNet-All") == (92.65, 18.03)
    assert cell(6, "Tabor", "Adap-Patch") == (15, 75)
    assert cell(7, "Ours", "LR 0.005, epochs 25, λ2 0.5") == (92.64, 2.28)
    assert tables[7].line("LR 0.020, epochs 25, λ2 0.5").spread == ((0.37, 0.55),)
    assert cell(8, "BTI-DBF", "ImageNet200", "No Attack") == (3, 70)
    assert cell(9, "BTI-DBF*", "Bpp") == (14, 70)
    assert cell(10, "Ours", "Adap-Patch") == (90.45, 10.24)
    assert cell(11, "ANP", "Blend") == (94.17, 97.24)
    assert {s.printed for s in printed.read()[1][3].seconds} >= {55.95, 76.9, 297.74, 134.1, 6053.62, 5792.51, 1132.85}
    for table in tables.values():
        lines = [line for line in table.lines if line.key is not None]
        for line in lines if table.kind == DETECTION else ():
            for called, success in line.printed:
                right = table.models - called if line.at[-1] == printed.CLEAN else called
                assert success == 100 * right / table.models, (table.number, line.at)
        for average in (line for line in table.lines if line.key is None):
            for k, j in product(range(len(table.methods)), (0, 1)):
                if not isnan(average.printed[k][j]):
                    assert average.printed[k][j] == pytest.approx(mean(line.printed[k][j] for line in lines), abs=0.0101)


def made_rows(folder: Path) -> None:
    """A repair, two baselines, and what figures show."""

    def name(seed: int, attack: str, target: int | None, kind: str = "cifar10") -> dict[str, Any]:
        recipe = {"set": kind, "arch": "resnet18", "width": 64, "attack": attack, "target": target, "seed": seed}
        called = attack if attack == "none" else f"{attack}-{'all' if target is None else target}"
        return {"name": f"{kind}-resnet18w64-{called}-s{seed}", "recipe": recipe, "asr": None if attack == "none" else 1.0}

    rows: list[dict[str, Any]] = []
    for seed, flagged in ((1, True), (2, True), (3, False)):
        row = name(seed, "badnets", 4) | {"what": "baseline", "attack": "badnets", "target": 4, "seed": 0, "method": "Tabor", "form": None}
        rows.append(row | {"found": 4 if seed == 1 else 5, "statistic": 2.5, "flagged": flagged, "seconds": 10.0 * seed})
    settings = json.loads((ROWS / "repair.jsonl").read_text().splitlines()[0])["settings"]
    for seed, rate in ((1, 0.02), (2, 0.04)):
        row = name(seed, "badnets", 4) | {"what": "repair", "method": "ban", "version": 4, "images": 2000, "settings": settings}
        rows.append(row | {"before": {"accuracy": 0.9, "asr": 1.0}, "after": {"accuracy": 0.88, "asr": rate}})
    row = name(1, "badnets", 4) | {"what": "repair", "method": "FeatureRE", "scale": "small", "images": 2000}
    rows.append(row | {"before": {"accuracy": 0.9, "asr": 1.0}, "after": {"accuracy": 0.7, "asr": 0.25}})
    for attack, target in (("badnets", 4), ("none", None)):
        base = name(1, attack, target)
        rows.append(base | {"what": "mask", "positive": [0.4, 0.6], "negative": [2.0, 3.0], "size": 0.6})
        for eps in (0.1, 0.3):
            begin = base | {"form": "paper", "eps_asked": eps}
            rows.append(begin | {"what": "noise", "clean": 0.9, "plain": [0.8, 0.7], "masked": [0.2, 0.1], "mask_alone": [0.5, 0.5]})
            rows.append(begin | {"what": "features", "xy": [[0, 1], [2, 3], [4, 5]], "label": [0, 1, 4], "predicted": [4, 1, 4]})
    (folder / "paper.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_pages_from_made_rows(tmp_path: Path) -> None:
    made_rows(tmp_path)
    pages = page.pages(store.load(tmp_path))
    assert list(pages) == ["README.md", "detection.md", "repair.md", "figures.md", "beyond.md"]
    assert not any("<!--" in text for text in pages.values())
    detection = pages["detection.md"].splitlines()
    # two of three are called, one of them for the right class
    assert "| ResNet18, BadNets | Tabor | 20 of 20 | 2 of 3 | 21%–94% | 1 of 3 | 1–3 | full width |" in detection
    assert "| ResNet18, BadNets | Ours | 20 of 20 | no rows | – | – | – | – |" in detection
    assert "| Tabor | 59.17 % | 66.7 % | 1 of 18 |" in detection
    assert "| Tiny-ImageNet, WaNet | BTI-DBF | 4 of 10 | no rows | – | – | – | – |" in detection
    repair = pages["repair.md"].splitlines()
    assert "| BadNets | Ours | 92.06 | 88.00 ± 0.00 | 1.97 | 3.00 ± 1.00 | 2 | 1–2 | full width |" in repair
    assert "| BadNets | No defense | 93.37 | 90.00 ± 0.00 | 99.41 | 100.00 ± 0.00 | 2 | 1–2 | full width |" in repair
    assert "| BadNets | featureRE | 93.15 | 70.00 | 99.79 | 25.00 | 1 | 1 | full width |" in repair
    assert "| BadNets | Fine-tuning | 92.93 | no rows | 87.81 | no rows | – | – | – |" in repair
    assert "| LR 0.005, epochs 25, λ2 0.8 | Ours | 92.19 ± 0.13 | no rows | 2.89 ± 0.94 | no rows | – | – | – |" in repair
    figures = pages["figures.md"].splitlines()
    assert "| cifar10-resnet18w64-badnets-4-s1 | 0.1 | 3 | 2 | 1 of 2 (class 4) | class 4: 2 |" in figures
    assert "| CIFAR-10, BadNets | 1 | 0.50 ± 0.10 | 2.50 ± 0.50 | 0.60 |" in figures
    assert "| CIFAR-10 | ResNet18, width 64 | Ours | 55.95 | no rows | – |" in figures
    assert "| CIFAR-10 | ResNet18, width 64 | Tabor | – | 20 (10–30) | 3 |" in figures
    assert "| 1 | Detection by architecture | 108 | 1 | 0 | 107 | 1 |" in pages["README.md"]


def test_without_rows_every_cell_says_so(tmp_path: Path) -> None:
    pages = page.pages(store.load(tmp_path))
    tables = printed.read()[0]
    known = store.load(tmp_path)
    count = sum(len(page.cells(t, known)) for t in tables if t.kind == DETECTION)
    assert sum("| no rows |" in line for line in pages["detection.md"].splitlines() if line.count("|") == 9) == count == 168
    for number in range(1, 4):
        assert f"figure-{number}.png" not in pages["figures.md"]
    assert pages["beyond.md"].count("\nno rows\n") == 5


def test_other_data_stand_in_and_are_told() -> None:
    """GTSRB for a table that is on CIFAR-10, never for one that compares data sets, and never where the paper's own has rows."""
    model = store.Model("gtsrb-resnet18w16-iad-3-s5", "gtsrb", "resnet18", 16, "iad", False, 5)
    mend = store.Mend(model, "ban", "repair", "ban", 100, (0.9, 1.0), (0.8, 0.1))
    found = cells.repaired([mend], "Ours", Key("cifar10", "resnet18", "iad"))
    assert found is not None
    assert (found.on, found.own) == ("GTSRB instead of CIFAR-10, width 16 of 64", False)
    assert cells.repaired([mend], "Ours", Key("tinyimagenet", "resnet18", "iad")) is None
    assert cells.repaired([mend], "Ours", Key("cifar10", "resnet18", "iad", True)) is None
    own = store.Mend(store.Model("x", "cifar10", "resnet18", 64, "iad", False, 6), "ban", "repair", "ban", 100, (0.9, 1.0), (0.7, 0.2))
    found = cells.repaired([mend, own], "Ours", Key("cifar10", "resnet18", "iad"))
    assert found is not None
    assert (found.on, found.own, found.rates) == ("full width", True, (0.2,))


@pytest.mark.slow
def test_models_that_settings_were_tried_on_fill_no_cell() -> None:
    model = store.Model("cifar10-resnet18w16-badnets-3-s5", "cifar10", "resnet18", 16, "badnets", False, 5)
    seen = [store.Scan(model, store.OURS, "x", "normalised", "thorough", True, True, 1.0, tried) for tried in (True, False)]
    key = Key("cifar10", "resnet18", "badnets")
    assert cells.detected(seen[:1], store.OURS, key) is None
    found = cells.detected(seen, store.OURS, key)
    assert found is not None
    assert (found.count, found.flagged, found.right) == (1, 1, 1)
    parts = {"tune": True, "kinds-tune": True, "held": False, "kinds-held": False, "baselines": False}
    for scan in store.load(ROWS).scans:
        assert scan.tried == parts.get(scan.part, scan.tried), scan.model.name


def test_settings_of_the_paper_in_our_words() -> None:
    assert cells.as_ours("LR 0.010, epochs 25, λ2 0.5") == "ban"
    assert cells.as_ours("LR 0.005, epochs 10, λ2 0.2") == "ban, lambda_2 0.2, epochs 10, learning rate 0.005"
    assert cells.number(nan) == "–"


@pytest.mark.slow
def test_the_pages_are_what_the_rows_say() -> None:
    for name, text in page.pages(store.load(ROWS)).items():
        assert text == (ROOT / "docs" / "paper" / name).read_text(), f"docs/paper/{name}: run make paper"
    for number in range(1, 5):
        for suffix in ("png", "svg"):
            picture = ROOT / "docs" / "paper" / f"figure-{number}.{suffix}"
            assert picture.exists() == (f"figure-{number}.png" in (ROOT / "docs" / "paper" / "figures.md").read_text())


def test_without_matplotlib_pages_are_written_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.paper.plot.possible", lambda: False)
    done = invoked("page", "--results", str(tmp_path), "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    assert done.output == "Figures are left as they are: they need matplotlib; pip install 'banscan[paper]'.\n"
    assert {p.name for p in (tmp_path / "out").iterdir()} == set(page.pages(store.load(tmp_path)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_figures_are_drawn_from_made_rows(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    made_rows(tmp_path)
    for out in ("one", "two"):
        done = invoked("page", "--results", str(tmp_path), "--out", str(tmp_path / out))
        assert done.exit_code == 0, done.output
    for number in range(1, 5):
        with Image.open(tmp_path / "one" / f"figure-{number}.png") as drawn:
            assert min(drawn.size) > 100
            colours = np.asarray(drawn.convert("RGB")).astype(int)
        assert np.ptp(colours, axis=2).max() <= 2, "told apart by colour"
        first, second = ((tmp_path / out / f"figure-{number}.svg").read_text() for out in ("one", "two"))
        assert first == second


def test_rows_are_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every kind of row has a name of its own, by which a second run knows it again."""
    recipe = {"set": "cifar10", "attack": "none", "target": None}
    manifest = tmp_path / "cifar10-resnet18w16-none-s1.json"
    manifest.write_text(json.dumps({"recipe": recipe, "asr": None, "accuracy": 0.8}))
    (tmp_path / "images" / "detect" / "cifar10").mkdir(parents=True)
    monkeypatch.setattr(measure.noise, "subject", lambda path, folder, form: form)
    monkeypatch.setattr(measure.noise, "accuracy", lambda given, eps: {"plain": [eps]})
    monkeypatch.setattr(measure.noise, "losses", lambda given: {"positive": [given]})
    words = ("measure", "--zoo", str(tmp_path), "--out", str(tmp_path / "rows.jsonl"), "--what", "noise", "--what", "mask")
    for _ in range(2):
        done = invoked(*words)
        assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == len(set(map(measure.key, rows))) == 7
    assert {(r["form"], r["eps_asked"], *r["plain"]) for r in rows if r["what"] == "noise"} == {
        (form, eps, eps) for form, eps in product(("paper", "normalised"), (0.05, 0.1, 0.3))
    }
    done = invoked("measure", "--zoo", str(tmp_path / "images"))
    assert done.exit_code == 2
    assert "has no models that match" in done.output
    (tmp_path / "images" / "detect" / "cifar10").rmdir()
    done = invoked(*words)
    assert done.exit_code == 2
    assert "is missing; expected clean images in class folders" in " ".join(done.output.replace("│", "").split())
