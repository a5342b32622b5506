"""The rows of `bench.detect` as Markdown tables with their totals."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from scipy.stats import binomtest

from banscan.scanner.criteria import class_maps, patch_share
from banscan.scanner.findings import ONE, Finding, Verdict
from banscan.scanner.levels import BACKDOORED, Levels
from bench import replay
from bench.rows import WORKING, arch, attack, read, succeeds
from bench.zoo.lists import SEEN
from bench.zoo.models import SMALL

Row = dict[str, Any]
# the criteria that compare classes, and those that look for a map of them
TESTS = ("noise", "logit", "margin", "perturbation", "patch", "joint")
MAPS = ("noise map", "pixel map")
TUNE = Path(__file__).parent / "results" / "tune.jsonl"
# a model that is this far behind the best on its data has not learnt its task
BEHIND = 0.1


def page(rows: list[Row], held: bool) -> list[str]:
    """Totals, the models one by one, what each test would decide alone, and its statistics; `held` as for `totals`."""
    rows, poor = learnt(rows)
    listed = ", ".join(f"{r['name']} ({r['model_accuracy']:.0%}: {outcome(r)})" for r in poor)
    left_out = [f"- left out, they know their task too little (accuracy): {listed}"] if poor else []
    each = separately(rows)
    extra = ["## Each test alone", "", *each, ""] if each else []
    models, statistics = table(rows)
    return [*totals(rows, held), *left_out, "", "## Models", "", *models, "", *extra, "## Statistics of the tests", "", *statistics]


def learnt(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """Models that know their task, and those that failed to learn it, whatever was planted in them."""
    best: dict[str, float] = defaultdict(float)
    for row in rows:
        best[_task(row)] = max(best[_task(row)], row["model_accuracy"])
    fit = [r for r in rows if r["model_accuracy"] >= best[_task(r)] - BEHIND]
    return fit, [r for r in rows if r not in fit]


def _task(row: Row) -> str:
    """What models are compared by: their data; small networks, which learn less of it, with their like alone."""
    data_set, _, rest = row["name"].partition("-")
    return f"{data_set}-{rest.partition('-')[0]}" if rest.startswith(SMALL) else str(data_set)


def plain(text: str) -> str:
    """Fit for a cell of a table."""
    return " ".join(text.replace("|", "/").split())


def works(row: Row) -> bool:
    return succeeds(row, row["asr"])


def aims(row: Row) -> set[int]:
    """The target classes of an all-to-one attack."""
    return set(row.get("targets") or [row["target"]])


def outcome(row: Row) -> str:
    """What the findings of a row lead to."""
    return replay.verdict(row).outcome


def found(row: Row) -> bool:
    """Whether the model is called backdoored as it should be; see `right`."""
    return right(row, replay.verdict(row))


def right(row: Row, verdict: Verdict) -> bool:
    """Called backdoored with no other class than the target, or one of several; for all-to-all with the right kind and most of the map."""
    if verdict.outcome != "backdoored":
        return False
    if row["target"] is None:
        return bool(verdict.kind != ONE and following(verdict) > 0.5)
    return bool(verdict.targets and aims(row).issuperset(verdict.targets))


def following(verdict: Verdict) -> float:
    """How much of a map of classes is the usual attack, y to y + 1."""
    classes = 1 + max((max(pair) for pair in verdict.mapping), default=0)
    return mean(attacked == (c + 1) % classes for c, attacked in verdict.mapping) if verdict.mapping else 0.0


def calibrated(row: Row, limit: float) -> bool:
    """Whether a score above `limit` would have called the model backdoored with the right target, or a clean one at all."""
    verdict = replay.verdict(row, Levels(calibrated=limit))
    return verdict.outcome == "backdoored" if row["attack"] == "none" else right(row, verdict)


def clean_limit() -> tuple[float, int]:
    """The largest score of the clean *tune* models, and how many there are."""
    clean = [replay.verdict(row).score or 0.0 for row in read(TUNE) if row["attack"] == "none" and row["settings"]["seed"] == 0]
    return max(clean), len(clean)


def rate(hits: Iterable[bool]) -> str:
    """Successes of trials with Wilson's 95 % interval."""
    trials = list(hits)
    if not trials:
        return "none"
    interval = binomtest(sum(trials), len(trials)).proportion_ci(method="wilson")
    return f"{sum(trials)} of {len(trials)} ({interval.low:.0%} to {interval.high:.0%})"


def header(columns: list[str]) -> list[str]:
    """The first two lines of a table."""
    return [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]


