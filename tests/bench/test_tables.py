"""The pages of evidence, and those that quote them, say what the rows say; what counts is counted."""

import re
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from statistics import mean, median
from typing import Any

import pytest
from click.testing import CliRunner

from banscan.scanner.findings import ALL, DECIDES, DEVIATIONS, ONE, Finding, Verdict
from banscan.scanner.report.json import plain
from bench import ablation, evidence, floor, kinds, repair, replay, rows, tables
from bench.rows import read

ROOT = Path(__file__).parents[2]
ROWS = ROOT / "bench" / "results"


@pytest.mark.slow
def test_the_page_is_what_the_rows_say(tmp_path: Path) -> None:
    """The summary and the page of every part."""
    done = CliRunner().invoke(evidence.main, ["--results", str(ROWS), "--out", str(tmp_path / "evidence.md")])
    assert done.exit_code == 0, done.output
    own, kept = ({p.relative_to(d): p.read_text() for p in [d / "evidence.md", *d.glob("evidence/*")]} for d in (tmp_path, ROOT / "docs"))
    assert {p.stem for p in own} == {"evidence", *evidence.ACROSS, *evidence.BODIES}
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


def said(page: str) -> str:
    """A page that is written by hand, in one line."""
    return " ".join((ROOT / page).read_text().split())


def percent(text: str) -> str:
    """As these pages write it."""
    return text.replace("%", " %")


def test_the_readme_says_what_the_rows_say() -> None:
    readme = said("README.md")
    held, mended = read(ROWS / "held.jsonl"), [r for r in read(ROWS / "repair.jsonl") if repair.label(r) == "ban"]
    hits = percent(tables.rate(map(tables.found, filter(tables.works, held))))
    alarms = percent(tables.rate(tables.outcome(r) == "backdoored" for r in held if r["attack"] == "none"))
    for count, place in ((hits, "backdoored ones backdoored with the right target"), (alarms, "clean ones")):
        number, _, interval = count.partition(" (")
        assert f"{number} {place} ({interval}" in readme, place
    asr = " to ".join(f"{mean(r[when]['asr'] for r in mended):.1%}" for when in ("before", "after"))
    assert f"attacks on {len(mended)} models from {percent(asr)}." in readme
    new, calm = (line.rpartition(": ")[2].partition(" (")[0] for line in kinds.headline(evidence.by_default(ROWS), "by default"))
    assert f"so far {new}, and {calm} clean" in readme


NETWORKS = {
    "ResNet18": "resnet18w16",
    "ResNet18 of full width": "resnet18w64",
    "ResNet18 without batch norm": "plainresnet18w16",
    "VGG16": "vgg16w16",
    "DenseNet121": "densenet121w16",
    "ViT of six layers": "vitw16",
}
KINDS = {"": "", "all-to-one": "", "all-to-all": ", all-to-all", "three to eight triggers and targets in one model": " targets"}
ATTACKS = {"BppAttack": "bpp", "patches": "patch", "patches of any colour and place": "patch"}


