"""Backdoor scanner for image classifiers: a model file and a few clean images in, a verdict with evidence out.

report = banscan.scan("model.onnx", "imgs/")
print(report.verdict.outcome, report.verdict.targets, report.verdict.p_value)
"""

from typing import TYPE_CHECKING, Any

from banscan.errors import BanscanError, EvidenceError, ModelError, UsageError
from banscan.version import __version__

if TYPE_CHECKING:
    from banscan.importers.load import load
    from banscan.importers.model import TracedModel
    from banscan.scanner.calibrate import calibrate
    from banscan.scanner.calibration import Calibration
    from banscan.scanner.calibration import load as load_calibration
    from banscan.scanner.deployed import scan_deployed
    from banscan.scanner.findings import Failure, Finding, Report, Verdict
    from banscan.scanner.fleet.several import scan_many
    from banscan.scanner.inputs.preprocess import Preprocess
    from banscan.scanner.repair.repair import repair
    from banscan.scanner.repair.result import Repair
    from banscan.scanner.repair.settings import RepairSettings
    from banscan.scanner.scan import dry_run, scan
    from banscan.scanner.settings import Options, Settings

__all__ = [
    "BanscanError",
    "Calibration",
    "EvidenceError",
    "Failure",
    "Finding",
    "ModelError",
    "Options",
    "Preprocess",
    "Repair",
    "RepairSettings",
    "Report",
    "Settings",
    "TracedModel",
    "UsageError",
    "Verdict",
    "__version__",
    "calibrate",
    "dry_run",
    "load",
    "load_calibration",
    "repair",
    "scan",
    "scan_deployed",
    "scan_many",
]

# where public names are at home; after a colon, what they are called there
_HOMES = {
    "Calibration": "banscan.scanner.calibration",
    "Failure": "banscan.scanner.findings",
    "Finding": "banscan.scanner.findings",
    "Options": "banscan.scanner.settings",
    "Preprocess": "banscan.scanner.inputs.preprocess",
    "Repair": "banscan.scanner.repair.result",
    "RepairSettings": "banscan.scanner.repair.settings",
    "Report": "banscan.scanner.findings",
    "Settings": "banscan.scanner.settings",
    "TracedModel": "banscan.importers",
    "Verdict": "banscan.scanner.findings",
    "calibrate": "banscan.scanner.calibrate",
    "dry_run": "banscan.scanner.scan",
    "load": "banscan.importers",
    "load_calibration": "banscan.scanner.calibration:load",
    "repair": "banscan.scanner.repair.repair",
    "scan": "banscan.scanner.scan",
    "scan_deployed": "banscan.scanner.deployed",
    "scan_many": "banscan.scanner.fleet.several",
}


def __getattr__(name: str) -> Any:
    # torch takes seconds to load: the command line's --help must not wait for it
    if name not in _HOMES:
        raise AttributeError(f"module 'banscan' has no attribute {name!r}")
    from importlib import import_module

    home, _, inner = _HOMES[name].partition(":")
    return getattr(import_module(home), inner or name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