def table(rows: list[Row]) -> tuple[list[str], list[str]]:
    """Two tables with one line per model, several seeds summed up in it: what the scans say, and what each test showed."""
    by_name: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_name[row["name"]].append(row)
    models = header(["model", "attack", "target", "ASR", "verdict", "found by", "score"])
    statistics = header(["model", "accuracy", "p, largest", *TESTS, "noise map", "pixel map"])
    for name, own in sorted(by_name.items(), key=lambda item: (item[1][0]["attack"] == "none", item[0])):
        first, verdicts = own[0], [replay.verdict(r) for r in own]
        calls = [_called(v) for v in verdicts]
        counts = "; ".join(f"{call} ({calls.count(call)} of {len(own)})" if len(own) > 1 else call for call in sorted(set(calls)))
        by = ", ".join(sorted({str(v.criterion) for v in verdicts if v.outcome in ("backdoored", "suspicious")})) or "–"
        scores = [f"{s:.2f}" for s in sorted(v.score for v in verdicts if v.score is not None)]
        score = " to ".join(dict.fromkeys((scores[0], scores[-1]))) if scores else "–"
        asr = "–" if first["asr"] is None else f"{first['asr']:.3f}"
        aim = "–" if first["attack"] == "none" else "all" if first["target"] is None else ", ".join(map(str, sorted(aims(first))))
        models.append(f"| {name} | {attack(first)} | {aim} | {asr} | {counts} | {by} | {score} |")
        p = max((v.p_value for v in verdicts if v.p_value is not None), default=float("nan"))
        seen = [*(_shown(own, test) for test in TESTS), *(_moved(own, key) for key in MAPS)]
        statistics.append(f"| {name} | {first['model_accuracy']:.3f} | {p:.1e} | {' | '.join(seen)} |")
    return models, statistics


def finding(row: Row, criterion: str) -> Finding | None:
    """What a criterion found in a row's model; None where it was not applied."""
    return next((f for f in replay.findings(row) if f.criterion == criterion and f.not_done is None), None)


def _shown(rows: list[Row], test: str) -> str:
    """Mean statistic of one test over the scans of a model, with the class that leads in the first."""
    own = [f for f in (finding(r, test) for r in rows) if f is not None]
    return f"{mean(f.value or 0.0 for f in own):.1f} @{own[0].classes[0]}" if own else "–"


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
    lines = header(["data and architecture", "attack", "backdoored, right target", "suspicious", "missed or wrong"])
    for key in sorted({(arch(r), attack(r)) for r in working}):
        own = [r for r in working if (arch(r), attack(r)) == key]
        doubtful = sum(outcome(r) == "suspicious" for r in own)
        missed = len(own) - doubtful - sum(map(found, own))
        lines.append(f"| {key[0]} | {key[1]} | {rate(map(found, own))} | {doubtful} | {missed} |")
    for key_arch in sorted({arch(r) for r in clean}):
        own = [r for r in clean if arch(r) == key_arch]
        flagged = [outcome(r) == "backdoored" for r in own]
        doubtful = sum(outcome(r) == "suspicious" for r in own)
        lines.append(f"| {key_arch} | clean | {rate(flagged)} called backdoored | {doubtful} | – |")
    lines += ["", *headline(rows, held)]
    unclear = [f"{r['name']} ({r['verdict']['reason'].partition(',')[0]})" for r in clean if outcome(r) == "inconclusive"]
    lines += [f"- clean models without a verdict, among these: {', '.join(unclear)}"] if unclear else []
    if held and working and clean:
        limit, known = clean_limit()
        hits, alarms = [calibrated(r, limit) for r in working], [calibrated(r, limit) for r in clean]
        bound = f"a clean model exceeds it with a probability of at most 1 in {known + 1}"
        lines.append(
            f"- with the largest score of the {known} clean tune models, {limit:.2f}, as the limit (as `banscan calibrate` "
            f"sets it; {bound}): found {rate(hits)}, clean called backdoored {rate(alarms)}"
        )
    if working and clean:
        lines.append(f"- AUC of the score, working attacks against clean: {_auc(working, clean):.3f}; its ROC, {_roc(working, clean)}")
    if weak:
        listed = ", ".join(f"{r['name']} (ASR {r['asr']:.2f}: {_called(replay.verdict(r))})" for r in weak)
        lines.append(f"- left out, the attack works on less than {WORKING:.0%}: {listed}")
    settings, machines = rows[0]["settings"], defaultdict(list)
    for r in rows:
        machines["{processor}, {threads} thread(s), torch {torch}".format(**r["environment"])].append(r["seconds"])
    cost = "; ".join(f"median {median(seconds):.0f} s a scan on {machine} (n = {len(seconds)})" for machine, seconds in machines.items())
    lines.append(f"- {len(rows)} scans, noise {settings['noise']}, {settings['restarts']} restarts; {cost}; with other work on the machine")
    return lines


def headline(rows: list[Row], held: bool) -> list[str]:
    """Found and falsely flagged models in all, and for `held` ones those that no earlier version had scanned by themselves."""
    lines = []
    hits, alarms = _judged(rows)
    if hits:
        lines.append(f"- working attacks called backdoored with the right target or map: {rate(hits)}")
    if alarms:
        lines.append(f"- clean models called backdoored: {rate(alarms)}")
    fresh = [r for r in rows if int(r["name"].rpartition("-s")[2] or -1) not in SEEN] if held else []
    if fresh:
        hits, alarms = _judged(fresh)
        lines.append(f"- of the models that no earlier version had scanned: found {rate(hits)}, clean called backdoored {rate(alarms)}")
    return lines


