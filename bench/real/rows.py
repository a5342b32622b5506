"""A model's row: what banscan's command line says of it, from outside, as a user has it."""

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.child import Ended, run
from bench.real.table import Model
from bench.rows import commit

ROOT = Path(__file__).parents[2]
READ, SCAN, TOLD = "read", "scan", "told"


def read(model: Model, file: Path, folder: Path, limit: float) -> dict[str, Any]:
    """Only what comes before the search: what is read, its structure, and the preprocessing that is found beside the true one."""
    structure = _banscan(["inspect", "--structure", str(file), *_only(model.options, "--logits")], limit)
    found, report = _report(model, file, folder, limit, ["--dry-run"])
    row = _row(model, READ, found, report)
    row["structure"] = {"code": structure.code, "says": (structure.out.strip() or structure.last)[:600]}
    return row | _preprocess(model, file, folder, limit, report, compare=True)


def scan(model: Model, file: Path, folder: Path, limit: float) -> dict[str, Any]:
    """The whole scan, with the preprocessing that banscan finds by itself."""
    found, report = _report(model, file, folder, limit, [])
    return _row(model, SCAN, found, report) | _preprocess(model, file, folder, limit, report, compare=False)


def told(model: Model, file: Path, folder: Path, limit: float) -> dict[str, Any]:
    """The whole scan with the true preprocessing, as a user who knows it says it."""
    return _row(model, TOLD, *_report(model, file, folder, limit, list(model.preprocess)))


# by the name of the stage
STAGES = {READ: read, SCAN: scan, TOLD: told}


def _report(model: Model, file: Path, folder: Path, limit: float, more: list[str]) -> tuple[Ended, dict[str, Any] | None]:
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "report.json"
        asked = ["scan", str(file), "--clean-dir", str(folder), "--output", str(out), "--threads", "1"]
        ended = _banscan([*asked, *model.options, *more], limit)
        return ended, json.loads(out.read_text()) if out.exists() else None


def _banscan(arguments: list[str], limit: float) -> Ended:
    return run([sys.executable, "-m", "banscan", *arguments], limit, ROOT)


def anywhere(text: str) -> str:
    """A sentence without the folders of the machine that it was said on."""
    return re.sub(r"(?<!\S)/\S*/", "", text)


def _row(model: Model, stage: str, ended: Ended, report: dict[str, Any] | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": model.name,
        "stage": stage,
        "part": model.part,
        "sha256": model.sha256,
        "code": ended.code,
        "outcome": "stopped" if ended.code is None else "failed",
        "reason": f"not done after {ended.seconds:.0f} s" if ended.code is None else anywhere(ended.last),
        "seconds": round(ended.seconds, 1),
        "peak_mb": ended.peak_mb,
        "commit": commit(),
    }
    if report is None:
        return row
    verdict = report["verdict"]
    kept = ("outcome", "reason", "targets", "criterion", "p_value", "score")
    features = (report.get("model") or {}).get("features")
    return row | {
        **{name: verdict[name] for name in kept},
        "features": features,
        "used": report["images"]["used"],
        "accuracy": report["accuracy"],
        "confidence": report["confidence"],
        "findings": [f for f in report["findings"] if f["value"] is not None] if stage != READ else [],
        "stages": report["seconds"],
        "environment": report["environment"],
    }


def _preprocess(model: Model, file: Path, folder: Path, limit: float, report: dict[str, Any] | None, compare: bool) -> dict[str, Any]:
    """The preprocessing that was found, how far the model says the same as under the true one, and with `compare` its accuracy there."""
    if report is None or not model.preprocess:
        return {}
    chosen = (report["preprocess"] or {}).get("preprocess")
    row: dict[str, Any] = {"preprocess": chosen, "agreement": None}
    if chosen is not None:
        words = [sys.executable, "-m", "bench.real.agreement", str(file), str(folder), "--chosen", json.dumps(chosen), "--"]
        ended = run([*words, *model.preprocess, *model.options], limit, ROOT)
        row["agreement"] = float(ended.out) if ended.code == 0 else None
    if compare:
        _, right = _report(model, file, folder, limit, ["--dry-run", *model.preprocess])
        row["true_accuracy"] = None if right is None else right["accuracy"]
    return row


def _only(options: tuple[str, ...], *names: str) -> list[str]:
    """The options of these names, with their values."""
    return [word for i, word in enumerate(options) if word in names or (i and options[i - 1] in names)]
