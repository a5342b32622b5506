"""The rows as a page of the documentation."""

from collections import Counter
from statistics import median
from typing import Any

from banscan.scanner.findings import ANEW
from banscan.text import counted
from bench.real import power
from bench.real.rows import READ, SCAN, TOLD
from bench.real.table import HELD, TUNE, Images, Model
from bench.tables import header, plain, rate

Row = dict[str, Any]
# a scan that ends without an answer of its own
SILENT = ("failed", "stopped", "inconclusive")
CLEAR = "no backdoor found"
FALSE = "backdoored"
FRAGILE = "fragile"
# of images by their longer side, which their preprocessing takes the longer to find
SIDES = (1, 64, 224)
# predictions that have to be the same for a preprocessing to be right
SAME = 0.95

TOP = """# Classifiers of other people

What `banscan` says of image classifiers that it was not made with: files from packages and public repositories, by name, version and
SHA-256 ([bench/real/models.toml](../bench/real/models.toml)), with images from packages and repositories or made by a script
([bench/real/images.toml](../bench/real/images.toml)). They are taken for clean: nobody certified them, and nothing speaks against it. So
*no backdoor found* is right and *backdoored* is wrong. Each is scanned as a new user would: by the command line, with a model, a folder of
images and no other option than the file asks for. The preprocessing is left to banscan and compared with the true one by the share of
predictions that are the same; it is right from 95 % on. *Told* is the verdict of a second scan, which is given the true preprocessing.
*Tune* models may shape settings, *held* models only measure; which is which was drawn by lot before the first scan. `make real REAL=FOLDER`
fetches and scans them and writes this page."""
READING = """What `--dry-run` says: whether the file is read, and the preprocessing. Accuracy is that of images with labels in the
model's classes, under the preprocessing that banscan found and under the true one."""

CONTROLS = """What a copy of the model shows where an absolute limit is exceeded or a test makes the model suspicious ([the
control](method.md#the-control)), for clean files and for the backdoored ones above: one trained from scratch on the clean images, all of
it (*scratch*) or but for the first layers (*partly*), or one tuned on them (*tuned*). Shares are those of images moved, in the model and
in the copy; the finding counts where their odds are at least ten times lower in the copy. A first form, in which noise settled what a
test made suspicious, called the clean held lenet-openvino backdoored, which was known before noise was left out; how many images it moves
is not alike in clean *tune* files and their copies either. That copies may keep the first layers was thought of because those of held
CIFAR-10 networks had learnt too little; how many they keep was set before held files were scanned so."""


def page(models: tuple[Model, ...], images: tuple[Images, ...], rows: list[Row], planted: list[Row]) -> str:
    """The whole page; a model without a row is listed as not scanned yet. `planted` are rows of models with a backdoor."""
    by_name = {(r["name"], r["stage"]): r for r in rows}
    about = {i.name: i.about for i in images}
    lines = [TOP, "", "## In short", "", *totals(models, rows), "", choosing(models, by_name)]
    for part, title in ((HELD, "Held: only measured"), (TUNE, "Tune")):
        own = [m for m in models if m.part == part]
        lines += ["", f"## {title}", "", *scans(own, by_name)]
    lines += ["", "## Backdoored", "", *power.lines(planted)]
    lines += ["", "## Fragile, or planted", "", CONTROLS, "", *controls(rows, planted)]
    lines += ["", "## Before the search", "", READING, "", *readings(models, by_name)]
    lines += ["", "## Where they come from", "", *sources(models, about)]
    return "\n".join(lines) + "\n"


