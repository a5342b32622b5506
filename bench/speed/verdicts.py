"""Whole scans of the examples: how long they take, and what every backend says of them."""

from pathlib import Path
from typing import Any

from banscan.scanner.scan import scan
from banscan.scanner.settings import Options, Settings
from bench.speed.switches import switched

EXAMPLES = Path("examples")


def examined(name: str, kernels: str, dtype: str, device: str, settings: Settings, images: int) -> dict[str, Any]:
    """One scan with these kernels: verdict, and the test of the noise with its range over the restarts."""
    with switched(BANSCAN_KERNELS=kernels):
        options = Options(max_images=images, precision=dtype, device=device)
        report = scan(EXAMPLES / f"{name}.onnx", EXAMPLES / "clean", settings=settings, options=options)
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
