"""torch.export archive (.pt2) → TracedModel: the graph is read from its JSON and the weights from their bytes.

PyTorch's own loader unpickles and evaluates expressions; neither is needed for a classifier, and neither is done here. There is thus no
second runtime to compare with.
"""

from pathlib import Path

from banscan.errors import BanscanError, ModelError
from banscan.importers.digest import sha256
from banscan.importers.format import Format
from banscan.importers.model import Input, Source, TracedModel
from banscan.importers.normal.normalise import normalise
from banscan.importers.normal.trace import export
from banscan.importers.pytorch import archive, program, trial
from banscan.importers.pytorch.container import Container
from banscan.importers.pytorch.script import Script

NAME = "torch.export"
# what JSON that is not as PyTorch writes it leads to
DAMAGED = (KeyError, TypeError, ValueError, AttributeError, IndexError, StopIteration, RecursionError, OverflowError, RuntimeError)


def read(path: Path, size: tuple[int, int] | None, logits: str | None) -> TracedModel:
    """Reads a torch.export archive with one program; `size` is for images whose size it leaves free.

    Raises:
        UsageError: `logits` names an output of a file that has only one.
        ModelError: the archive is refused or damaged, or holds no image classifier that can be traced with any batch.
    """
    module, spec, version = opened(path, size, logits)
    traced = export(path, module, spec.example())
    source = Source(path, NAME, f"PyTorch {version}", None, sha256(path), None, precision=module.precision, output=module.chosen)
    return normalise(traced, spec, source)


def opened(path: Path, size: tuple[int, int] | None, logits: str | None) -> tuple[Script, Input, str]:
    """The program, what it takes, and the version of PyTorch that wrote it; errors as of `read`."""
    try:
        with Container(path) as container:
            steps, version = program.read(container)
        module = Script(steps)
        spec = trial.image(path, module, size)
        trial.choose(path, module, spec, logits)
        trial.check_types(module, spec)
    except BanscanError as error:
        raise type(error)(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    except DAMAGED as error:
        reason = str(error).strip().partition("\n")[0][:200]
        raise ModelError(f"{path}: a damaged torch.export archive ({type(error).__name__}: {reason}); export it again") from error
    return module, spec, version


EXPORTED = Format(name=NAME, suffixes=(".pt2",), recognises=lambda path: archive.kind(path) == NAME, read=read)
