"""Backdoor scanner for image classifiers: a model file and a few clean images in, a verdict with evidence out.

report = banscan.scan("model.onnx", "imgs/")
print(report.verdict.outcome, report.verdict.target, report.verdict.p_value)
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

from banscan.errors import BanscanError, EvidenceError, ModelError, UsageError

if TYPE_CHECKING:
    from banscan.importers import TracedModel, load
    from banscan.scanner.inputs.preprocess import Preprocess
    from banscan.scanner.repair.repair import Repair, repair
    from banscan.scanner.scan import Report, scan
    from banscan.scanner.settings import Settings
    from banscan.scanner.verdict import Verdict

__all__ = [
    "BanscanError",
    "EvidenceError",
    "ModelError",
    "Preprocess",
    "Repair",
    "Report",
    "Settings",
    "TracedModel",
    "UsageError",
    "Verdict",
    "load",
    "repair",
    "scan",
]

_HOMES = {
    "Preprocess": "banscan.scanner.inputs.preprocess",
    "Repair": "banscan.scanner.repair.repair",
    "Report": "banscan.scanner.scan",
    "Settings": "banscan.scanner.settings",
    "TracedModel": "banscan.importers",
    "Verdict": "banscan.scanner.verdict",
    "load": "banscan.importers",
    "repair": "banscan.scanner.repair.repair",
    "scan": "banscan.scanner.scan",
}


def __getattr__(name: str) -> Any:
    # torch takes seconds to load: the command line's --help must not wait for it
    if name not in _HOMES:
        raise AttributeError(f"module 'banscan' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
