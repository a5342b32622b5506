"""What a repair did, for a person and for a machine."""

import json
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from banscan.importers.normal.attention import attends
from banscan.scanner.repair.repair import Repair
from banscan.scanner.report import json as scanned
from banscan.scanner.report.terminal import STYLES
from banscan.scanner.verdict import Verdict

PROOF = (
    "The scan was run again on the written file. That it finds nothing does not prove that the trigger is without effect: only trying "
    "the trigger could, and nobody but the attacker has it."
)
ATTENTION = (
    "Repairs of networks with attention do not hold: in the one whose trigger could be tried it still worked on half of the images, though "
    "the scan found nothing any more. Do not rely on this one."
)


def show(repair: Repair, console: Console) -> None:
    """Prints verdict, score and accuracy before and after, and what they prove."""
    before, after, mended = repair.before.verdict, repair.after.verdict, repair.mended
    headline = _headline(mended.output.name, before, after)
    console.print(Panel(Text(headline, style=STYLES[after.outcome]), title=escape(mended.output.name), title_align="left", padding=(0, 1)))
    table = Table(box=None, pad_edge=False)
    for name in ("", "before", "after"):
        table.add_column(name, justify="left" if not name else "right")
    table.add_row("verdict", _outcome(before), _outcome(after))
    table.add_row("score (1 is the threshold)", _number(before.score), _number(after.score))
    accuracy = [f"{value:.1%}" for value in mended.accuracy]
    table.add_row(f"benign accuracy on the {mended.held} images kept from the tuning", *accuracy)
    console.print(table)
    if attends(repair.before.model.module):
        console.print(Text(ATTENTION, style="yellow"))
    settings = mended.settings
    runtime = "onnxruntime" if repair.before.model.source.format == "ONNX" else "TorchScript"
    pixels = f" on neurons and {settings.radius:g} on pixels" if settings.pixels else ""
    pixels += ", patches" if settings.patches and before.kind is not None else ""
    how = f"lambda_2 {settings.weight:g}, noise up to {settings.eps:g}{pixels}" if settings.weight else "no noise"
    console.print(
        Text(
            f"Tuned on {mended.tuned} images for {settings.epochs} epochs ({mended.method}: {how}, learning rate {settings.lr:g}). "
            f"{runtime} agrees with the tuned model to {mended.parity.rms:.1e} relative RMS.",
            style="dim",
        )
    )
    console.print(Text(PROOF, style="dim"))


def _headline(name: str, before: Verdict, after: Verdict) -> str:
    """What the second scan says of the first one's finding; another class than the one that was tuned against is another finding."""
    flagged = ("backdoored", "suspicious")
    same = before.kind == after.kind and (not after.named or not set(after.named).isdisjoint(before.named))
    if before.outcome in flagged and after.outcome in flagged and not same:
        there = f"class {after.target}" if after.target is not None else f"an {after.kind} map"
        return f"Doubtful: what was found is not found in {name} any more, but {there} now looks {after.outcome}"
    return {
        "no backdoor found": f"Tuned: nothing is found in {name}, as before"
        if before.outcome == "no backdoor found"
        else f"Repaired: nothing is found in {name} any more",
        "backdoored": f"Not repaired: {name} still looks backdoored",
        "suspicious": f"Not fully repaired: {name} is still suspicious",
        "inconclusive": f"Written, but the scan of {name} is inconclusive",
    }[after.outcome]


def _outcome(verdict: Verdict) -> Text:
    where = ", class" * bool(verdict.named) + "es" * bool(verdict.others)
    return Text(f"{verdict.outcome}{where} {', '.join(map(str, verdict.named))}".rstrip(), style=STYLES[verdict.outcome])


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def render(repair: Repair) -> str:
    """The repair as JSON text, with both scans whole."""
    mended = repair.mended
    document: dict[str, Any] = {
        "schema": "banscan-repair/1",
        "output": str(mended.output),
        "method": mended.method,
        "settings": asdict(mended.settings),
        "images": {"tuned": mended.tuned, "held": mended.held},
        "accuracy": {"before": mended.accuracy[0], "after": mended.accuracy[1]},
        "losses": [[clean, None if noisy != noisy else noisy] for clean, noisy in mended.losses],
        "parity": asdict(mended.parity),
        "before": scanned.to_dict(repair.before),
        "after": scanned.to_dict(repair.after),
        "caveat": ATTENTION if attends(repair.before.model.module) else None,
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
