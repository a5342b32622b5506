"""torch.export archive (.pt2) → TracedModel: the graph is read from its JSON and the weights from their bytes.

PyTorch's own loader unpickles and evaluates expressions; neither is needed for a classifier, and neither is done here. There is thus no
second runtime to compare with.
"""

import zipfile
from pathlib import Path

from banscan.errors import BanscanError, ModelError
from banscan.importers.digest import sha256
from banscan.importers.format import Format
from banscan.importers.model import Input, Source, TracedModel
from banscan.importers.normal.input import image_input
from banscan.importers.normal.normalise import normalise
from banscan.importers.normal.trace import export
from banscan.importers.pytorch import archive
from banscan.importers.pytorch.program import Program

NAME = "torch.export"


def read(path: Path, size: tuple[int, int] | None, logits: str | None) -> TracedModel:
    """Reads a torch.export archive with one program; `size` is for images whose size it leaves free.

    Raises:
        UsageError: `logits` names an output.
        ModelError: the archive is refused or damaged, or holds no image classifier that can be traced with any batch.
    """
    archive.check_unnamed(path, logits)
    try:
        with zipfile.ZipFile(path) as opened:
            archive.check_members(path, opened)
            program = Program(opened)
    except BanscanError as error:
        raise ModelError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, AttributeError, StopIteration, OSError) as error:
        raise ModelError(f"{path}: a damaged torch.export archive ({type(error).__name__}: {error}); export it again") from error
    spec = _input(path, program).sized(size)
    traced = export(path, program, spec.example())
    source = Source(path, NAME, f"PyTorch {program.version}", None, sha256(path), None)
    return normalise(traced, spec, source)


def _input(path: Path, program: Program) -> Input:
    sizes = [s.get("as_int") for s in program.sizes]
    if len(sizes) != 4:
        raise ModelError(f"{path}: the input has {len(sizes)} axes; expected one batch of images [N, channels, height, width]")
    return image_input(path, program.image, sizes[1:])


EXPORTED = Format(name=NAME, suffixes=(".pt2",), recognises=lambda path: archive.kind(path) == NAME, read=read)
