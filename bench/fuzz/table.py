"""The fuzzer's rows as a table."""

from collections import Counter
from typing import Any

from bench.fuzz import trial
from bench.tables import header

NAMES = {
    "onnx": "ONNX: bytes, protobuf",
    "script": "TorchScript: bytes, archive, code",
    "pt2": "torch.export: bytes, archive, JSON, code",
    "image": "images: bytes",
    "table": "tables of labels: bytes, words",
    "names": "names of classes: bytes, words",
}
SOUND = (trial.REFUSED, trial.READ, trial.UNCOMPARED, trial.TOLD)


def page(results: list[dict[str, Any]]) -> list[str]:
    """Markdown: outcomes by what was mutated."""
    lines = header(["mutated", "mutants", *SOUND, *trial.FAULTS, "most memory"])
    total: Counter[str] = Counter()
    for kind, name in NAMES.items():
        own = [r for r in results if r["kind"] == kind]
        if own:
            counts = sum((Counter(r["outcomes"]) for r in own), Counter())
            total += counts
            lines.append(_line(name, counts, max(r["peak_mb"] for r in own)))
    if results:
        lines.append(_line("**all**", total, max(r["peak_mb"] for r in results)))
        commits = list(dict.fromkeys(r["commit"] for r in results))
        lines += ["", f"Commits {', '.join(commits)}; {sum(r['seconds'] for r in results) / 3600:.1f} hours of one core."]
    return lines


def _line(name: str, counts: Counter[str], peak: int) -> str:
    cells = [f"{counts.total():,}", *(f"{counts[outcome]:,}" for outcome in (*SOUND, *trial.FAULTS)), f"{peak} MB"]
    return f"| {name} | {' | '.join(cells)} |"
