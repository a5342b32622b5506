"""The page on copies as controls: verdicts by copies alone, and what was found of what was planted."""

from dataclasses import asdict
from typing import Any

from banscan.scanner.findings import Verdict
from banscan.scanner.report.json import plain
from bench.controls import page


def copy(trigger: str | None, outcome: str, *, asr: float | None = None) -> dict[str, Any]:
    targets = [4] if outcome == "backdoored" else []
    return {"trigger": trigger, "target": None if trigger is None else 4, "asr": asr, "accuracy": [0.9, 0.9], "outcome": outcome} | {
        "targets": targets,
        "score": 1.0,
        "not_done": None,
    }


def row(name: str, attack: str, verdict: Verdict, tuned: str, found: int) -> dict[str, Any]:
    """A model with two tuned copies of which one says `tuned`, and four planted ones of which so many are found."""
    planted = [
        copy(trigger, "backdoored" if i < found else "no backdoor found", asr=0.95)
        for i, trigger in enumerate(("patch", "blend", "warp", "colour"))
    ]
    return {
        "name": name,
        "attack": attack,
        "target": 7 if attack != "none" else None,
        "asr": None if attack == "none" else 0.99,
        "verdict": plain(asdict(verdict)),
        "copies": [copy(None, "no backdoor found"), copy(None, tuned), *planted],
        "seconds": 100.0,
    }


CALM = Verdict(outcome="no backdoor found", reason="nothing stands out")
CALLED = Verdict(outcome="backdoored", reason="class 7 stands out", kind="all-to-one", targets=(7,))


def test_the_page_counts_verdicts_by_copies_alone() -> None:
    rows = [
        row("a", "blend", CALLED, "no backdoor found", 4),
        row("b", "blend", CALLED, "backdoored", 4),
        row("c", "blend", CALM, "no backdoor found", 3),
        row("d", "none", CALM, "no backdoor found", 3),
        row("e", "none", CALM, "no backdoor found", 1),
    ]
    lines = page(rows)
    assert any(line.startswith("| with an attack that works | 3 | 1 of 3") and line.endswith("| 1 | 1 | 0 | 0 |") for line in lines)
    assert any(line.startswith("| clean | 2 | 0 of 2") and line.endswith("| 1 | 0 | 0 | 1 |") for line in lines)
    assert any(line.startswith("| patch | 5 of 5") and "| 5 of 5" in line[10:] for line in lines)
    assert any(line.startswith("| colour | 5 of 5") and "| 2 of 5" in line for line in lines)
    assert "| e | clean | – | no backdoor found | inconclusive | 1 of 4 | 100 |" in lines
    assert "| b | blend | 0.99 | backdoored, 7 | fragile, 7 | 4 of 4 | 100 |" in lines
