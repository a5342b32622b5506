"""TorchScript file → TracedModel: PyTorch loads the graph, which is then recorded as an ATen graph with a free batch."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from banscan.errors import BanscanError, ModelError
from banscan.importers import sandbox
from banscan.importers.digest import sha256
from banscan.importers.format import Format
from banscan.importers.model import Source, TracedModel
from banscan.importers.normal.normalise import normalise
from banscan.importers.normal.trace import export
from banscan.importers.pytorch import archive, script_reader
from banscan.importers.pytorch.graph import UnreadableError
from banscan.importers.pytorch.script import Script
from banscan.importers.sandbox.budget import reading
from banscan.importers.structure import scripted, settle
from banscan.importers.structure.finding import Look, Structure
from banscan.importers.structure.settle import Settled

NAME = "TorchScript"


def read(path: Path, size: tuple[int, int] | None, logits: str | None, settled: Settled | None = None) -> TracedModel:
    """Reads a TorchScript classifier, traced, scripted or frozen; `size` is for images whose size it leaves free.

    Raises:
        UsageError: `logits` names an output of a file that has only one.
        ModelError: the archive is refused or damaged, or holds no image classifier that can be traced.
    """
    with _told(path):
        module, spec = scripted.opened(path, _script, settled, size, logits)
    traced = export(path, module, spec.example())
    names = {attribute: name for name, attribute in module.attributes.items()}
    source = Source(path, NAME, "PyTorch", None, sha256(path), None, precision=module.precision, output=module.chosen, weights=names)
    source = replace(source, settled=None if settled is None else settle.plain(settled))
    return normalise(traced, spec, source)


def _script(path: Path) -> Script:
    return Script(script_reader.read(path))


def look(path: Path, logits: str | None) -> Look:
    """Its branches on pixels; see `structure.scripted`."""
    with _told(path):
        return scripted.look(path, _script, logits)


def examine(path: Path, logits: str | None, images: np.ndarray, pixels: tuple[float, float], seconds: float) -> tuple[Structure, Settled]:
    """What becomes of its answers when branches on pixels are forced; see `structure.scripted`."""
    with _told(path):
        return scripted.examine(path, _script, logits, images, pixels, seconds)


def run(source: Source, images: np.ndarray) -> np.ndarray:
    """The file's own answer under TorchScript for float32 images [N, ...]."""
    with _told(source.path):
        place = [] if source.output is None else source.output.split(".")
        answers: np.ndarray = script_reader.run(source.path, torch.from_numpy(images), place).numpy()
        return answers


def write(source: Source, weights: dict[str, Tensor], path: Path) -> None:
    """Writes the file with other values in these of its weights, given by the file's own names, to `path`.

    Raises:
        ModelError: a weight that the file does not hold as one.
    """
    known = asdict(source) | {"path": str(source.path)}
    answer, _ = sandbox.call("write", {"source": known}, {"weights": weights}, path=source.path, budget=reading(source.path))
    path.write_bytes(answer.numpy().tobytes())


def written(source: Source, weights: dict[str, Tensor]) -> bytes:
    """What `write` writes; in a confined process."""
    with _told(source.path):
        return script_reader.write(source.path, weights)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Makes one sentence, which names the file, of whatever goes wrong with it."""
    try:
        yield
    except BanscanError as error:
        raise type(error)(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    except UnreadableError as error:
        raise ModelError(f"{path}: {error}") from error
    except (RuntimeError, ValueError, IndexError, KeyError, TypeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # an error of TorchScript's interpreter says last what it is, one of its compiler first
        reason = (lines[-1] if "interpreter" in lines[0] else lines[0]) if lines else type(error).__name__
        raise ModelError(f"{path}: not a TorchScript model that can be read ({reason}); export it again with torch.jit.trace") from error


TORCHSCRIPT = Format(
    name=NAME,
    suffixes=(".pt", ".ts", ".torchscript"),
    recognises=lambda path: archive.kind(path) == NAME,
    read=read,
    look=look,
    examine=examine,
    runtime=NAME,
    run=run,
    write=write,
)