def test_the_limits_say_what_the_rows_say() -> None:
    """Every row of the table of held-out models, and what is said below it."""
    page, held = said("docs/limits.md"), read(ROWS / "held.jsonl")
    working, clean = [r for r in held if tables.works(r)], [r for r in held if r["attack"] == "none"]
    lines = [line.strip("| ").split(" | ") for line in (ROOT / "docs" / "limits.md").read_text().splitlines() if line.startswith("| ")]
    first, total, last = 2, [cells[0] for cells in lines].index("all"), lines[-1]
    counted = 0
    for models, called, otherwise in lines[first:total]:
        where, _, listed = models.partition(": ")
        data, network, *kind = where.split(", ")
        counts = {ATTACKS.get(name, name.lower()): int(n) for name, n in (one.rsplit(" ", 1) for one in listed.split(", "))}
        ending = KINDS["".join(kind)]
        there = [r for r in working if rows.arch(r) == f"{data.lower().replace('-', '')} {NETWORKS[network]}" and r["attack"] in counts]
        own = [r for r in there if re.fullmatch(rf"[\w-]+{'(, [0-9]+ targets)' if ending == ' targets' else ending}", rows.attack(r))]
        assert Counter(r["attack"] for r in own) == counts, models
        hits = sum(map(tables.found, own))
        assert called.startswith(f"{hits} of {len(own)}"), models
        assert otherwise == ("–" if hits == len(own) else f"{len(own) - hits} missed"), models
        counted += len(own)
    assert counted == len(working)
    assert lines[total][1] == percent(tables.rate(map(tables.found, working)))
    assert last[1] == percent(tables.rate(tables.outcome(r) == "backdoored" for r in clean))
    assert last[2] == f"{sum(tables.outcome(r) == 'suspicious' for r in clean)} suspicious"
    order = ("gtsrb resnet18w16", "gtsrb resnet18w64", "gtsrb vgg16w16", "gtsrb vitw16", "gtsrb densenet121w16", "gtsrb plainresnet18w16")
    by_arch = Counter(map(rows.arch, clean))
    assert [int(n) for n in re.findall(r" (\d+)(?:,|$)", last[0])] == [by_arch[a] for a in (*order, "cifar10 resnet18w16")]
    several = [r for r in working if r.get("targets")]
    aims, named = ([len(part(r)) for r in several] for part in (tables.aims, lambda r: replay.verdict(r).targets))
    assert f"with {sum(named)} of the {sum(aims)} targets and no other class" in page
    totals = " ".join(tables.totals(tables.learnt(held)[0], held=True))
    fresh, alarms = re.findall(r"had scanned: found ([^,]*), clean called backdoored (\d+ of \d+)", totals)[0]
    assert f"never scanned before, {percent(fresh)} are found and {alarms} clean ones flagged" in page
    hits_by, alarms_by = re.findall(r"sets it; [^)]*\): found (\d+ of \d+) [^,]*, clean called backdoored (\d+ of \d+)", totals)[0]
    assert f"{hits_by} are found and {alarms_by} clean ones flagged" in page
    weak = [r for r in held if r["attack"] != "none" and r["target"] is None and not tables.works(r)]
    kinds = Counter(r["attack"] for r in weak)
    assert f"(WaNet {kinds.pop('wanet')}, BppAttack {kinds.pop('bpp')}, IAD {kinds.pop('iad')}), on which" in page
    assert not kinds
    assert [r for r in weak if not tables.found(r)] == [min(weak, key=lambda r: float(r["asr"]))]
    ssdt = sorted(f"{100 * r['asr']:.0f}" for r in held if r["attack"] == "ssdt" and not tables.found(r))
    assert "works on {} and {} % of the source class, and one on CIFAR-10 ({} %)".format(*ssdt) in page
    assert f"from the {tables.clean_limit()[1]} clean *tune* models" in page
    vits = [f for r in working if "vit" in r["name"] and (f := tables.finding(r, "noise")) and f.classes[0] in tables.aims(r)]
    assert not vits, "noise leads to no target"


