"""Model file → TracedModel, read in a confined process."""

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from banscan.files import check_model
from banscan.importers import carried, sandbox
from banscan.importers.model import TracedModel
from banscan.importers.sandbox.budget import reading


def load(
    path: str | Path, size: tuple[int, int] | None = None, logits: str | None = None, settled: dict[str, Any] | None = None
) -> TracedModel:
    """Reads a model file of any of the formats into the normal form; what it is tells its content, not its name.

    Nothing of the file is executed here: a child process reads it, limited in time and memory and, where the system can do that, without
    any file but those of the model's folder; the traced graph comes back as plain values.

    Args:
        size: height and width of the images, for a model that leaves them free; the graph then takes this size only.
        logits: the output that holds them, for a file with several that are named.
        settled: what is put in the place of logic beside the network before it is read; see `structure.settle`.

    Raises:
        UsageError: there is no such file, or it has no such output.
        ModelError: the file is damaged, is refused, or holds no image classifier that can be traced.
    """
    path = Path(path)
    check_model(path)
    answer, unconfined = sandbox.call("read", _arguments(path, size, logits, settled), None, path=path, budget=reading(path))
    model = carried.restored(answer, path)
    return replace(model, source=replace(model.source, unconfined=unconfined))


def begin(path: Path, size: tuple[int, int] | None, logits: str | None) -> None:
    """Has a file read in the meantime, for a `load` with the same arguments; that says what is wrong with it, or that there is none."""
    with contextlib.suppress(OSError):
        if not path.is_file():
            return
        sandbox.begin("read", _arguments(path, size, logits, None), path=path, budget=reading(path))


def _arguments(path: Path, size: tuple[int, int] | None, logits: str | None, settled: dict[str, Any] | None) -> dict[str, Any]:
    return {"path": str(path), "size": size, "logits": logits, "settled": settled}
