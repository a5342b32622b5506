"""The stored rows that the paper's tables are filled from, as one kind of record for detections and one for repairs."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import repair
from bench.baselines.table import hit
from bench.paper.measure import BASELINE, REPAIR, SCAN
from bench.paper.printed import Key
from bench.rows import HELD, LOOKED, read, succeeds
from bench.tables import found, learnt, outcome

Row = dict[str, Any]
PAPER, OURS = "paper", "Ours"
# files of scans; models that settings were tried on fill no cell
SCANS = (*HELD, *LOOKED, "effort")
REPAIRS = ("repair", "repair-few", "repair-settings")
# what a repair is called in the paper; in the rows it has the name of its method
REPAIRED = {"Fine-tuning": "finetune", "ANP": "anp", OURS: "ban", "featureRE": "FeatureRE", "BTI-DBF(U)": "BTI-DBF(U)"}


@dataclass(frozen=True)
class Model:
    """A model of a zoo, from its name and row: SET-ARCHwWIDTH-ATTACK-TARGET-sSEED."""

    name: str
    set: str
    arch: str
    width: int
    attack: str
    all_to_all: bool
    seed: int

    def fits(self, key: Key) -> bool:
        """Whether it is of a table's line, whatever its data set."""
        return (self.arch, self.attack, self.all_to_all) == (key.arch, key.attack, key.all_to_all)


@dataclass(frozen=True)
class Scan:
    """A detection: whether the model is called backdoored, and with the right target or, of all-to-all, map (None for clean models).

    `part` is the file of the row, `form` of noise, `effort` of our own scans; `tried`, whether settings were tried on the model.
    """

    model: Model
    method: str
    part: str
    form: str
    effort: str
    flagged: bool
    right: bool | None
    seconds: float
    tried: bool = False


@dataclass(frozen=True)
class Mend:
    """A repair: benign accuracy and ASR, before and after; `settings` as `repair.label` tells them."""

    model: Model
    method: str
    part: str
    settings: str
    images: int
    before: tuple[float, float]
    after: tuple[float, float]


@dataclass(frozen=True)
class Store:
    """Everything that is stored; `weak` counts rows of attacks that work on less than 90 %, `poor` those of models that failed to learn."""

    scans: tuple[Scan, ...]
    mends: tuple[Mend, ...]
    figures: tuple[Row, ...]
    weak: int
    poor: int


def load(results: Path) -> Store:
    """All rows of this folder; files that are not there hold none."""
    paper = read(results / f"{PAPER}.jsonl")
    scans: list[Scan] = []
    weak = poor = 0
    for part in (*SCANS, PAPER):
        own = [r for r in paper if r["what"] == SCAN] if part == PAPER else read(results / f"{part}.jsonl")
        fit, failed = learnt(own)
        working = [r for r in fit if _works(r)]
        weak, poor = weak + len(fit) - len(working), poor + len(failed)
        scans += [_scan(r, part) for r in working]
    for part, own in (("baselines", read(results / "baselines.jsonl")), (PAPER, [r for r in paper if r["what"] == BASELINE])):
        longest = _longest(own)
        working = [r for r in longest if _works(r)]
        weak += len(longest) - len(working)
        scans += [_baseline(r, part) for r in working]
    mends = [_mend(r, part) for part in REPAIRS for r in read(results / f"{part}.jsonl")]
    mends += [_mend(r, PAPER) for r in _longest([r for r in paper if r["what"] == REPAIR])]
    figures = tuple(r for r in paper if r["what"] not in (SCAN, BASELINE, REPAIR))
    return Store(tuple(scans), tuple(mends), figures, weak, poor)


def _longest(own: list[Row]) -> list[Row]:
    """Without those of the small scale where the same method was run with all steps of its paper."""
    full = {(r["name"], r["method"]) for r in own if r.get("scale") == "full"}
    return [r for r in own if r.get("scale") == "full" or (r["name"], r["method"]) not in full]


def model(row: Row) -> Model:
    """The model of a row."""
    recipe = row.get("recipe", row)
    kind, network, rest = row["name"].split("-", 2)
    arch, _, width = network.rpartition("w")
    seed = re.search(r"-s(\d+)$", rest)
    if seed is None:
        raise ValueError(f"a row has the model {row['name']}; expected a name that ends with a seed, like -s12")
    several = recipe.get("several", 1) > 1
    attack = f"{recipe['attack']}, several targets" if several else recipe["attack"]
    return Model(row["name"], kind, arch, int(width), attack, attack != "none" and recipe["target"] is None, int(seed[1]))


def _works(row: Row) -> bool:
    recipe = row.get("recipe", row)
    return bool(recipe["attack"] == "none" or succeeds(recipe, row["asr"]))


def _scan(row: Row, part: str) -> Scan:
    settings = row["settings"]
    flagged = outcome(row) == "backdoored"
    right = None if row["attack"] == "none" else found(row)
    effort = settings.get("effort", "thorough")
    tried = row.get("part", part) in LOOKED
    return Scan(model(row), OURS, part, settings["noise"], effort, flagged, right, row["seconds"], tried)


def _baseline(row: Row, part: str) -> Scan:
    # what a baseline answers of all-to-all attacks is one class, so none is right
    right = None if row["attack"] == "none" else row["target"] is not None and hit(row)
    return Scan(model(row), row["method"], part, "", "", bool(row["flagged"]), right, row["seconds"])


def _mend(row: Row, part: str) -> Mend:
    before, after = ((row[when]["accuracy"], row[when]["asr"]) for when in ("before", "after"))
    return Mend(model(row), row["method"], part, repair.label(row), row["images"], before, after)


def seeds(models: Iterable[Model]) -> str:
    """The seeds of models, those in a row as a range: 3, 10-14."""
    runs: list[list[int]] = []
    for seed in sorted({m.seed for m in models}):
        if runs and seed == runs[-1][1] + 1:
            runs[-1][1] = seed
        else:
            runs.append([seed, seed])
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in runs)
