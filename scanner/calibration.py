"""What clean models score, so that a verdict's false-positive rate is measured and not only derived (split conformal prediction).

A model's score is 1 where the verdict's own threshold lies. Among n clean models and one more of the same kind, every order of the
scores is as likely as any other, so the new one is the highest, or among the k highest, with probability k / (n + 1) at most, whatever
the scores are like (Vovk et al. 2005). banscan ships the scores of its own clean models, which tell for which kinds of model the verdict
was ever tried; whoever has clean models of their own gets their own threshold.
"""

import json
import math
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from banscan.errors import EvidenceError, UsageError
from banscan.files import check_file
from banscan.importers import TracedModel
from banscan.importers.normal.attention import attends
from banscan.scanner import probability
from banscan.scanner.findings import FRAGILE, Kind, Standing, Verdict
from banscan.scanner.inputs.given import CALIBRATION
from banscan.scanner.inputs.images import CleanSet
from banscan.scanner.levels import Levels
from banscan.scanner.settings import Settings, declared
from banscan.text import counted
from banscan.version import __version__

SCHEMA = "banscan-calibration/3"
# scores that another version made say something else
EARLIER = ("banscan-calibration/1", "banscan-calibration/2")
SHIPPED = "clean_models.json"
ALPHA = 0.05
# bytes; thousands of models take less
LARGEST = 16 << 20
# classes, or pixels a side, that no model has
MOST = 1 << 30
# a smaller false-positive rate would take more clean models than there are
LEAST_ALPHA = 1e-9
# a model is of a kind with those measured when its classes and its image size are within this factor of theirs
NEAR = 2


@dataclass(frozen=True)
class Entry:
    """One clean model."""

    name: str
    sha256: str
    kind: Kind
    score: float


@dataclass(frozen=True)
class Calibration:
    """Scores of clean models.

    Attributes:
        alpha: the false-positive rate that the threshold is set for; None for the scores that banscan ships, where the verdict keeps its
            own threshold.
        settings: those that are decisive, of every scan.
        images: clean images of each scan.
    """

    entries: tuple[Entry, ...]
    alpha: float | None
    settings: dict[str, Any]
    images: int
    banscan: str
    path: Path | None = None

    @property
    def limit(self) -> float:
        """The score above which a model is called backdoored: `threshold`, or 1 for the shipped ones."""
        return 1.0 if self.alpha is None else threshold([e.score for e in self.entries], self.alpha)

    def levels(self, kind: Kind) -> Levels:
        """What a finding on a model of this kind has to reach."""
        return Levels(None if self.alpha is None else self.limit, self.uncovered(kind))

    def uncovered(self, kind: Kind) -> str | None:
        """Why no model measured is of this kind; None where one is."""
        how = f"{'with' if kind.attention else 'without'} attention"
        kinds = [e.kind for e in self.entries if e.kind.attention == kind.attention]
        if not kinds:
            return f"it works {how}, the clean models measured do not"
        low, high = _stood_for([k.size for k in kinds])
        if not low <= kind.size <= high:
            return f"it has {kind.size} pixels a side, the clean models measured that work {how} stand for {low} to {high}"
        # those of other sizes say nothing of so many classes at this one
        alike = [k for k in kinds if kind.size / NEAR <= k.size <= kind.size * NEAR]
        low, high = _stood_for([k.classes for k in alike or kinds])
        if not low <= kind.classes <= high:
            about = f"the clean models measured that work {how} at about {kind.size} pixels a side stand for {low} to {high}"
            return f"it has {kind.classes} classes, {about}"
        return None

    def check(self, settings: Settings) -> None:
        """Raises UsageError where the scores were measured with other settings than these."""
        for name, value in decisive(settings).items():
            if self.settings.get(name) != value:
                made = self.settings.get(name)
                raise UsageError(f"{self.path}: made with {name} {made}, not {value}; scan with the same settings or calibrate again")

    def check_model(self, sha256: str) -> None:
        """Raises EvidenceError for one of its own models, whose score is part of the limit that it would have to exceed."""
        own = None if self.alpha is None else next((e.name for e in self.entries if e.sha256 == sha256), None)
        if own is not None:
            raise EvidenceError(f"it is one of the clean models of {self.path or 'the calibration'} ({own}); calibrate without it")

    def to_dict(self) -> dict[str, Any]:
        """The calibration as plain values: what its file holds."""
        return {
            "schema": SCHEMA,
            "banscan": self.banscan,
            "alpha": self.alpha,
            "limit": self.limit,
            "settings": self.settings,
            "images": self.images,
            "models": [asdict(e) for e in self.entries],
        }

    def to_html(self) -> str:
        """The scores and the limit as a self-contained page."""
        from banscan.scanner.report.html.short import of_calibration

        return of_calibration(self).to_html()

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from banscan.scanner.report.html.short import of_calibration

        return of_calibration(self).framed()


