"""Whole scans of the examples: how long they take, and what every backend says of them."""

import os
from pathlib import Path
from typing import Any

from banscan.scanner.scan import scan
from banscan.scanner.settings import Options, Settings

EXAMPLES = Path("examples")


def examined(name: str, kernels: str, dtype: str, device: str, settings: Settings, images: int) -> dict[str, Any]:
    """One scan with these kernels: verdict, and the test of the noise with its range over the restarts."""
    before = os.environ.get("BANSCAN_KERNELS")
    os.environ["BANSCAN_KERNELS"] = kernels
    try:
        options = Options(max_images=images, precision=dtype, device=device)
        report = scan(EXAMPLES / f"{name}.onnx", EXAMPLES / "clean", settings=settings, options=options)
    finally:
        if before is None:
            del os.environ["BANSCAN_KERNELS"]
        else:
            os.environ["BANSCAN_KERNELS"] = before
    noise = report.findings[0]
    return {
        "outcome": report.verdict.outcome,
        "target": noise.classes[0],
        "statistic": round(noise.value or 0.0, 4),
        "over_restarts": [round(s, 4) for s in noise.restarts],
        "eps": None if report.eps is None else round(report.eps, 5),
        "seconds": [round(sum(report.seconds.values()), 3)],
        "stages": {stage: round(s, 3) for stage, s in report.seconds.items()},
    }
