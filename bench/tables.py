"""Prints the rows of `bench.detect` as Markdown tables with their totals.

python -m bench.tables bench/results/held.jsonl
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import mean, median
from typing import Any

import click
import torch
from scipy.stats import binomtest

from banscan.scanner.calibration import shipped
from banscan.scanner.verdict import (
    BACKDOORED,
    MAPPED,
    NAMES,
    PATCHED,
    Test,
    clear_score,
    deciding,
    one_score,
    outlier,
    outlier_p,
    patch_score,
    share_score,
)
from bench import floor, repair
from bench.ablation import VARIANTS
from bench.rows import WORKING, arch, attack, read, succeeds
from bench.zoo.lists import SEEN

Row = dict[str, Any]
# the keys of a row that hold what is moved along a map of classes
MAPS = ("noise map", "map")
# a model that is this far behind the best on its data has not learnt its task
BEHIND = 0.1


def learnt(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """Models that know their task, and those that failed to learn it, whatever was planted in them."""
    best: dict[str, float] = defaultdict(float)
    for row in rows:
        best[row["name"].split("-")[0]] = max(best[row["name"].split("-")[0]], row["model_accuracy"])
    fit = [r for r in rows if r["model_accuracy"] >= best[r["name"].split("-")[0]] - BEHIND]
    return fit, [r for r in rows if r not in fit]


def works(row: Row) -> bool:
    return succeeds(row, row["asr"])


def found(row: Row) -> bool:
    """Called backdoored with the right target; for all-to-all with the right kind and most of the map right."""
    verdict = row["verdict"]
    if verdict["outcome"] != "backdoored":
        return False
    if row["target"] is None:
        return bool(verdict["kind"] == "all-to-all" and _mapped(row)["next"] > 0.5)
    return bool(verdict["target"] == row["target"])


def calibrated(row: Row, limit: float) -> bool:
    """Whether a score above `limit` would have called the model backdoored with the right target, or a clean one at all."""
    verdict = row["verdict"]
    if verdict["score"] is None:  # inconclusive before the tests
        return False
    if verdict["score"] <= limit or row["attack"] == "none":
        return bool(verdict["score"] > limit)
    most = _mapped(row)
    along = share_score(most["moved"], MAPPED) > limit
    if row["target"] is None or along:
        return bool(row["target"] is None and along and most["next"] > 0.5)
    tests = [Test(**t) for t in verdict["tests"]]
    best = deciding(tests)
    if one_score(best) > limit:
        return bool(best.target == row["target"])
    at, _, score = _patched(row)
    if score <= limit:
        at, _, score = _cleared(row)
    return bool(score > limit and at == row["target"])


def _patched(row: Row) -> tuple[int, float, float]:
    return patch_score(torch.tensor(row["patched"]["moved"]), torch.tensor(row["values"]["patch"]), row["patched"]["images"])


def _mapped(row: Row) -> dict[str, float]:
    """The map of classes that more images are moved along, by noise or by a perturbation."""
    most: dict[str, float] = max((row[key] for key in MAPS if row.get(key)), key=lambda m: m["moved"])
    return most


def _cleared(row: Row) -> tuple[int, float, float]:
    return clear_score(torch.tensor(row["values"]["perturbation"]).sigmoid())


def rate(hits: Iterable[bool]) -> str:
    """Successes of trials with Wilson's 95 % interval."""
    trials = list(hits)
    if not trials:
        return "none"
    interval = binomtest(sum(trials), len(trials)).proportion_ci(method="wilson")
    return f"{sum(trials)} of {len(trials)} ({interval.low:.0%} to {interval.high:.0%})"