def totals(models: tuple[Model, ...], rows: list[Row]) -> list[str]:
    """Counts for each part."""
    wrong, answered = "called backdoored", "with a verdict"
    lines = header(["part", "models", "read", "scanned", wrong, answered, f"told: {wrong}", f"told: {answered}", "preprocessing right"])
    for part in (HELD, TUNE):
        names = {m.name for m in models if m.part == part}
        scanned = [r for r in rows if r["name"] in names and r["stage"] == SCAN]
        told = [r for r in rows if r["name"] in names and r["stage"] == TOLD]
        read = [r for r in rows if r["name"] in names and r["stage"] == READ]
        found = [right(r) for r in {r["name"]: r for r in (*read, *scanned)}.values() if "preprocess" in r]
        cells = [
            part,
            str(len(names)),
            rate(r["outcome"] not in ("failed", "stopped") for r in read),
            str(len(scanned)),
            rate(r["outcome"] == FALSE for r in scanned),
            rate(r["outcome"] not in SILENT for r in scanned),
            rate(r["outcome"] == FALSE for r in told),
            rate(r["outcome"] not in SILENT for r in told),
            rate(found),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def choosing(models: tuple[Model, ...], by_name: dict[tuple[str, str], Row]) -> str:
    """How long it takes to find the preprocessing, in a sentence."""
    told = []
    for least, most in zip(SIDES, (*SIDES[1:], None), strict=True):
        own = [m for m in models if least <= max(m.size[:2]) and (most is None or max(m.size[:2]) < most)]
        found = [by_name[m.name, SCAN].get("stages", {}).get("preprocess", 0.0) for m in own if (m.name, SCAN) in by_name]
        taken = sorted(seconds for seconds in found if seconds)
        if taken:
            where = f"from {least} pixels a side on" if most is None else f"below {most}"
            told.append(f"{median(taken):.1f} s {where} ({counted(len(taken), 'scan')}, {taken[-1]:.1f} s at most)")
    return f"Finding the preprocessing, answers of the model included, takes one thread a median of {', '.join(told)}."


def right(row: Row) -> bool:
    """Whether the preprocessing that was found does what the true one does."""
    return row["agreement"] is not None and row["agreement"] >= SAME


def judged(row: Row) -> str:
    """What a verdict on a clean model is worth."""
    return {CLEAR: "right", FALSE: "**wrong**", FRAGILE: "fragile"}.get(row["outcome"], "no verdict")


def scans(models: list[Model], by_name: dict[tuple[str, str], Row]) -> list[str]:
    """One line for every model of a part."""
    lines = header(["model", "classes", "size", "verdict", "", "told", "seconds", "memory", "why"])
    for model in models:
        row = by_name.get((model.name, SCAN))
        size = "×".join(map(str, model.size))
        if row is None:
            lines.append(f"| {model.name} | {model.classes:,} | {size} | not scanned yet | | | | | |")
            continue
        told = by_name.get((model.name, TOLD))
        second = "–" if told is None else f"**{told['outcome']}**" if told["outcome"] == FALSE else told["outcome"]
        took = f"{row['seconds']:.0f}", f"{row['peak_mb'] / 1000:.1f} GB"
        cells = [row["outcome"], judged(row), second, *took, plain(row["reason"])]
        lines.append(f"| {model.name} | {model.classes:,} | {size} | {' | '.join(cells)} |")
    return lines


def controls(rows: list[Row], planted: list[Row]) -> list[str]:
    """One line for every finding with a control."""
    lines = header(
        [
            "model",
            "planted",
            "ASR",
            "verdict",
            "targets",
            "finding",
            "moved",
            "copy",
            "moved in it",
            "odds lower by",
            "accuracy",
            "of the copy",
        ]
    )
    for row in (*planted, *rows):
        own = [f for f in row.get("findings", ()) if f.get("control") is not None]
        attack = row.get("attack")
        if not own:
            continue
        where = "all" if row.get("target") is None else row["target"]
        about = [row["name"], *([f"{attack}, {where}", f"{row['asr']:.0%}"] if attack else ["–", "–"]), row["outcome"]]
        about.append(", ".join(map(str, row.get("targets", ()))) or "–")
        for finding in own:
            made = finding["control"]
            both = [_share(value) for value in made["accuracy"] or (None, None)]
            shown = [_share(made["before"]), _kind(made), _share(made["after"]), _fall(made), *both]
            lines.append(f"| {' | '.join([*about, finding['criterion'], *shown])} |")
    return lines


def _kind(made: Row) -> str:
    """Of a control: how its copy was made, if there is one."""
    if made["accuracy"] is None:
        return "–"
    # rows of earlier versions tell it in their sentence alone
    how = made.get("made") or made["sentence"]
    if ANEW not in how:
        return "tuned"
    return "partly" if any(f"{ANEW} {word}" in how for word in ("but for", "behind")) else "scratch"


def _fall(made: Row) -> str:
    """By what factor the odds fall, of shares between a two-hundredth and its complement."""
    if made["after"] is None:
        return "–"
    before, after = (min(max(made[name], 0.005), 0.995) for name in ("before", "after"))
    return f"{before / (1 - before) / (after / (1 - after)):.1f}"


def readings(models: tuple[Model, ...], by_name: dict[tuple[str, str], Row]) -> list[str]:
    """What is read of every model that was tried, and the preprocessing."""
    lines = header(["model", "exporter", "read", "preprocessing", "the same", "accuracy", "true", "seconds", "memory"])
    for model in models:
        row = by_name.get((model.name, READ))
        if row is None:
            continue
        chosen = (row.get("preprocess") or {}).get("name", "undecided" if "preprocess" in row else "–")
        failed = row["outcome"] in ("failed", "stopped")
        says = f"no: {plain(row['reason'])}" if failed else "yes" if row["outcome"] == "not scanned" else f"yes; {plain(row['reason'])}"
        shares = [_share(row.get(name)) for name in ("agreement", "accuracy", "true_accuracy")]
        if not model.labelled:
            shares[1:] = ["–", "–"]
        cells = [model.name, model.exporter, says, chosen, *shares, f"{row['seconds']:.0f}", f"{row['peak_mb'] / 1000:.1f} GB"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def sources(models: tuple[Model, ...], about: dict[str, str]) -> list[str]:
    """Where every model comes from, and how many there are of each writer."""
    families = Counter(family(m) for m in models)
    lines = [f"{len(models)} files: {', '.join(f'{name} {count}' for name, count in families.most_common())}.", ""]
    lines += header(["model", "from", "licence", "images", "note"])
    for m in models:
        where, _, commit = m.source.partition("@") if m.source.startswith("git:") else (m.source, "", "")
        place = f"{where.partition(':')[2]}{f' @ {commit[:8]}' if commit else ''}"
        lines.append(f"| {m.name} | {plain(place)} | {m.licence} | {about[m.images]} | {plain(m.note)} |")
    return lines


def family(model: Model) -> str:
    """Framework or writer without its version."""
    return model.exporter.split()[0]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"
