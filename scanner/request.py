"""Everything that is asked of a scan but the model and the images: what the command line and the processes of many scans pass on."""

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from banscan.scanner.machine import threads
from banscan.scanner.machine.loading import loading
from banscan.scanner.machine.progress import Progress, silent
from banscan.scanner.places.place import Local
from banscan.scanner.settings import Options, Settings

if TYPE_CHECKING:
    from banscan.scanner.findings import Report

# of the options, those that say where a scan runs, and those that name files
ELSEWHERE, FILES = ("device", "threads", "memory"), ("labels", "classes")


@dataclass(frozen=True, kw_only=True)
class Request:
    """How models are scanned.

    Attributes:
        calibration: a file of scores of own clean models; None for those that banscan ships.
        deployed: as what a file is scanned beside the file as it is, one of `settings.DEPLOYMENTS`; None for the file alone.
        dry_run: whether nothing is searched for.
        origin: where a model that was fetched before is from; it names the report and changes nothing in it.
    """

    settings: Settings = field(default_factory=Settings)
    options: Options = field(default_factory=Options)
    calibration: Path | None = None
    deployed: str | None = None
    dry_run: bool = False
    origin: str | None = None

    def run(self, model: Path, clean_dir: Path, progress: Progress = silent) -> "Report":
        """The report on one model; raises as `scan.scan` does."""
        return Local(model, self.origin).named(self._run(model, clean_dir, progress))

    def _run(self, model: Path, clean_dir: Path, progress: Progress) -> "Report":
        with loading():
            from banscan.importers.load import begin

            if self.deployed is None:  # the file is read while the rest is loaded
                begin(model, self.options.sides, self.options.logits)
            from banscan.scanner import calibration, scan
            from banscan.scanner.deployed import scan_deployed

        against = None if self.calibration is None else calibration.load(self.calibration)
        how: dict[str, Any] = {"settings": self.settings, "options": self.options, "against": against, "progress": progress}
        if self.dry_run:
            return scan.dry_run(model, clean_dir, **how)
        if self.deployed is not None:
            return scan_deployed(model, clean_dir, self.deployed, **how)
        return scan.scan(model, clean_dir, **how)


def set_threads(options: Options) -> None:
    """As many as the process is allowed, unless someone said how many."""
    with loading():
        import torch

    if options.threads is None and threads.NAME not in os.environ:  # torch has taken that number already
        torch.set_num_threads(threads.allowed())


def plain(request: Request) -> dict[str, Any]:
    """As JSON has it."""
    document: dict[str, Any] = _texts(asdict(request))
    return document


def deciding(options: Options) -> dict[str, Any]:
    """What of the options decides a result, as JSON has it: files by what is in them; where a scan runs does not."""
    from banscan.importers.digest import sha256  # torch comes with it

    document: dict[str, Any] = _texts({name: value for name, value in asdict(options).items() if name not in ELSEWHERE})
    for name in FILES:
        path = getattr(options, name)
        document[name] = None if path is None else sha256(path)
    return document


def restored(document: dict[str, Any]) -> Request:
    """What `plain` wrote."""
    from banscan.scanner.report.json import made

    request: Request = made(Request, document)
    return request


def _texts(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _texts(inner) for key, inner in value.items()}
    return str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
