"""The report as one page: pictures, drawings and tables, readable anywhere, without scripts and without a network."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from banscan.importers.structure.finding import IDLE, SEEN
from banscan.scanner.evidence import Change
from banscan.scanner.findings import FRAGILE, NOT_SCANNED, PLANNED, SUSPECTS, Finding, Report
from banscan.scanner.logic import CRITERION
from banscan.scanner.report import copies, rivals, words
from banscan.scanner.report.html.again import again, command_of
from banscan.scanner.report.html.dots import Dots, dots
from banscan.scanner.report.html.graph import Graph, of_place, of_switch
from banscan.scanner.report.html.matrix import LEVELS, matrix
from banscan.scanner.report.html.pictures import FEW, KINDS, Shown, leading, shown_change
from banscan.scanner.report.html.template import rendered
from banscan.scanner.report.pieces import chance, headline, named, number, sentence
from banscan.text import shown

# colours and marks by the outcome
TONES = {
    "backdoored": "called",
    "suspicious": "doubt",
    FRAGILE: "doubt",
    "no backdoor found": "calm",
    "inconclusive": "doubt",
    NOT_SCANNED: "plain",
}
MARKS = {"backdoored": "▲", "suspicious": "◆", FRAGILE: "◆", "no backdoor found": "●", "inconclusive": "?", NOT_SCANNED: "–"}
# classes that noise reaches best, places in a graph and pairs of a map that are shown one by one
REACHED, PLACES, MAPPED = 8, 4, 4
# criteria that name a node or neurons: what is drawn of these comes first
DRAWN = (CRITERION, "dormant")


@dataclass(frozen=True)
class Card:
    """What one criterion found."""

    finding: Finding
    tone: str
    dots: Dots | None
    classes: str
    value: str
    limit: str
    chance: str
    weak: bool
    counts: bool


def to_html(report: Report, *, command: str | None = None) -> str:
    """The report as one self-contained page.

    Names from files are shown as `text.plain` has them, and escaped wherever they stand. The page loads nothing and runs nothing; its
    Content-Security-Policy forbids both.

    Args:
        command: the command line that made it; None for one put together from the settings.
    """
    safe = shown(report)
    return rendered("page.html", **_values(safe, command_of(safe) if command is None else shown(command)))


def _values(report: Report, command: str) -> dict[str, Any]:
    """Everything that the template shows."""
    verdict, evidence = report.verdict, report.evidence
    lead = leading(report)
    tried = report.preprocess
    return {
        "report": report,
        "verdict": verdict,
        "tone": TONES[verdict.outcome],
        "mark": MARKS[verdict.outcome],
        "headline": headline(report),
        "confidence": words.confidence(report),
        "gaps": [gap for gap in verdict.gaps if gap not in verdict.reason],
        "key": list(_key(report)),
        "lead": None if lead is None else shown_change(report, lead),
        "grids": list(_grids(report, lead)),
        "counts": verdict.outcome in ("backdoored", "suspicious"),
        "graphs": list(_graphs(report)),
        "first": "graphs" if verdict.criterion in DRAWN else "pictures",
        "matrices": [(moves, matrix(report, moves)) for moves in evidence.moves] if evidence is not None else [],
        "levels": LEVELS,
        "cards": [_card(report, f) for f in report.findings if f.not_done is None],
        "counting": words.counting(report),
        "without_effect": words.without_effect(report),
        "planned": [f for f in report.findings if f.not_done == PLANNED],
        "left_out": list(_left_out(report)),
        "reach": [(named(report, r.target), r) for r in sorted(report.reach, key=lambda r: -r.moved)[:REACHED]],
        "restarts": words.restarts(report),
        "copies": list(copies.rows(report)),
        "copied": copies,
        "idle": copies.idle(report),
        "rivals": list(rivals.rows(report)),
        "open": rivals,
        "facts": list(words.facts(report)),
        "aside": list(words.aside(report)),
        "tried": tried.table if tried is not None else (),
        "chosen": None if tried is None or tried.preprocess is None else tried.preprocess.name,
        "again": again(report, command),
        "seconds": words.seconds(report) if report.seconds else None,
    }


def _key(report: Report) -> Iterator[tuple[str, str]]:
    """The numbers that a reader looks for first."""
    verdict = report.verdict
    if verdict.targets:
        yield "target" if len(verdict.targets) == 1 else "targets", ", ".join(named(report, c) for c in verdict.targets)
    if verdict.mapping:
        pairs = [f"{source}→{attacked}" for source, attacked in verdict.mapping]
        yield "class before → after", ", ".join(pairs[:MAPPED]) + (", …" if len(pairs) > MAPPED else "")
    if verdict.kind is not None:
        yield "kind", verdict.kind
    if verdict.criterion is not None:
        yield "leading test", verdict.criterion
    if report.standing is not None and report.standing.probability is not None:
        yield "probability of a backdoor like those measured", words.likely(report.standing.probability)
    if verdict.p_value is not None:
        yield "probability by chance", chance(verdict.p_value)
    if report.accuracy is not None:
        yield "accuracy on the clean images", f"{report.accuracy:.1%}"
    elif report.confidence is not None:
        yield "confidence on the clean images", f"{report.confidence:.1%}"
    yield "images, classes", f"{report.images.used}, {report.model.classes}"


def _grids(report: Report, lead: Change | None) -> Iterator[tuple[str, list[Shown]]]:
    """The other changes with a title: those of one search together, the searches that found a single one at the end."""
    changes = report.evidence.changes if report.evidence is not None else ()
    single = []
    for criterion in dict.fromkeys(c.criterion for c in changes):
        own = [c for c in changes if c.criterion == criterion]
        kind = sentence(KINDS.get(criterion, criterion)).rstrip(".")
        if len(own) > 1:
            yield (
                f"{kind} for each class: {'the next' if lead in own else 'those'} that are reached most clearly",
                [shown_change(report, c, FEW) for c in own if c is not lead][:FEW],
            )
        else:
            single += [c for c in own if c is not lead]
    if single:
        yield "Other searches", [shown_change(report, c, single=True) for c in single]


def _graphs(report: Report) -> Iterator[tuple[str, Graph]]:
    """Switches in the weights and decisions in the graph, each drawn with its neighbours."""
    structure = report.structure
    for place in [p for p in structure.places if p.outcome not in (IDLE, SEEN)][:PLACES] if structure is not None else ():
        assert structure is not None
        yield (
            f"operator {place.operator} in the graph: {place.outcome} (numbers count the operators with weights)",
            of_place(report, structure, place),
        )
    if report.evidence is not None and report.evidence.switch is not None:
        yield "neurons that clean images leave off", of_switch(report, report.evidence.switch)


def _card(report: Report, finding: Finding) -> Card:
    strong = "called" if report.verdict.outcome == "backdoored" else "doubt"
    tone = strong if finding.exceeds else "doubt" if finding.suspects else "plain"
    return Card(
        finding=finding,
        tone=tone,
        dots=dots(report, finding),
        classes=", ".join(named(report, c) for c in finding.classes) or "–",
        value="–" if finding.value is None else number(finding, finding.value),
        limit="–" if finding.limit is None else number(finding, finding.limit),
        weak=finding.power == SUSPECTS,
        counts=words.counts(report, finding),
        chance="–" if finding.p_value is None else chance(finding.p_value),
    )


def _left_out(report: Report) -> Iterator[tuple[str, str]]:
    """What was not looked for, or not wholly, and where not exceeding means nothing."""
    for f in report.findings:
        if f.not_done is not None and f.not_done != PLANNED:
            yield f.criterion, f"not looked for: {f.not_done}"
        for why in (f.partly, f.blind):
            if why is not None and f.not_done is None:
                yield f.criterion, why