def test_the_page_of_repairs_says_what_the_rows_say() -> None:
    page, mended, few = said("docs/repair.md"), read(ROWS / "repair.jsonl"), read(ROWS / "repair-few.jsonl")
    called = {"ban": "`banscan repair`", "finetune": "plain fine-tuning", "anp": "adversarial neuron pruning"}
    by = {method: {r["name"]: r for r in mended if repair.label(r) == method} for method in called}
    for when, method, name in (("before", "ban", "before"), *(("after", *pair) for pair in called.items())):
        own = list(by[method].values())
        cells = (percent(repair.spread([r[when][what] for r in own])) for what in ("asr", "accuracy"))
        assert f"| {name} | {len(own)} | {' | '.join(cells)} |" in page, name
    own = list(by["ban"].values())
    kinds, wheres = Counter(rows.attack(r["recipe"]) for r in own), Counter(map(rows.arch, own))
    assert f"{wheres.pop('gtsrb resnet18w16')} ResNet18, {wheres.pop('gtsrb vgg16w16')} VGG16 and a ViT on GTSRB and two ResNet18" in page
    assert wheres == {"gtsrb vitw16": 1, "cifar10 resnet18w16": 2}
    assert (kinds.pop("ssdt"), f"BadNets {kinds.pop('badnets')}, Blend, BppAttack" in page) == (1, True)
    assert set(kinds.values()) == {int(n) for n in re.findall(r"patch (\d); all-to-all BadNets, BppAttack, WaNet and IAD (\d)", page)[0]}
    left = {r["name"]: r["after"]["asr"] for r in own}
    vit = left.pop("gtsrb-vitw16-badnets-13-s90")
    assert f"100 to {percent(f'{vit:.1%}')})" in page
    mean_left, _, deviation = percent(repair.spread(list(left.values()))).partition(" ± ")
    assert f"Without the ViT {mean_left} are left (± {deviation})." in page
    worst = [(name, f"{100 * left[name]:.1f}") for name in sorted(left, key=left.__getitem__, reverse=True)]
    shown = [asr for name, asr in worst if "wanet-all" in name]
    assert "on all-to-all WaNet ({}, {} and {} %;".format(*shown) in page
    others = [(name, asr) for name, asr in worst if "wanet-all" not in name]
    assert [name.split("-s")[0] for name, _ in others[:3]] == [
        "cifar10-resnet18w16-badnets-7",
        "gtsrb-vgg16w16-blend-9",
        "gtsrb-resnet18w16-wanet-11",
    ]
    says = "BadNets on CIFAR-10 ({} %), Blend on VGG16 ({} %) and one WaNet ({} %), and at most {} % on the rest"
    assert says.format(*(asr for _, asr in others)) in page
    warped = [r["asr"] for r in read(ROWS / "floor.jsonl") if r["name"] in left and "wanet-all" in r["name"]]
    assert f"on {100 * min(warped):.1f} to {100 * max(warped):.1f} % of those images" in page
    most = max(own, key=lambda r: float(r["before"]["accuracy"] - r["after"]["accuracy"]))
    assert most["recipe"]["attack"] == "ssdt"
    assert f"the SSDT loses most, {100 * (most['before']['accuracy'] - most['after']['accuracy']):.1f} points" in page
    assert f"took the SSDT to {100 * most['after']['asr']:.1f} %" in page
    shared = set.intersection(*(set(one) for one in by.values()))
    asrs = [percent(f"{mean(by[method][name]['after']['asr'] for name in shared):.1%}") for method in called]
    assert f"on the {len(shared)} models that all three were tried on, `banscan repair` leaves {asrs[0]}, " in page
    assert f"fine-tuning {asrs[1]}, pruning {asrs[2]}." in page
    assert f"It calls none of the {len(own)} backdoored" in page
    assert Counter(r["after_scan"][0] for r in own) == {"no backdoor found": len(own) - 1, "suspicious": 1}
    for row in (r for r in few if repair.label(r) == "ban"):
        after, start, end = (
            f"{100 * row[when][what]:.1f}" for when, what in (("after", "asr"), ("before", "accuracy"), ("after", "accuracy"))
        )
        assert re.search(rf"ASR (100 to )?{after} %, accuracy {start} to {end} %", page), row["name"]
    first = [r["after"]["asr"] for r in few if repair.label(r) == "ban, version 1"]
    assert len(first) == 7
    assert f"The first version left {percent(repair.spread(first))} on seven" in page


def test_the_method_says_what_the_rows_say() -> None:
    method, held = said("docs/method.md"), read(ROWS / "held.jsonl")
    alone = "\n".join(tables.separately(tables.learnt(held)[0]))
    by_noise, by_mask = (re.search(what, alone) for what in (r"\| noise \| (\d+) of (\d+) ", r"mask \(Eq\. 6\), not used: (\d+) of (\d+)"))
    assert by_noise
    assert by_mask
    assert f"finds {by_noise[1]} of the {by_noise[2]} held-out models with an all-to-one backdoor" in method
    assert f"is the target in {by_mask[1]} of the {by_mask[2]} held-out all-to-one models" in method
    leads = {line.split(" | ")[0].strip("| "): line.split(" | ")[1] for line in ablation.page(read(ROWS / "ablation.jsonl"))}
    usual, paper = leads["default"], leads["paper's noise"]
    assert f"first in {paper} backdoored *tune* models, the normalised form in {usual}" in method


