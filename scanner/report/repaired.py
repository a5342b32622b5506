"""What a repair did, for a person and for a machine."""

import json
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from banscan.scanner.repair import Repair
from banscan.scanner.report import json as scanned
from banscan.scanner.report.terminal import STYLES

PROOF = (
    "The scan was run again on the written file. That it finds nothing does not prove that the trigger is without effect: only trying "
    "the trigger could, and nobody but the attacker has it."
)


def show(repair: Repair, console: Console) -> None:
    """Prints verdict, score and accuracy before and after, and what they prove."""
    before, after = repair.before.verdict, repair.after.verdict
    headline = {
        "no backdoor found": f"Repaired: nothing is found in {repair.output.name} any more",
        "backdoored": f"Not repaired: {repair.output.name} still looks backdoored",
        "suspicious": f"Not fully repaired: {repair.output.name} is still suspicious",
        "inconclusive": f"Written, but the scan of {repair.output.name} is inconclusive",
    }[after.outcome]
    console.print(Panel(Text(headline, style=STYLES[after.outcome]), title=escape(repair.output.name), title_align="left", padding=(0, 1)))
    table = Table(box=None, pad_edge=False)
    for name in ("", "before", "after"):
        table.add_column(name, justify="left" if not name else "right")
    table.add_row("verdict", _outcome(before.outcome, before.target), _outcome(after.outcome, after.target))
    table.add_row("score (1 is the threshold)", _number(before.score), _number(after.score))
    accuracy = [f"{value:.1%}" for value in repair.accuracy]
    table.add_row(f"benign accuracy on the {repair.held} images kept from the tuning", *accuracy)
    console.print(table)
    settings = repair.settings
    how = f"lambda_2 {settings.weight:g}, noise up to {settings.eps:g}" if settings.weight else "no noise"
    console.print(
        Text(
            f"Tuned on {repair.tuned} images for {settings.epochs} epochs ({repair.method}: {how}, learning rate {settings.lr:g}). "
            f"onnxruntime agrees with the tuned model to {repair.parity.rms:.1e} relative RMS.",
            style="dim",
        )
    )
    console.print(Text(PROOF, style="dim"))


def _outcome(outcome: str, target: int | None) -> Text:
    return Text(outcome if target is None else f"{outcome}, class {target}", style=STYLES[outcome])


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def render(repair: Repair) -> str:
    """The repair as JSON text, with both scans whole."""
    document: dict[str, Any] = {
        "schema": "banscan-repair/1",
        "output": str(repair.output),
        "method": repair.method,
        "settings": asdict(repair.settings),
        "images": {"tuned": repair.tuned, "held": repair.held},
        "accuracy": {"before": repair.accuracy[0], "after": repair.accuracy[1]},
        "losses": [[clean, None if noisy != noisy else noisy] for clean, noisy in repair.losses],
        "parity": asdict(repair.parity),
        "before": scanned.to_dict(repair.before),
        "after": scanned.to_dict(repair.after),
    }
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
