"""What a repair did, for a person."""

from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from banscan.scanner.findings import FRAGILE, Verdict
from banscan.scanner.report.console import console
from banscan.scanner.report.pieces import STYLES
from banscan.text import counted, shown

if TYPE_CHECKING:
    from banscan.scanner.repair.result import Repair

PROOF = (
    "The scan was run again on the written file. That it finds nothing does not prove that the trigger is without effect: only trying "
    "the trigger could, and nobody but the attacker has it."
)
ATTENTION = (
    "Repairs of networks with attention do not hold: in the one whose trigger could be tried it still worked on half of the images, though "
    "the scan found nothing any more. Do not rely on this one."
)


def show(repair: "Repair", on: Console) -> None:
    """Prints verdict, score and accuracy before and after, and what they prove."""
    mended, outcomes = repair.mended, (repair.before.verdict.outcome, repair.after.verdict.outcome)
    said = Text(headline(repair), style=STYLES[outcomes[1]])
    on.print(Panel(said, title=Text(mended.output.name), title_align="left", padding=(0, 1)))
    table = Table(box=None, pad_edge=False)
    for name in ("", "before", "after"):
        table.add_column(name, justify="left" if not name else "right")
    verdicts, *others = rows(repair)
    table.add_row(verdicts[0], *(Text(cell, style=STYLES[outcome]) for cell, outcome in zip(verdicts[1:], outcomes, strict=True)))
    for row in others:
        table.add_row(*row)
    on.print(table)
    for caveat in caveats(repair):
        on.print(Text(caveat, style="yellow"))
    on.print(Text(tuned(repair), style="dim"))
    on.print(Text(PROOF, style="dim"))


def headline(repair: "Repair") -> str:
    """What came of it, in one sentence."""
    return _headline(repair.mended.output.name, repair.before.verdict, repair.after.verdict)


def _headline(name: str, before: Verdict, after: Verdict) -> str:
    """What the second scan says of the first one's finding; another class than the one that was tuned against is another finding."""
    flagged = ("backdoored", "suspicious")
    same = before.kind == after.kind and (not after.targets or not set(after.targets).isdisjoint(before.targets))
    if before.outcome in flagged and after.outcome in flagged and not same:
        there = f"class {after.target}" if after.target is not None else f"an {after.kind} map"
        return f"Doubtful: what was found is not found in {name} any more, but {there} now looks {after.outcome}"
    return {
        "no backdoor found": f"Tuned: nothing is found in {name}, as before"
        if before.outcome == "no backdoor found"
        else f"Repaired: nothing is found in {name} any more",
        "backdoored": f"Not repaired: {name} still looks backdoored",
        "suspicious": f"Not fully repaired: {name} is still suspicious",
        FRAGILE: f"Written, but {name} is fragile: what moves its images may have been planted or not",
        "inconclusive": f"Written, but the scan of {name} is inconclusive",
    }[after.outcome]


def rows(repair: "Repair") -> list[tuple[str, str, str]]:
    """What was measured, before and after; the verdicts first."""
    before, after, mended = repair.before.verdict, repair.after.verdict, repair.mended
    first, last = (f"{value:.1%}" for value in mended.accuracy)
    return [
        ("verdict", _outcome(before), _outcome(after)),
        ("score (called backdoored from 1)", _number(before.score), _number(after.score)),
        (f"benign accuracy on the {counted(mended.held, 'image')} kept from the tuning", first, last),
    ]


def caveats(repair: "Repair") -> list[str]:
    """What a reader has to know before the file is used."""
    return [ATTENTION] if repair.attention else []


def tuned(repair: "Repair") -> str:
    """How it was tuned, and what the file's own runtime says of what was written."""
    mended, settings = repair.mended, repair.mended.settings
    pixels = f" on neurons and {settings.radius:g} on pixels" if settings.pixels else ""
    pixels += ", patches" if settings.patches and repair.before.verdict.kind is not None else ""
    how = f"lambda_2 {settings.weight:g}, noise up to {settings.eps:g}{pixels}" if settings.weight else "no noise"
    return (
        f"Tuned on {counted(mended.tuned, 'image')} for {counted(settings.epochs, 'epoch')} "
        f"({mended.method}: {how}, learning rate {settings.lr:g}). "
        f"{repair.before.model.runtime} agrees with the tuned model to {mended.parity.rms:.1e} relative RMS."
    )


def _outcome(verdict: Verdict) -> str:
    where = f", class{'es' * (len(verdict.targets) > 1)} {', '.join(map(str, verdict.targets))}" if verdict.targets else ""
    return f"{verdict.outcome}{where}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def write(repair: "Repair", stream: TextIO) -> None:
    """Writes the report of a repair."""
    show(shown(repair), console(stream))
