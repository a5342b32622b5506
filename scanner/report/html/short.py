"""Short pages: of a repair, of a calibration, of a model of which there is no report."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from banscan.scanner.findings import Failure
from banscan.scanner.report import repaired
from banscan.scanner.report.html.page import TONES
from banscan.scanner.report.html.template import framed, rendered
from banscan.scanner.report.pieces import sentence
from banscan.text import counted, shown

if TYPE_CHECKING:
    from banscan.scanner.calibration import Calibration
    from banscan.scanner.repair.result import Repair

# of the frame in a notebook, in pixels
HEIGHT, LOW = 360, 120
# clean models that are shown one by one
MODELS = 100


@dataclass(frozen=True, kw_only=True)
class Short:
    """What such a page says: a sentence, a table, paragraphs; texts from files are `plain`.

    Attributes:
        tone: of the sentence: "called", "doubt", "calm" or "plain".
        height: of its frame in a notebook, in pixels.
    """

    headline: str
    tone: str
    heading: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    paragraphs: Sequence[str] = ()
    height: int = HEIGHT

    def to_html(self) -> str:
        """The page."""
        return rendered("short.html", page=self)

    def framed(self) -> str:
        """The page in a frame, for notebooks."""
        return framed(self.to_html(), self.headline, self.height)


def of_repair(repair: "Repair") -> Short:
    """What a repair did: verdict, score and benign accuracy before and after, and what they prove."""
    safe = shown(repair)
    return Short(
        headline=repaired.headline(safe),
        tone=TONES[safe.after.verdict.outcome],
        heading=("", "before", "after"),
        rows=repaired.rows(safe),
        paragraphs=(*repaired.caveats(safe), repaired.tuned(safe), repaired.PROOF),
    )


def of_failure(failure: Failure) -> Short:
    """Why there is no report."""
    safe = shown(failure)
    return Short(headline=f"No report: {sentence(safe.sentence)}", tone="doubt", height=LOW)


def of_calibration(calibration: "Calibration") -> Short:
    """What clean models score, the highest first, and from where on a model is called backdoored."""
    safe = shown(calibration)
    entries = sorted(safe.entries, key=lambda entry: -entry.score)
    more = len(entries) - MODELS
    rate = "" if safe.alpha is None else f", a further clean one with a probability of at most {safe.alpha:g}"
    return Short(
        headline=f"Above a score of {safe.limit:.2f} a model is called backdoored{rate}",
        tone="plain",
        heading=("clean model", "score", "classes", "pixels a side"),
        rows=[(entry.name, f"{entry.score:.2f}", str(entry.kind.classes), str(entry.kind.size)) for entry in entries[:MODELS]],
        paragraphs=[f"{counted(more, 'further model')} with lower scores."] if more > 0 else [],
    )
