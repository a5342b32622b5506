"""The pages of evidence, and those that quote them, say what the rows say; what counts is counted."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from banscan.scanner import verdict as rules
from banscan.scanner.verdict import BACKDOORED, NAMES, SUSPICIOUS, deciding
from bench import ablation, evidence, floor, repair, tables
from bench.rows import read

ROOT = Path(__file__).parents[2]
ROWS = ROOT / "bench" / "results"


def test_the_page_is_what_the_rows_say(tmp_path: Path) -> None:
    """The summary and the page of every part."""
    done = CliRunner().invoke(evidence.main, ["--results", str(ROWS), "--out", str(tmp_path / "evidence.md")])
    assert done.exit_code == 0, done.output
    own, kept = ({p.relative_to(d): p.read_text() for p in [d / "evidence.md", *d.glob("evidence/*")]} for d in (tmp_path, ROOT / "docs"))
    assert {p.stem for p in own} == {"evidence", *evidence.BODIES}
    assert own.keys() == kept.keys()
    for page, text in own.items():
        assert text == kept[page], f"docs/{page}: run make evidence"
        assert "<!--" not in text, page


@pytest.mark.parametrize("part", evidence.BODIES)
def test_a_part_is_printed_by_itself(part: str) -> None:
    done = CliRunner().invoke(evidence.main, ["--results", str(ROWS), "--only", part])
    assert done.exit_code == 0, done.output
    assert done.output in (ROOT / "docs" / "evidence" / f"{part}.md").read_text()


def test_models_are_told_in_two_tables() -> None:
    """What a scan says, and below it what the tests showed; scans of one model with several seeds are one line."""
    (backdoored, clean), statistics = (lines[2:] for lines in tables.table(read(ROWS / "examples.jsonl")))
    assert re.fullmatch(r"\| backdoored \| blend \| 33 \| [\d.]+ \| backdoored, 33 \(3 of 3\) \| \w+ \| [\d.]+ to [\d.]+ \|", backdoored)
    assert clean.startswith("| clean | clean | – | – | no backdoor found (")
    assert [line.split(" | ")[0] for line in statistics] == ["| backdoored", "| clean"]


def test_the_readme_says_what_the_rows_say() -> None:
    """Its two tables of results, and what is said of single tests, are written by hand."""
    readme = " ".join((ROOT / "README.md").read_text().split())
    mended = read(ROWS / "repair.jsonl")
    called = {"ban": "`banscan repair`", "finetune": "plain fine-tuning", "anp": "adversarial neuron pruning"}
    for when, method, name in (("before", "ban", "before"), *(("after", *pair) for pair in called.items())):
        own = [r for r in mended if repair.label(r) == method]
        cells = (repair.spread([r[when][what] for r in own]).replace("%", " %") for what in ("asr", "accuracy"))
        assert f"| {name} | {len(own)} | {' | '.join(cells)} |" in readme, name
    held = read(ROWS / "held.jsonl")
    working, clean = [r for r in held if tables.works(r)], [r for r in held if r["attack"] == "none"]
    for name, hits in (("all", map(tables.found, working)), ("clean", [r["verdict"]["outcome"] == "backdoored" for r in clean])):
        says = tables.rate(hits).replace("%", " %")
        assert re.search(rf"\| {name}\b[^|]*\| {re.escape(says)} \|", readme), says
    alone = "\n".join(tables.separately(tables.learnt(held)[0]))
    by_noise, by_mask = (re.search(what, alone) for what in (r"\| noise \| (\d+) of (\d+) ", r"mask \(Eq\. 6\), not used: (\d+) of (\d+)"))
    assert by_noise
    assert by_mask
    method = " ".join((ROOT / "docs" / "method.md").read_text().split())
    assert f"Noise aimed at single classes alone finds {by_noise[1]} of the {by_noise[2]} all-to-one models" in readme
    assert f"names the target in {by_mask[1]} of them" in readme
    assert f"finds {by_noise[1]} of the {by_noise[2]} held-out models with an all-to-one backdoor" in method
    assert f"is the target in {by_mask[1]} of the {by_mask[2]} held-out all-to-one models" in method


@pytest.mark.parametrize("part", ["examples", "held", "tune"])
def test_verdicts_of_rows_are_those_of_this_version(part: str) -> None:
    """A change of what decides must not leave rows behind that say otherwise."""
    for row in read(ROWS / f"{part}.jsonl"):
        verdict = row["verdict"]
        if verdict["score"] is None:
            continue
        best = deciding([rules.Test(**t) for t in verdict["tests"]])
        if verdict["test"] in NAMES and verdict["outcome"] != "suspicious":
            assert (verdict["test"], verdict["p_value"]) == (best.name, pytest.approx(best.p_value)), row["name"]
            assert (verdict["outcome"] == "backdoored") == (best.p_value <= BACKDOORED), row["name"]
        if verdict["outcome"] == "suspicious":
            assert verdict["p_value"] <= SUSPICIOUS, row["name"]
        assert (verdict["outcome"] == "backdoored") == (verdict["score"] >= 1), row["name"]


@pytest.mark.parametrize("part", ["examples", "held", "tune"])
def test_tests_of_rows_decide_as_those_of_this_version(part: str) -> None:
    """Computed anew from the values of the rows, the smallest p-value is on the same side of both levels."""
    for row in read(ROWS / f"{part}.jsonl"):
        tests = row["verdict"]["tests"]
        anew = {}
        for test in tests:
            values = torch.tensor(row["values"][test["name"]], dtype=torch.float64).sort(descending=True).values
            parts = 2 if test["name"] == "joint" else 2 * (len(tests) - 1)
            anew[test["name"]] = rules.together(values, len(values), parts, rules.finest(test["name"], values))[2]
        stored = {test["name"]: test["p_value"] for test in tests}
        for level, names in ((BACKDOORED, stored.keys() - {rules.NEVER_ALONE}), (SUSPICIOUS, stored.keys())):
            sides = [min((p[name] for name in names), default=1.0) <= level for p in (stored, anew)]
            assert sides[0] == sides[1], row["name"]


def row(target: int | None, outcome: str, called: int | None = None, **more: Any) -> dict[str, Any]:
    kind = {"backdoored": "all-to-one" if called is not None else "all-to-all"}.get(outcome)
    return {"attack": "badnets", "target": target, "asr": 1.0, "verdict": {"outcome": outcome, "target": called, "kind": kind}, **more}


def test_what_counts_as_found() -> None:
    assert tables.found(row(3, "backdoored", 3))
    assert not tables.found(row(3, "backdoored", 4))
    assert not tables.found(row(3, "suspicious", 3))
    several = {"targets": [3, 5, 8]}
    assert tables.found(row(3, "backdoored", 5, **several))
    assert not tables.found(row(3, "backdoored", 4, **several))
    assert not tables.found(row(None, "backdoored", 3, map={"moved": 0.1, "next": 1.0}))
    also = row(3, "backdoored", 3)
    also["verdict"]["others"] = [4]
    assert not tables.found(also), "a class that is no target is named beside it"
    assert tables.found(row(None, "backdoored", None, map={"moved": 0.9, "next": 0.8}))
    assert not tables.found(row(None, "backdoored", None, map={"moved": 0.9, "next": 0.2}))
    assert not tables.works(row(3, "backdoored", 3) | {"asr": 0.89})
    assert not tables.works(row(3, "backdoored", 3) | {"attack": "none", "asr": None})


def test_what_is_missed_is_listed() -> None:
    rows = [row(3, "backdoored", 3), row(3, "backdoored", 4), row(3, "no backdoor found", asr=0.5), row(3, "suspicious", 3)]
    rows = [one | {"name": f"gtsrb-net-badnets-3-s{k}"} for k, one in enumerate(rows)]
    assert [line.split(" | ")[0] for line in tables.missed(rows)[2:]] == [f"| gtsrb-net-badnets-3-s{k}" for k in (1, 3, 2)]


def test_interval_is_wilsons() -> None:
    assert tables.rate([True] * 5) == "5 of 5 (57% to 100%)"
    assert tables.rate([False] * 20) == "0 of 20 (0% to 16%)"
    assert tables.rate([]) == "none"


def test_methods_are_compared_on_the_models_that_all_were_tried_on() -> None:
    def mended(name: str, method: str, asr: float, **changes: float) -> dict[str, Any]:
        settings = {key: getattr(repair.METHODS[method], key) for key in repair.CALLED} | changes
        after = {"accuracy": 0.9, "asr": asr}
        recipe = {"attack": "badnets", "target": 1}
        return {
            "name": name,
            "method": method,
            "settings": settings,
            "recipe": recipe,
            "before": {"accuracy": 0.9, "asr": 1.0},
            "after": after,
        }

    lines = repair.table([mended("a", "ban", 0.0), mended("b", "ban", 0.2), mended("a", "anp", 0.7)])
    shared = [line for line in lines if repair.ALL[1] in line]
    assert any("| ban | 1 |" in line and "0.0%" in line for line in shared)
    assert any("| ban | 2 |" in line and "10.0% ± 10.0" in line for line in lines if line not in shared)
    assert repair.label(mended("a", "ban", 0.0, weight=1.0, lr=0.02)) == "ban, lambda_2 1, learning rate 0.02"
    assert repair.label(mended("a", "ban", 0.0) | {"version": 1}) == "ban, version 1"


def test_triggers_on_a_clean_model_are_told_by_attack() -> None:
    one, every = ({"attack": "wanet", "target": target} for target in (3, None))
    lines = floor.page([{"recipe": one, "asr": 0.0}, {"recipe": one, "asr": 0.02}, {"recipe": every, "asr": 0.021}])
    assert lines[2:] == ["| wanet | 2 | 1.0% ± 1.0 | 2.0% |", "| wanet, all-to-all | 1 | 2.1% | 2.1% |"]


def test_scans_without_a_verdict_are_counted_by_the_ablation() -> None:
    def scanned(variant: str, target: int | None, *, judged: bool = True) -> dict[str, Any]:
        noise = {"noise": [0.1, 0.2, 0.0, 9.0 if target == 3 else 0.3, 0.1]}
        seen = (
            {"values": noise, "eps": 0.2, "untargeted": {"class": 3}, "mask": {"class": 1}, "noise map": None} if judged else {"eps": None}
        )
        attack = "none" if target is None else "badnets"
        verdict = {"score": 0.5 if judged else None}
        return {"variant": variant, "attack": attack, "target": target, "verdict": verdict, "seconds": 2.0, **seen}

    usual = [scanned("default", 3), scanned("default", None), scanned("default", None)]
    few = [scanned("few", 3), scanned("few", None), scanned("few", None, judged=False)]
    none = [scanned("none", target, judged=False) for target in (3, None, None)]
    lines = ablation.page([*usual, *few, *none, scanned("eps 0.1", 3)])
    cells = {line.split(" | ")[0]: line.strip(" |").split(" | ") for line in lines[2:5]}
    assert [cells["| default"][k] for k in (1, 4, 5, 7, 10)] == ["1 of 1", "1 of 1", "0 of 1", "52%", "0"]
    assert "(n = 1)" in cells["| few"][3]
    assert (cells["| few"][10], cells["| none"][10]) == ("1", "3")
    assert "eps 0.1" in lines[-1]