def test_the_page_of_timings_says_what_the_rows_say() -> None:
    page, held = said("docs/timing.md"), read(ROWS / "held.jsonl")
    took = {name: sorted(r["seconds"] for r in held if name in r["name"]) for name in ("resnet18w64", "vitw16")}
    usual = [r["seconds"] for r in held if "gtsrb-resnet18w16" in r["name"] and "Xeon" in r["environment"]["processor"]]
    assert "took {1:.0f} and {0:.0f} s with one thread".format(*took["resnet18w64"]) in page
    assert f"GTSRB took {median(usual):.0f} s (median of {len(usual)})" in page
    assert f"ViT of six layers {took['vitw16'][0]:.0f} to {took['vitw16'][-1]:.0f} s" in page
    # the tables of one machine, from the page that `make bench` writes
    measured = (ROOT / "docs" / "speed.md").read_text().partition("### AMD EPYC, 2 threads")[2].partition("\n### ")[0].splitlines()
    cells = [line.strip("| ").split(" | ") for line in measured]

    def ratios(where: str, dtype: str) -> str:
        own = [float(c[6]) for c in cells if len(c) > 6 and (c[1], c[3], c[4]) == (where, "(d) banscan", dtype)]
        return f"{min(own)} to {max(own)}"

    for where, says in (
        ("deepest quarter", "it is {} times as fast as plain float32 PyTorch; in float32 {} times"),
        ("all layers", "it is {} times as fast, in float32 {} times"),
    ):
        assert says.format(*(ratios(where, dtype) for dtype in ("bfloat16", "float32"))) in page, where
    compiled = [c for c in cells if len(c) > 6 and (c[1], c[3][:3]) == ("all layers", "(b)")]
    (ours,) = (c for one in compiled for c in cells if c[:3] == one[:3] and c[3:5] == ["(d) banscan", "float32"])
    assert f"({compiled[0][6]} against {ours[6]} times)" in page
    detections = [f"{float(c[3].split(' ')[0]):.1f} s" for c in cells if len(c) > 3 and c[0].startswith(("(c)", "(d)"))]
    for what, seconds in zip(("takes {}", "our search {}", "with 4 restarts {}", "on all layers {}"), detections, strict=False):
        assert what.format(seconds) in page, what


FIND = Finding(criterion="noise", asks="", sees=ONE, power=DECIDES, unit=DEVIATIONS, value=9.0, p_value=1e-9, score=4.0)


def row(target: int | None, *classes: int, exceeds: bool = True, **more: Any) -> dict[str, Any]:
    """A row whose one finding names these classes."""
    found = FIND if exceeds else replace(FIND, p_value=0.01, score=0.9)
    own = {"findings": [plain(asdict(replace(found, classes=classes)))], "verdict": {"score": found.score}}
    return {"attack": "badnets", "target": target, "asr": 1.0, **own, **more}


def test_what_counts_as_found() -> None:
    assert tables.found(row(3, 3))
    assert not tables.found(row(3, 4))
    assert tables.outcome(row(3, 3, exceeds=False)) == "suspicious"
    assert not tables.found(row(3, 3, exceeds=False))
    assert tables.found(row(3, 5, targets=[3, 5, 8]))
    assert not tables.found(row(3, 4, targets=[3, 5, 8]))
    assert not tables.found(row(3, 3, 4)), "a class that is no target is named beside it"
    assert not tables.found(row(None, 3))
    assert not tables.works(row(3, 3) | {"asr": 0.89})
    assert not tables.works(row(3, 3) | {"attack": "none", "asr": None})


@pytest.mark.parametrize(("right", "found"), [(8, True), (2, False)])
def test_most_of_a_map_has_to_be_right(right: int, found: bool) -> None:
    pairs = tuple((c, (c + 1) % 10 if c < right else (c + 5) % 10) for c in range(10))
    called = Verdict(outcome="backdoored", reason="", kind=ALL, mapping=pairs)
    assert tables.right({"target": None}, called) == found
    assert not tables.right({"target": 3}, called)


def test_what_is_missed_is_listed() -> None:
    rows = [row(3, 3), row(3, 4), row(3, 4, asr=0.5), row(3, 3, exceeds=False)]
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
        noise = replace(FIND, classes=(3,), values=(0.1, 0.2, 0.0, 9.0 if target == 3 else 0.3, 0.1))
        seen = {"findings": [asdict(noise)] if judged else [], "eps": 0.2, "untargeted": {"class": 3}, "mask": {"class": 1}}
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
