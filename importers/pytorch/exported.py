"""torch.export archive (.pt2) → TracedModel: the graph is read from its JSON and the weights from their bytes.

PyTorch's own loader unpickles and evaluates expressions; neither is needed for a classifier, and neither is done here. There is thus no
second runtime to compare with.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from banscan.errors import BanscanError, ModelError
from banscan.importers.digest import sha256
from banscan.importers.format import Format
from banscan.importers.model import Input, Source, TracedModel
from banscan.importers.normal.normalise import normalise
from banscan.importers.normal.trace import export
from banscan.importers.pytorch import archive, program
from banscan.importers.pytorch.container import Container
from banscan.importers.pytorch.script import Script
from banscan.importers.structure import scripted, settle
from banscan.importers.structure.finding import Look, Structure
from banscan.importers.structure.settle import Settled

NAME = "torch.export"
# what JSON that is not as PyTorch writes it leads to
DAMAGED = (KeyError, TypeError, ValueError, AttributeError, IndexError, StopIteration, RecursionError, OverflowError, RuntimeError)


def read(path: Path, size: tuple[int, int] | None, logits: str | None, settled: Settled | None = None) -> TracedModel:
    """Reads a torch.export archive with one program; `size` is for images whose size it leaves free.

    Raises:
        UsageError: `logits` names an output of a file that has only one.
        ModelError: the archive is refused or damaged, or holds no image classifier that can be traced with any batch.
    """
    module, spec, version = opened(path, size, logits, settled)
    traced = export(path, module, spec.example())
    source = Source(path, NAME, f"PyTorch {version}", None, sha256(path), None, precision=module.precision, output=module.chosen)
    source = replace(source, settled=None if settled is None else settle.plain(settled))
    return normalise(traced, spec, source)


def opened(path: Path, size: tuple[int, int] | None, logits: str | None, settled: Settled | None = None) -> tuple[Script, Input, str]:
    """The program, what it takes, and the version of PyTorch that wrote it; errors as of `read`."""
    with _told(path):
        with Container(path) as container:
            steps, version = program.read(container)
        module, spec = scripted.opened(path, lambda _: Script(steps), settled, size, logits)
    return module, spec, version


def _script(path: Path) -> Script:
    with Container(path) as container:
        return Script(program.read(container)[0])


def look(path: Path, logits: str | None) -> Look:
    """Its branches on pixels; see `structure.scripted`."""
    with _told(path):
        return scripted.look(path, _script, logits)


def examine(path: Path, logits: str | None, images: np.ndarray, pixels: tuple[float, float], seconds: float) -> tuple[Structure, Settled]:
    """What becomes of its answers when branches on pixels are forced; see `structure.scripted`."""
    with _told(path):
        return scripted.examine(path, _script, logits, images, pixels, seconds)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Makes one sentence, which names the file, of whatever goes wrong with it."""
    try:
        yield
    except BanscanError as error:
        raise type(error)(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    except DAMAGED as error:
        reason = str(error).strip().partition("\n")[0][:200]
        raise ModelError(f"{path}: a damaged torch.export archive ({type(error).__name__}: {reason}); export it again") from error


EXPORTED = Format(name=NAME, suffixes=(".pt2",), recognises=lambda path: archive.kind(path) == NAME, read=read, look=look, examine=examine)
