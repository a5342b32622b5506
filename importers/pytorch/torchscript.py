"""TorchScript file → TracedModel: a child process reads the graph, which is then recorded as an ATen graph with a free batch."""

import inspect
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from banscan.errors import BanscanError, ModelError
from banscan.importers.digest import sha256
from banscan.importers.format import Format
from banscan.importers.model import Source, TracedModel
from banscan.importers.normal.normalise import normalise
from banscan.importers.normal.trace import export
from banscan.importers.pytorch import archive, plain, trial
from banscan.importers.pytorch.script import Script

NAME = "TorchScript"
# seconds
TIMEOUT = 300
# how the child ends when its message is the whole sentence
REFUSED = 3


def read(path: Path, size: tuple[int, int] | None, logits: str | None) -> TracedModel:
    """Reads a TorchScript classifier, traced, scripted or frozen; `size` is for images whose size it leaves free.

    Raises:
        UsageError: `logits` names an output of a file that has only one.
        ModelError: the archive is refused or damaged, or holds no image classifier that can be traced.
    """
    try:
        module = Script(_child("read", path, None))
        spec = trial.image(path, module, size)
        trial.choose(path, module, spec, logits)
    except BanscanError as error:
        raise type(error)(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
    traced = export(path, module, spec.example())
    names = {attribute: name for name, attribute in module.attributes.items()}
    source = Source(path, NAME, "PyTorch", None, sha256(path), None, precision=module.precision, output=module.chosen, weights=names)
    return normalise(traced, spec, source)


def run(source: Source, images: np.ndarray) -> np.ndarray:
    """The file's own answer under TorchScript, in a process of its own, for float32 images [N, ...]."""
    place = [] if source.output is None else source.output.split(".")
    answers: Tensor = _child("run", source.path, (torch.from_numpy(images), place))
    return answers.numpy()


def write(source: Source, weights: dict[str, Tensor], path: Path) -> None:
    """Writes the file with other values in these of its weights, given by the file's own names, to `path`.

    Raises:
        ModelError: a weight that the file does not hold as one.
    """
    try:
        path.write_bytes(_child("write", source.path, weights))
    except BanscanError as error:
        raise ModelError(f"{source.path}: {str(error).removeprefix(f'{source.path}: ')}") from error


# an isolated Python takes nothing from the environment; a checkout that is not installed is found last, where this package lies
START = "import runpy, sys; sys.path.append(sys.argv.pop(1)); runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
HOME = Path(inspect.getfile(ModelError)).resolve().parents[1]


def _child(mode: str, path: Path, given: Any) -> Any:
    """What `script_reader` answers; it gets its own folder, with the archive written anew, and an environment without anything of the user's."""
    with tempfile.TemporaryDirectory(prefix="banscan-") as folder:
        model, other = plain.rewrite(path, Path(folder)), Path(folder) / "data"
        if given is not None:
            torch.save(given, other)
        reader = "banscan.importers.pytorch.script_reader"
        command = [sys.executable, "-I", "-W", "ignore", "-c", START, str(HOME), reader, mode, str(model), str(other)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=TIMEOUT, check=False, cwd=folder)
        except subprocess.TimeoutExpired:
            raise ModelError(f"reading it took more than {TIMEOUT} seconds; export the model as ONNX") from None
        if done.returncode != 0:
            lines = done.stderr.strip().splitlines()
            reason = lines[-1] if lines else f"its reader ended with {done.returncode}"
            if done.returncode == REFUSED:
                raise ModelError(reason)
            raise ModelError(f"not a TorchScript model that can be read ({reason}); export it again with torch.jit.trace")
        return other.read_bytes() if mode == "write" else torch.load(other, weights_only=True)


TORCHSCRIPT = Format(
    name=NAME,
    suffixes=(".pt", ".ts", ".torchscript"),
    recognises=lambda path: archive.kind(path) == NAME,
    read=read,
    runtime=NAME,
    run=run,
    write=write,
)