def _stood_for(values: list[int]) -> tuple[int, int]:
    """What models with these values stand for: from the least to the most that is near one of them."""
    return math.ceil(min(values) / NEAR), max(values) * NEAR


def threshold(scores: list[float], alpha: float) -> float:
    """The score that a further clean model exceeds with probability alpha at most: the k-th largest, k = floor(alpha (n + 1)).

    Raises:
        UsageError: fewer than 1 / alpha - 1 scores, or an alpha that is no share.
    """
    if not LEAST_ALPHA <= alpha < 1:
        raise UsageError(f"--alpha {alpha:g}: expected a share from {LEAST_ALPHA:g} on and below 1")
    allowed = math.floor(alpha * (len(scores) + 1) + 1e-9)
    if allowed < 1:
        raise UsageError(
            f"{counted(len(scores), 'clean model')} can bound the false-positive rate by {1 / (len(scores) + 1):.3f} at best; give at "
            f"least {math.ceil(1 / alpha - 1 - 1e-9)} for --alpha {alpha:g}, or a larger --alpha"
        )
    return sorted(scores, reverse=True)[allowed - 1]


def standing(calibration: Calibration, kind: Kind, verdict: Verdict, settings: Settings) -> Standing | None:
    """Where the score of a verdict stands among those of the clean models; None where it has none, or says fragile."""
    score = verdict.score
    if score is None or verdict.outcome == FRAGILE:
        return None
    comparable = calibration.settings == decisive(settings)
    reached = sum(e.score >= score for e in calibration.entries) if comparable else None
    count = len(calibration.entries)
    uncovered = calibration.uncovered(kind)
    # the curve was fitted to scans of models like banscan's own
    known = calibration.alpha is None and comparable and uncovered is None and not verdict.gaps and verdict.outcome != "inconclusive"
    return Standing(
        source=calibration.path,
        models=count,
        reached=reached,
        p_value=None if reached is None else (1 + reached) / (count + 1),
        score=score,
        limit=calibration.limit,
        alpha=calibration.alpha,
        uncovered=uncovered,
        probability=probability.of_backdoor(score) if known else None,
    )


def kind_of(model: TracedModel, clean: CleanSet) -> Kind:
    """The kind of a model as it is scanned with these images [N, H, W, C]."""
    return Kind(model.classes, min(clean.images.shape[1:3]), attends(model.module))


def decisive(settings: Settings) -> dict[str, Any]:
    """The settings that change what a score means; the seed and the checks before the search do not."""
    return {field.name: getattr(settings, field.name) for field, declaration in declared(settings) if declaration.decisive}


def shipped() -> Calibration:
    """The scores of the clean models that banscan's settings were made on."""
    return _read(json.loads(resources.files("banscan.scanner").joinpath(SHIPPED).read_text()), None)


def load(path: str | Path) -> Calibration:
    """Reads a file that `render` wrote.

    Raises:
        UsageError: there is no such file, or it is none of banscan's.
    """
    path = Path(path)
    check_file(path, CALIBRATION)
    try:
        if path.stat().st_size > LARGEST:
            raise ValueError("too large")
        found = _read(json.loads(path.read_text(encoding="utf-8")), path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); {CALIBRATION}") from error
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise UsageError(f"{path}: no calibration; {CALIBRATION}") from error
    try:
        threshold([e.score for e in found.entries], found.alpha or ALPHA)  # too few are told before any work
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    return found


def _read(document: dict[str, Any], path: Path | None) -> Calibration:
    if document["schema"] in EARLIER:
        raise UsageError(f"{path}: scores of an earlier version, whose tests were others; calibrate again")
    if document["schema"] != SCHEMA:
        raise ValueError("unknown schema")
    entries = tuple(map(read_entry, document["models"]))
    alpha = None if document["alpha"] is None else _number(document["alpha"])
    if not entries or (alpha is not None and not 0 < alpha < 1):
        raise ValueError("unusable numbers")
    settings, images, made_by = (_typed(document[key], kind) for key, kind in (("settings", dict), ("images", int), ("banscan", str)))
    return Calibration(entries, alpha, settings, images, made_by, path)


def read_entry(document: dict[str, Any]) -> Entry:
    """One model as `asdict` wrote it.

    Raises:
        ValueError, KeyError, TypeError, OverflowError: it is none.
    """
    kind = document["kind"]
    classes, size, attention = (_typed(kind[key], of) for key, of in (("classes", int), ("size", int), ("attention", bool)))
    if not (0 < classes <= MOST and 0 < size <= MOST):
        raise ValueError("no number of classes or pixels")
    name, digest = (_typed(document[key], str) for key in ("name", "sha256"))
    return Entry(name, digest, Kind(classes, size, attention), _number(document["score"]))


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{kind.__name__} expected")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("no finite number")
    return float(value)


def render(calibration: Calibration) -> str:
    """The calibration as JSON text."""
    return json.dumps(calibration.to_dict(), indent=1) + "\n"


def version() -> str:
    return __version__
