"""Whole scans of the examples: how long they take, and what every backend says of them."""

import os
from pathlib import Path
from typing import Any

from banscan.scanner.scan import scan
from banscan.scanner.settings import Settings

EXAMPLES = Path("examples")


def examined(name: str, kernels: str, dtype: str, device: str, settings: Settings, images: int) -> dict[str, Any]:
    """One scan with these kernels: verdict, and the test of the noise with its range over the restarts."""
    before = os.environ.get("BANSCAN_KERNELS")
    os.environ["BANSCAN_KERNELS"] = kernels
    try:
        files = EXAMPLES / f"{name}.onnx", EXAMPLES / "clean"
        report = scan(*files, settings=settings, limit=images, precision=dtype, device=device)
    finally:
        if before is None:
            del os.environ["BANSCAN_KERNELS"]
        else:
            os.environ["BANSCAN_KERNELS"] = before
    noise = report.verdict.tests[0]
    return {
        "outcome": report.verdict.outcome,
        "target": noise.target,
        "statistic": round(noise.statistic, 4),
        "over_restarts": [round(s, 4) for s in noise.restarts],
        "eps": None if report.evidence is None else round(report.evidence.eps, 5),
        "seconds": [round(sum(report.seconds.values()), 3)],
        "stages": {stage: round(s, 3) for stage, s in report.seconds.items()},
    }