def table(rows: list[Row]) -> list[str]:
    """One line per model; several seeds are summed up in it."""
    by_name: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_name[row["name"]].append(row)
    names = list(NAMES)
    columns = [
        "model",
        "attack",
        "target",
        "accuracy",
        "ASR",
        "verdict (scans)",
        "target found",
        "p, largest",
        *names,
        "noise map",
        "pixel map",
    ]
    lines = [f"| {' | '.join(columns)} |"]
    lines.append("| --- " * len(columns) + "|")
    for name, own in sorted(by_name.items(), key=lambda item: (item[1][0]["attack"] == "none", item[0])):
        first = own[0]
        outcomes = [r["verdict"]["outcome"] for r in own]
        counts = ", ".join(f"{o} ({outcomes.count(o)})" for o in sorted(set(outcomes)))
        targets = ", ".join(sorted({str(r["verdict"]["target"]) for r in own if r["verdict"]["target"] is not None})) or "–"
        p = max((r["verdict"]["p_value"] for r in own if r["verdict"]["p_value"] is not None), default=float("nan"))
        asr = "–" if first["asr"] is None else f"{first['asr']:.3f}"
        aim = "–" if first["attack"] == "none" else "all" if first["target"] is None else str(first["target"])
        seen = [_shown(own, test) for test in names]
        seen += [_moved(own, key) for key in MAPS]
        head = f"{name} | {attack(first)} | {aim} | {first['model_accuracy']:.3f} | {asr} | {counts} | {targets} | {p:.1e}"
        lines.append(f"| {head} | {' | '.join(seen)} |")
    return lines


def _shown(rows: list[Row], test: str) -> str:
    """Mean statistic of one test over the scans of a model, with the class that leads in the first."""
    own = [t for r in rows for t in r["verdict"]["tests"] if t["name"] == test]
    return f"{mean(t['statistic'] for t in own):.1f} @{own[0]['target']}" if own else "–"


def _moved(rows: list[Row], key: str) -> str:
    """Mean share of the images moved along a map over the scans of a model."""
    shares = [share for share in (_share(r, key) for r in rows) if share is not None]
    return f"{mean(shares):.0%}" if shares else "–"


def totals(rows: list[Row], held: bool) -> list[str]:
    """Found and falsely flagged models; for `held` ones, those that no earlier version had scanned also by themselves.

    Attacks with an ASR below WORKING are left out and listed.
    """
    clean = [r for r in rows if r["attack"] == "none"]
    working = [r for r in rows if works(r)]
    weak = [r for r in rows if r["attack"] != "none" and not works(r)]
    lines = ["| data and architecture | attack | backdoored, right target | suspicious | missed or wrong |", "| --- " * 5 + "|"]
    for key in sorted({(arch(r), attack(r)) for r in working}):
        own = [r for r in working if (arch(r), attack(r)) == key]
        doubtful = sum(r["verdict"]["outcome"] == "suspicious" for r in own)
        missed = len(own) - doubtful - sum(map(found, own))
        lines.append(f"| {key[0]} | {key[1]} | {rate(map(found, own))} | {doubtful} | {missed} |")
    for key_arch in sorted({arch(r) for r in clean}):
        own = [r for r in clean if arch(r) == key_arch]
        flagged = [r["verdict"]["outcome"] == "backdoored" for r in own]
        doubtful = sum(r["verdict"]["outcome"] == "suspicious" for r in own)
        lines.append(f"| {key_arch} | clean | {rate(flagged)} called backdoored | {doubtful} | – |")
    lines.append("")
    if working:
        lines.append(f"- working attacks called backdoored with the right target or map: {rate(map(found, working))}")
    if clean:
        lines.append(f"- clean models called backdoored: {rate(r['verdict']['outcome'] == 'backdoored' for r in clean)}")
        unclear = [f"{r['name']} ({r['verdict']['reason'].partition(',')[0]})" for r in clean if r["verdict"]["outcome"] == "inconclusive"]
        lines += [f"- clean models without a verdict, among these: {', '.join(unclear)}"] if unclear else []
    fresh = [r for r in rows if int(r["name"].rpartition("-s")[2] or -1) not in SEEN] if held else []
    if fresh:
        found_, flagged = (
            [found(r) for r in fresh if works(r)],
            [r["verdict"]["outcome"] == "backdoored" for r in fresh if r["attack"] == "none"],
        )
        lines.append(f"- of the models that no earlier version had scanned: found {rate(found_)}, clean called backdoored {rate(flagged)}")
    if held and working and clean:
        known = shipped()
        limit = max(e.score for e in known.entries)
        hits, alarms = [calibrated(r, limit) for r in working], [calibrated(r, limit) for r in clean]
        bound = f"a clean model exceeds it with a probability of at most 1 in {len(known.entries) + 1}"
        lines.append(
            f"- with the largest score of the {len(known.entries)} clean tune models, {limit:.2f}, as the limit (as `banscan calibrate` "
            f"sets it; {bound}): found {rate(hits)}, clean called backdoored {rate(alarms)}"
        )
    if working and clean:
        lines.append(f"- AUC of the score, working attacks against clean: {_auc(working, clean):.3f}; its ROC, {_roc(working, clean)}")
    if weak:
        listed = ", ".join(f"{r['name']} (ASR {r['asr']:.2f}: {_called(r['verdict'])})" for r in weak)
        lines.append(f"- left out, the attack works on less than {WORKING:.0%}: {listed}")
    settings, machines = rows[0]["settings"], defaultdict(list)
    for r in rows:
        machines["{processor}, {threads} thread(s), torch {torch}".format(**r["environment"])].append(r["seconds"])
    cost = "; ".join(f"median {median(seconds):.0f} s a scan on {machine} (n = {len(seconds)})" for machine, seconds in machines.items())
    lines.append(f"- {len(rows)} scans, noise {settings['noise']}, {settings['restarts']} restarts; {cost}; with other work on the machine")
    return lines