def _judged(rows: list[Row]) -> tuple[list[bool], list[bool]]:
    """Whether each working attack is found, and whether each clean model is called backdoored."""
    return (
        [found(r) for r in rows if works(r)],
        [outcome(r) == "backdoored" for r in rows if r["attack"] == "none"],
    )


def missed(rows: list[Row]) -> list[str]:
    """Attacked models that are not called backdoored with the right target or map, those that the attack works on first."""
    lines = header(["model", "attack", "ASR", "verdict"])
    wrong = [r for r in rows if r["attack"] != "none" and not found(r)]
    for r in sorted(wrong, key=lambda r: (not works(r), r["name"])):
        lines.append(f"| {r['name']} | {attack(r)} | {r['asr']:.2f} | {_called(replay.verdict(r))} |")
    return lines


def _called(verdict: Verdict) -> str:
    what = ", ".join(map(str, verdict.targets)) or verdict.kind
    return verdict.outcome if what is None else f"{verdict.outcome}, {what}"


def _auc(attacked: list[Row], clean: list[Row]) -> float:
    """Probability that a backdoored model has a higher score than a clean one; none, where there is no verdict, counts as 0."""
    return greater(_scores(attacked), _scores(clean))


def _roc(attacked: list[Row], clean: list[Row]) -> str:
    """Backdoored models above the limits that 0, 1, ... clean ones exceed, up to a tenth of them."""
    limits = sorted(_scores(clean), reverse=True)[: len(clean) // 10 + 1]
    above = (sum(score > limit for score in _scores(attacked)) for limit in limits)
    points = ", ".join(f"{hits} with {k} ({limit:.2f})" for k, (hits, limit) in enumerate(zip(above, limits, strict=True)))
    return f"of {len(attacked)} backdoored models above the limit that so many of {len(clean)} clean ones exceed: {points}"


def _scores(rows: list[Row]) -> list[float]:
    return [replay.verdict(r).score or 0.0 for r in rows]


def greater(first: list[float], second: list[float]) -> float:
    """Probability that one of the first is greater than one of the second, ties counted half."""
    apart = torch.tensor(first)[:, None] - torch.tensor(second)[None]
    return float((apart > 0).double().mean() + (apart == 0).double().mean() / 2)


def separately(rows: list[Row]) -> list[str]:
    """What each test would decide alone, at the same level without paying for the others."""
    rows = [r for r in rows if finding(r, "noise") is not None]
    clean = [r for r in rows if r["attack"] == "none"]
    working = [r for r in rows if works(r) and r["target"] is not None]
    if not clean or not working:
        return []
    lines = header(["test alone", "all-to-one found, right target", "target leads", "clean called backdoored", "largest clean statistic"])
    for test in TESTS:
        seen = [(row, *alone(row, test)) for row in working]
        hits = [p <= BACKDOORED and lead in aims(row) for row, _, lead, p in seen]
        leads = [lead in aims(row) for row, _, lead, _ in seen]
        calm = [alone(row, test) for row in clean]
        alarms = [p <= BACKDOORED for _, _, p in calm]
        lines.append(f"| {test} | {rate(hits)} | {sum(leads)} of {len(leads)} | {rate(alarms)} | {max(s for s, _, _ in calm):.2f} |")
    kinds = {
        "all-to-all": [r for r in rows if works(r) and r["target"] is None],
        "all-to-one": working,
        "clean": clean,
    }
    lines.append("")
    shares: list[tuple[str, str, Callable[[Row], float | None]]] = [
        (f"share of images that noise moves along a map (limit {class_maps.LIMIT:.0%})", ".0%", lambda r: _share(r, "noise map")),
        (f"share of images that a perturbation moves along a map (limit {class_maps.LIMIT:.0%})", ".0%", lambda r: _share(r, "pixel map")),
        (
            f"share of images that the best patch moves to one class, lower bound (limit {patch_share.LIMIT:.0%})",
            ".0%",
            lambda r: _share(r, "patch share"),
        ),
        (
            "odds of clearness over those of its limit (limit 1)",
            ".2f",
            lambda r: None if (f := finding(r, "clearness")) is None else f.score,
        ),
    ]
    for what, form, share in shares:
        shown = []
        for kind, group in kinds.items():
            own = [v for v in map(share, group) if v is not None]
            shown.append(f"{kind} {min(own):{form}} to {max(own):{form}} (n = {len(own)})" if own else f"{kind} none")
        lines.append(f"- {what}: {', '.join(shown)}")
    lines.append(f"- untargeted noise (Eq. 4), not used: the class that gains most is the target in {gaining(working, 'untargeted')}")
    lines.append(f"- untargeted noise and negative mask (Eq. 6), not used: {gaining(working, 'mask')}")
    return lines


def gaining(rows: list[Row], key: str) -> str:
    """In how many of the models the class that gains most by what is not used is the target."""
    return f"{sum(r[key]['class'] in aims(r) for r in rows)} of {len(rows)}"


def _share(row: Row, criterion: str) -> float | None:
    own = finding(row, criterion)
    return None if own is None else own.value


def alone(row: Row, test: str) -> tuple[float, int, float]:
    """Statistic, leading class and p-value of one test by itself."""
    values, found = replay.alone(row, test)
    return found[1], int(values.argmax()), found[2]
