"""The machine-readable report, one versioned schema."""

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from banscan.scanner.scan import Report

SCHEMA = "banscan/1"


def render(report: Report) -> str:
    """The report as JSON text; numbers that are not finite become null."""
    return json.dumps(to_dict(report), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def to_dict(report: Report) -> dict[str, Any]:
    """The report as plain values: every setting and every number."""
    model, source = report.model, report.model.source
    document = {
        "schema": SCHEMA,
        "verdict": asdict(report.verdict),
        "model": {
            **asdict(source),
            "input": asdict(model.input),
            "classes": model.classes,
            "neuron_layers": len(model.neurons),
            "neurons": sum(n.channels for n in model.neurons),
            "features": model.features,
            "spatial": model.spatial,
            "classifier": list(model.classifier),
            "stripped": list(model.stripped),
        },
        "images": {
            "used": len(report.clean.images),
            "found": report.clean.found,
            "labels": report.clean.labelled_by,
            "unreadable": list(report.clean.unreadable),
            "class_names": report.clean.names,
        },
        "preprocess": None if report.choice is None else asdict(report.choice),
        "parity": None if report.parity is None else asdict(report.parity),
        "accuracy": report.accuracy,
        "confidence": report.confidence,
        "settings": asdict(report.settings),
        "evidence": None if report.evidence is None else asdict(report.evidence),
        "pixels": None if report.pixels is None else asdict(report.pixels),
        "mask": None if report.mask is None else vars(report.mask),
        "standing": None if report.standing is None else asdict(report.standing),
        "environment": report.environment,
        "seconds": report.seconds,
    }
    plain: dict[str, Any] = _plain(document)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Tensor):
        return _plain(value.tolist())
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        # six digits are what float32 holds
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
