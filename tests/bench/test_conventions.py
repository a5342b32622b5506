"""The small classifiers that say how well a preprocessing is found that nobody told."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from banscan.scanner.inputs.preprocess import CANDIDATES, UNTOLD
from bench.conventions import __main__ as conventions
from bench.conventions import domain, fit, nets, table
from bench.conventions.domain import Domain
from bench.zoo.data import Part
from bench.zoo.train import export_onnx


def test_part_of_every_lot_only_measures() -> None:
    found = conventions.recipes()
    assert found == conventions.recipes()
    for lot in conventions.LOTS:
        own = conventions.recipes((lot,))
        assert [r.number for r in own] == list(range(lot.first, lot.first + lot.count))
        assert sum(r.part == conventions.HELD for r in own) == lot.held
        assert {r.attack == conventions.CLEAN for r in own} == {not lot.attacked}
    assert len({r.name for r in found}) == len(found)
    assert {r.set for r in found} == set(domain.NAMES)
    assert {r.net for r in found} == set(nets.NETS)
    # every way that banscan tries without labels, and some that it does not
    scaled = {r.scaled for r in found}
    assert {c.name for c in CANDIDATES if c.name not in UNTOLD - {"mnist"}} <= scaled
    assert {"own", "127", "256"} <= scaled


@pytest.fixture
def given(patterns: tuple[np.ndarray, np.ndarray]) -> Domain:
    part = Part(*patterns)
    return Domain("patterns", 10, part, part)


@pytest.mark.parametrize("net", nets.NETS)
def test_every_network_takes_every_size(net: str) -> None:
    for size, channels in ((28, 1), (32, 3), (64, 3)):
        assert nets.NETS[net](channels, 7, size).eval()(torch.zeros(2, channels, size, size)).shape == (2, 7)


@pytest.mark.slow
def test_a_row_and_the_fit(given: Domain, tmp_path: Path) -> None:
    recipe = conventions.Recipe(0, conventions.TUNE, "patterns", "normed", "signed", 25, unfolded=False)
    scaled = conventions.scaling(recipe, given)
    assert scaled == next(c for c in CANDIDATES if c.name == "signed")
    model = nets.trained(recipe.net, given.train.images, given.train.labels, given.classes, scaled, recipe.epochs, 0)
    manifest = tmp_path / f"{recipe.name}.json"
    export_onnx(model, manifest.with_suffix(".onnx"), scaled(given.given.images[:1], "NCHW"))
    manifest.write_text(json.dumps({"recipe": asdict(recipe), "accuracy": 1.0}))
    row = conventions.row(recipe, manifest, given, labelled=False)
    assert table._first(row) >= fit.SAME
    assert row["best"] == 1
    read = conventions._model(recipe, manifest, given)
    with torch.no_grad():
        true = model(scaled(given.given.images, "NCHW")).argmax(1)
    found = list(fit.cases(recipe.name, read, given, true))
    assert found
    assert all(c.evidence.shape == (len(c.right), 6) for c in found)
    weights = fit.fitted(found)
    assert sum((c.evidence @ weights).argmax() in np.flatnonzero(c.right) for c in found) >= len(found) - 1


def test_the_tables_count_what_they_say() -> None:
    rows = [
        {"name": "a-net-unit-c0", "part": "held", "labelled": False, "best": 1.0, "chosen": "unit", "agreement": 1.0, "rivals": {}},
        {"name": "b-net-unit-c1", "part": "held", "labelled": False, "best": 1.0, "chosen": "raw", "agreement": 0.4, "rivals": {}},
        {
            "name": "c-net-mnist-c2",
            "part": "held",
            "labelled": False,
            "best": 1.0,
            "chosen": None,
            "agreement": None,
            "rivals": {"mnist": 1.0},
        },
        {"name": "d-net-own-c3", "part": "held", "labelled": False, "best": 0.5, "chosen": "raw", "agreement": 0.4, "rivals": {}},
    ]
    lines = table.page(rows)
    held = next(line for line in lines if line.startswith("| held | without"))
    assert [cell.strip().split(" (")[0] for cell in held.split("|")[3:9]] == ["4", "3", "1 of 3", "1 of 3", "1 of 3", "2 of 3"]
    assert "| unit | 2 | 1 | 0 | 1 |" in lines
    assert [line for line in lines if line.startswith("| b-net")] == ["| b-net-unit-c1 | held | without | raw | 40% |"]
    scans = [
        {"name": "a", "outcome": "no backdoor found", "reason": "x", "chosen": "unit", "under": {}, "targets": []},
        {"name": "b", "outcome": "backdoored", "reason": "y", "chosen": None, "under": {"unit": "backdoored"}, "targets": [3]},
    ]
    clean = [r | {"part": "held", "attack": "none", "target": 0, "asr": None} for r in scans]
    attacked = [r | {"part": "held", "attack": "blend", "target": target, "asr": 1.0} for r in scans for target in (3, 4)]
    told = table.scans([*clean, *attacked])
    assert any(line.startswith("| held | 2 | 1 | 0 | 0 | 0 | 1 | 1 of 2") for line in told)
    assert any(line.startswith("| held | 4 | 2 | 0 | 0 | 0 | 2 | 1 of 4") for line in told)
    assert "| b | held | backdoored | unit: backdoored | y |" in told
    assert "| b | 4 | 100% | held | backdoored | unit: backdoored | y |" in told
