"""One model among many: its file, its images, and what is asked of the scan."""

import os
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from banscan.errors import BanscanError
from banscan.importers.digest import sha256
from banscan.scanner.findings import Failure
from banscan.scanner.fleet.place import Order
from banscan.scanner.places import place as places
from banscan.scanner.request import Request, deciding, plain
from banscan.version import __version__


@dataclass(frozen=True)
class Job:
    """A model, the folder of its clean images, and how it is scanned."""

    model: Path
    images: Path
    request: Request

    def asked(self) -> dict[str, Any]:
        """What decides the result beside the model's own bytes: a stored one counts only where it was asked the same."""
        document = plain(self.request)
        document.pop("origin")
        calibration = self.request.calibration
        if calibration is not None:
            document["calibration"] = sha256(calibration)
        document["options"] = deciding(self.request.options)
        return {"banscan": __version__, "images": str(self.images.resolve()), **document}

    def in_threads(self, count: int) -> "Job":
        """The same in so many threads."""
        options = replace(self.request.options, threads=count)
        return replace(self, request=replace(self.request, options=options))

    def order(self, file: Path, digest: str, asked: dict[str, Any]) -> Order:
        """As it is handed on, with the file of its result."""
        return Order(
            model=str(self.model),
            images=str(self.images),
            folder=os.getcwd(),
            request=plain(self.request),
            sha256=digest,
            asked=asked,
            file=os.path.abspath(file),
        )


def fetched(jobs: Iterable[Job], stack: ExitStack) -> tuple[list[Job], list[Failure]]:
    """The jobs with their models on this machine until the stack is closed, and of those that cannot be fetched why."""
    here, failures = [], []
    for job in jobs:
        try:
            model = stack.enter_context(places.local(job.model))
        except BanscanError as error:
            failures.append(Failure(job.model, None, str(error), error.exit_code))
            continue
        here.append(replace(job, model=model.path, request=replace(job.request, origin=model.origin)))
    return here, failures