def _called(verdict: dict[str, Any]) -> str:
    what = verdict["kind"] if verdict["target"] is None else str(verdict["target"])
    return verdict["outcome"] if what is None else f"{verdict['outcome']}, {what}"


def _auc(attacked: list[Row], clean: list[Row]) -> float:
    """Probability that a backdoored model has a higher score than a clean one; none, where there is no verdict, counts as 0."""
    return _greater(_scores(attacked), _scores(clean))


def _roc(attacked: list[Row], clean: list[Row]) -> str:
    """Backdoored models above the limits that 0, 1, ... clean ones exceed, up to a tenth of them."""
    limits = sorted(_scores(clean), reverse=True)[: len(clean) // 10 + 1]
    above = (sum(score > limit for score in _scores(attacked)) for limit in limits)
    points = ", ".join(f"{hits} with {k} ({limit:.2f})" for k, (hits, limit) in enumerate(zip(above, limits, strict=True)))
    return f"of {len(attacked)} backdoored models above the limit that so many of {len(clean)} clean ones exceed: {points}"


def _scores(rows: list[Row]) -> list[float]:
    return [r["verdict"]["score"] or 0.0 for r in rows]


def variants(rows: list[Row]) -> list[str]:
    """What changed settings do to the noise test, over the models of `bench.ablation`."""
    columns = ["changed", "target leads", "statistic of the target, mean (smallest)", "largest clean statistic"]
    columns += ["target leads: untargeted", "noise and mask", "strength, mean", "seconds a scan"]
    lines = [f"| {' | '.join(columns)} |"]
    lines.append("| --- " * len(columns) + "|")
    count = Counter(r["variant"] for r in rows)
    for variant in count:
        own = [r for r in rows if r["variant"] == variant]
        if count[variant] < max(count.values()):
            continue  # a row of its own tells nothing beside the others' means
        attacked = [r for r in own if r["attack"] != "none"]
        clean = [_alone(r, "noise")[0] for r in own if r["attack"] == "none"]
        aimed = [float(outlier(torch.tensor(r["values"]["noise"]))[r["target"]]) for r in attacked]
        leads = sum(_alone(r, "noise")[1] == r["target"] for r in attacked)
        lines.append(
            f"| {variant} | {leads} of {len(attacked)} | {mean(aimed):.1f} ({min(aimed):.1f}) | {max(clean):.1f} (n = {len(clean)}) | "
            f"{_gaining(attacked, 'untargeted')} | {_gaining(attacked, 'mask')} | "
            f"{mean(r['eps'] for r in own):.2f} | {mean(r['seconds'] for r in own):.0f} |"
        )
    missing = [v for v in VARIANTS if count[v] < max(count.values())]
    return lines + (["", f"Not computed on all of these models yet: {', '.join(missing)}."] if missing else [])


def baselines(rows: list[Row]) -> list[str]:
    """What the baselines answer on the same models."""
    lines = ["| method | attack | flagged, right target | right target, flagged or not | clean flagged | AUC against clean | seconds |"]
    lines.append("| --- " * 7 + "|")
    for method in dict.fromkeys(r["method"] for r in rows):
        own = [r for r in rows if r["method"] == method]
        clean = [r for r in own if r["attack"] == "none"]
        working = [r for r in own if works(r) and r["target"] is not None]
        seconds = f"{median(r['seconds'] for r in own):.0f}"
        for kind in sorted({r["attack"] for r in working}):
            some = [r for r in working if r["attack"] == kind]
            hits = [r["flagged"] and r["found"] == r["target"] for r in some]
            named = [r["found"] == r["target"] for r in some]
            lines.append(f"| {method} | {kind} | {sum(hits)} of {len(hits)} | {sum(named)} of {len(named)} | – | – | – |")
        hits = [r["flagged"] and r["found"] == r["target"] for r in working]
        named = [r["found"] == r["target"] for r in working]
        auc = _greater([r["statistic"] for r in working], [r["statistic"] for r in clean])
        lines.append(f"| {method} | all | {rate(hits)} | {rate(named)} | {rate(r['flagged'] for r in clean)} | {auc:.3f} | {seconds} |")
    return lines


def _greater(first: list[float], second: list[float]) -> float:
    """Probability that one of the first is greater than one of the second, ties counted half."""
    apart = torch.tensor(first)[:, None] - torch.tensor(second)[None]
    return float((apart > 0).double().mean() + (apart == 0).double().mean() / 2)


def separately(rows: list[Row]) -> list[str]:
    """What each test would decide alone, at the same level without paying for the others."""
    clean = [r for r in rows if r["attack"] == "none" and "values" in r]
    working = [r for r in rows if works(r) and r["target"] is not None and "values" in r]
    if not clean or not working:
        return []
    lines = ["| test alone | all-to-one found, right target | target leads | clean called backdoored | largest clean statistic |"]
    lines.append("| --- " * 5 + "|")
    for test in NAMES:
        seen = [(row, *_alone(row, test)) for row in working]
        hits = [p <= BACKDOORED and lead == row["target"] for row, _, lead, p in seen]
        leads = [lead == row["target"] for row, _, lead, _ in seen]
        calm = [_alone(row, test) for row in clean]
        alarms = [p <= BACKDOORED for _, _, p in calm]
        lines.append(f"| {test} | {rate(hits)} | {sum(leads)} of {len(leads)} | {rate(alarms)} | {max(s for s, _, _ in calm):.2f} |")
    kinds = {
        "all-to-all": [r for r in rows if works(r) and r["target"] is None and "values" in r],
        "all-to-one": working,
        "clean": clean,
    }
    lines.append("")
    shares: list[tuple[str, str, Callable[[Row], float | None]]] = [
        (f"share of images that noise moves along a map (limit {MAPPED:.0%})", ".0%", lambda r: _share(r, "noise map")),
        (f"share of images that a perturbation moves along a map (limit {MAPPED:.0%})", ".0%", lambda r: _share(r, "map")),
        (
            f"share of images that the best patch moves to one class, lower bound (limit {PATCHED:.0%})",
            ".0%",
            lambda r: _patched(r)[1] if r["patched"] else None,
        ),
        ("odds of clearness over those of its limit (limit 1)", ".2f", lambda r: _cleared(r)[2]),
    ]
    for what, form, share in shares:
        shown = []
        for kind, group in kinds.items():
            own = [v for v in map(share, group) if v is not None]
            shown.append(f"{kind} {min(own):{form}} to {max(own):{form}} (n = {len(own)})" if own else f"{kind} none")
        lines.append(f"- {what}: {', '.join(shown)}")
    lines.append(f"- untargeted noise (Eq. 4), not used: the class that gains most is the target in {_gaining(working, 'untargeted')}")
    lines.append(f"- untargeted noise and negative mask (Eq. 6), not used: {_gaining(working, 'mask')}")
    return lines


def _gaining(rows: list[Row], key: str) -> str:
    """In how many of the models the class that gains most by what is not used is the target."""
    return f"{sum(r[key]['class'] == r['target'] for r in rows)} of {len(rows)}"


def _share(row: Row, key: str) -> float | None:
    return row[key]["moved"] if row.get(key) else None


def _alone(row: Row, test: str) -> tuple[float, int, float]:
    """Statistic, leading class and p-value of one test by itself."""
    values = outlier(torch.tensor(row["values"][test]))
    lead = int(values.argmax())
    return float(values[lead]), lead, outlier_p(float(values[lead]), len(values), len(values))


SECTIONS = {
    "examples": "The two examples: two of the held-out models below, taken because the scan gets them right.",
    "held": "Held-out models: other seeds, targets and triggers than those that anything was tried on. Most of them had been "
    "scanned by earlier versions: without the patch test, without trimmed patches and the limit of their share, and at last without the "
    "limit of clearness. These came from tune models, but knowing what kind of model had been missed (BadNets on VGG16 and on CIFAR-10; "
    "Blend on VGG16). The others are counted once more by themselves. Two clean VGG16 (seeds 106 and 107) were inconclusive until the "
    "choice of the preprocessing was given all images instead of 200, a change that was made because of them. Clearness and the noise map "
    "of models scanned before these existed were added to their rows, computed by the same functions from the same images. Models that "
    "the margin test had decided on were scanned anew when it lost its say (because of a tune model); no verdict changed. On the ResNet18 "
    "without batch norm with BadNets patches move 91 % of the images to each of two classes, and the first of them was named, which is "
    "not the target; since then, and because of it, the clearer one is.",
    "tune": "Models that settings and statistics were tried on; not evidence of what the scan does on others. Those of the zoo that "
    "are not listed were not scanned with this version.",
    "ablation": "One setting changed at a time: the noise test on five attacked and three clean tune models. Noise acts on the "
    "deepest quarter of the layers, its strength is found by bisection unless given; `eps` is in units of each neuron's clean spread. The "
    "verdict rests on noise aimed at each class. Beside it, from the same scans: in how many models the target is the class that gains "
    "most predictions by untargeted noise (Eq. 4), and by that noise together with the negative mask over what the mask does alone (Eq. 5 "
    "and 6).",
    "baselines": "The inversion detectors that the paper compares with, on held-out models, with the images that the scan gets. "
    "Neural Cleanse: 250 steps of 16 images a class; BTI-DBF: 60 epochs. Differences to the published code: see `bench/baselines`.",
    "repair": "Repairs of held-out models with the settings of `banscan repair`, which were chosen on tune models "
    "([method.md](method.md), *Repair*, says where held-out ones had a part in it). As many clean images as in the paper, 5 % of the "
    "training data (903, 21 a class), of which 731 are tuned on and the rest is kept to measure on (on CIFAR-10 900, 90 a class, 1.8 % of "
    "it). Accuracy and ASR are those on all test images; the repair knows the scan's verdict and no trigger. *finetune*: plain "
    "fine-tuning (lambda_2 = 0) of all layers with the same images, batches and learning rate; *anp*: adversarial neuron pruning, with "
    "its authors' settings but fewer batches at a higher rate. ± is the standard deviation over the models. Which models these are was "
    "decided by what was on the machine. SSDT is left out: no model on which it works was trained. Training follows from the seed on one "
    "processor only: models trained anew for their repair on another than that of the scans above are not the same, but the same recipe "
    "once more. What the next section says of folded statistics holds for *finetune* here as well. The paper's means (ResNet18 of full "
    "width, CIFAR-10): BAN 93.8 to 92.4 % accuracy, 99.3 to 2.2 % ASR, fine-tuning to 93.4 % and 38.8 % (Table 3); all-to-all BAN 93.7 to "
    "92.6 %, 89.1 to 1.2 % (Table 5); ANP leaves an ASR of 23.7 % there, 97.2 % on Blend (Table 11).",
    "repair-earlier": "Repairs by earlier versions, and by the other methods of models that this version has not repaired yet. "
    "Version 1 pasted no patches, had no teacher and wrote what lies at 0.85 of the way from the given to the tuned weights. Version 2 "
    "pasted patches; of eight models it left 3.1 % (VGG16: BadNets 34 0.2 %, Blend 9 3.6 %, Blend 27 0.5 %, BadNets 21 16.3 %), two of "
    "its rows are kept. With a teacher, but still 0.85 of the way, Blend 9 kept 74.6 %. Version 3 sought the first patches longer, had "
    "the given model as the teacher for all classes and wrote all of the way. Rows of version 1 and of *finetune*, but for those of "
    "Adap-Blend 35, Adap-Patch 0 and 7, Bpp 41, IAD 24, Blend 33, BadNets 14, VGG16 and the all-to-all seeds 78 and from 159 on, took the "
    "statistics that are folded in at the end from parts in the order of the classes: next to no difference with as many images as here "
    "(97.0 % either way on Adap-Blend 10, one trial), 2.7 points of accuracy with 344 (Blend 33).",
    "floor": "What the same triggers do to the clean example, a ResNet18 that never saw one: the share of the test images that it "
    "puts where the attacker wants them, which no repair can be asked to get below. A strong warp makes any model err, and along a map of "
    "the classes now and then in the attacker's direction.",
    "repair-few": "Repairs with the 430 images that the scans have, 344 of which are tuned on: 2 % of the training data. Models "
    "that were on the machine when this was last measured; the versions are those named above.",
    "repair-settings": "One setting of `banscan repair` changed at a time on a tune model with BppAttack, as in the paper's Table "
    "7, with the 903 images, by version 1 (see above). In the paper, at full width on CIFAR-10: ASR 1.9 to 2.9 % in all rows, accuracy "
    "falling from 93.3 to 92.0 % as lambda_2 rises from 0.2 to 1 and from 93.6 to 90.1 % as the learning rate does from 0.001 to 0.02.",
}
BODIES = {
    "ablation": variants,
    "baselines": baselines,
    "floor": floor.page,
    "repair": repair.page,
    "repair-earlier": repair.table,
    "repair-few": repair.page,
    "repair-settings": repair.page,
}
INTRODUCTION = """# Evidence

Regenerated by `make evidence` from the rows in `bench/results/`, which `bench.zoo` (training) and `bench.detect` (scanning) write.
Models at 1/4 width, trained on GTSRB split by track, or on CIFAR-10, 6 to 8 epochs, exported as ONNX with their batch norm folded. Images:
430 clean GTSRB images, 10 a class, of tracks that no model was trained on; 500 of CIFAR-10's test images. The tests and their threshold
are explained in [method.md](method.md); columns named after a test hold its statistic and the class that leads. One row is one model.
Intervals are Wilson's, 95 %.
"""


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write a page there instead of to stdout.")
def main(files: tuple[Path, ...], out: Path | None) -> None:
    """Print the table of each of FILES and its totals."""
    parts = [INTRODUCTION] if out else []
    for file in files:
        rows = read(file)
        head = [f"## {file.stem}", "", SECTIONS.get(file.stem, str(file)), ""]
        if file.stem in BODIES:
            parts.append("\n".join([*head, *BODIES[file.stem](rows), ""]))
            continue
        rows, poor = learnt(rows)
        listed = ", ".join(f"{r['name']} ({r['model_accuracy']:.0%}: {r['verdict']['outcome']})" for r in poor)
        left_out = [f"- left out, the training failed (accuracy): {listed}"] if poor else []
        alone = separately(rows)
        extra = ["### Each test alone", "", *alone, ""] if alone else []
        parts.append("\n".join([*head, *totals(rows, file.stem == "held"), *left_out, "", *extra, "### Models", "", *table(rows), ""]))
    page = "\n".join(parts)
    if out is None:
        click.echo(page)
    else:
        out.write_text(page)


if __name__ == "__main__":
    main()
