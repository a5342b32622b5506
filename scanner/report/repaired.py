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
    before, after, mended = repair.before.verdict, repair.after.verdict, repair.mended
    title = Text(mended.output.name)
    on.print(
        Panel(
            Text(_headline(mended.output.name, before, after), style=STYLES[after.outcome]), title=title, title_align="left", padding=(0, 1)
        )
    )
    table = Table(box=None, pad_edge=False)
    for name in ("", "before", "after"):
        table.add_column(name, justify="left" if not name else "right")
    table.add_row("verdict", _outcome(before), _outcome(after))
    table.add_row("score (called backdoored from 1)", _number(before.score), _number(after.score))
    accuracy = [f"{value:.1%}" for value in mended.accuracy]
    table.add_row(f"benign accuracy on the {counted(mended.held, 'image')} kept from the tuning", *accuracy)
    on.print(table)
    if repair.attention:
        on.print(Text(ATTENTION, style="yellow"))
    settings = mended.settings
    pixels = f" on neurons and {settings.radius:g} on pixels" if settings.pixels else ""
    pixels += ", patches" if settings.patches and before.kind is not None else ""
    how = f"lambda_2 {settings.weight:g}, noise up to {settings.eps:g}{pixels}" if settings.weight else "no noise"
    tuned = (
        f"Tuned on {counted(mended.tuned, 'image')} for {counted(settings.epochs, 'epoch')} "
        f"({mended.method}: {how}, learning rate {settings.lr:g}). "
        f"{repair.before.model.runtime} agrees with the tuned model to {mended.parity.rms:.1e} relative RMS."
    )
    on.print(Text(tuned, style="dim"))
    on.print(Text(PROOF, style="dim"))


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


def _outcome(verdict: Verdict) -> Text:
    where = f", class{'es' * (len(verdict.targets) > 1)} {', '.join(map(str, verdict.targets))}" if verdict.targets else ""
    return Text(f"{verdict.outcome}{where}", style=STYLES[verdict.outcome])


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def write(repair: "Repair", stream: TextIO) -> None:
    """Writes the report of a repair."""
    show(shown(repair), console(stream))
