"""Model file → TracedModel, read in a confined process."""

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from banscan.errors import BanscanError, ModelError, OperatorError
from banscan.files import check_model
from banscan.importers import carried, sandbox
from banscan.importers.model import TracedModel
from banscan.importers.onnx.lacking import SECOND
from banscan.importers.sandbox.budget import Budget, reading, reading_again


def load(
    path: str | Path,
    size: tuple[int, int] | None = None,
    logits: str | None = None,
    settled: dict[str, Any] | None = None,
    *,
    again: bool = False,
) -> TracedModel:
    """Reads a model file of any of the formats into the normal form; what it is tells its content, not its name.

    Nothing of the file is executed here: a child process reads it, limited in time and memory and, where the system can do that, without
    any file but those of the model's folder; the traced graph comes back as plain values. Where its reader lacks an operator, the second
    one of its format, if there is one and it is installed, reads the file in its place; `source.reader` says so.

    Args:
        size: height and width of the images, for a model that leaves them free; the graph then takes this size only.
        logits: the output that holds them, for a file with several that are named.
        settled: what is put in the place of logic beside the network before it is read; see `structure.settle`.
        again: by the second reader only.

    Raises:
        UsageError: there is no such file, or it has no such output.
        ModelError: the file is damaged, is refused, or holds no image classifier that can be traced.
    """
    path = Path(path)
    check_model(path)
    arguments = _arguments(path, size, logits, settled)
    if again:
        return _read(path, arguments | {"again": True}, reading_again(path))
    try:
        return _read(path, arguments, reading(path))
    except OperatorError as error:
        try:
            return _read(path, arguments | {"again": True}, reading_again(path))
        except ModelError as other:
            raise ModelError(refused(error, other, path)) from other


def refused(error: BanscanError, other: BanscanError, path: Path) -> str:
    """Why neither the first reader of a file reads it, or reads it right, nor the second."""
    reason = str(other).removeprefix(f"{path}: ")
    return f"{error}; {reason if reason.startswith(SECOND) else f'by {SECOND}, {reason}'}"


def _read(path: Path, arguments: dict[str, Any], budget: Budget) -> TracedModel:
    answer, unconfined = sandbox.call("read", arguments, None, path=path, budget=budget)
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
