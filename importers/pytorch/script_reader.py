"""The child process that opens a TorchScript file, under limits on memory, time and file size.

python -m banscan.importers.pytorch.script_reader read MODEL OUT     the graph as plain lists and tensors
python -m banscan.importers.pytorch.script_reader run MODEL IMAGES   its own answers; IMAGES is replaced by them
python -m banscan.importers.pytorch.script_reader write MODEL OUT    OUT, values by name, is replaced by the model with these in its weights

MODEL is the archive that `plain` wrote. Nothing of its code runs while it is read or written. Running it, to compare, happens here only, and
only after every operator in its graph was looked at.
"""

import contextlib
import resource
import sys
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from banscan.importers.pytorch import graph
from banscan.importers.pytorch.graph import UnreadableError

SECONDS = 300
# beside twice the file: torch itself maps a few GB
MEMORY = 16 << 30
# how this process ends when it refuses the file and its message is the whole sentence
REFUSED = 3
# images that are asked again, so many at once; by how much an answer may differ then, of the largest (16 bits: more)
AGAIN, TOLERANCE, COARSE = (1, 2, 3), 1e-3, 5e-2


def main(mode: str, model: Path, other: Path) -> None:
    """Reads, runs or writes one model."""
    limit(model.stat().st_size)
    unit: Any = torch._C.CompilationUnit()
    load: Any = torch._C.import_ir_module
    module = load(unit, str(model), torch.device("cpu"), {}, "model/traced_inputs.pkl" in zipfile.ZipFile(model).namelist())
    graph.check(unit, module)
    script: Any = torch.jit._recursive.wrap_cpp_module(module)
    if mode == "write":
        replace(script, torch.load(other, weights_only=True))
        script.save(str(other))
        carry(model, other)
        return
    script.eval()
    if mode == "run":
        images, place = torch.load(other, weights_only=True)
        torch.save(answers(module, images, place), other)
    else:
        torch.save(graph.read(module), other)


@torch.no_grad()
def answers(module: Any, images: Tensor, place: list[str]) -> Tensor:
    """What the module answers; a few images are asked again, fewer at once, since the batch must not decide what it computes.

    Raises:
        UnreadableError: it does.
    """
    forward = module._get_method("forward")
    kind = graph.image_type(module)
    given = (images if kind.is_floating_point else images.round()).to(kind)
    given = given.flatten(1) if graph.flat(module) else given

    def ask(part: Tensor) -> Tensor:
        return _taken(forward(part), place).float()

    result = torch.cat([ask(part) for part in given.split(64)])
    few = given[: sum(AGAIN)]
    again = {f"on images {size} at a time": [ask(part) for part in few.split(size)] for size in AGAIN}
    with torch.enable_grad():
        again["while gradients are recorded"] = [ask(few).detach()]
    scale = float(result.abs().max()) if result.numel() else 0.0
    for how, parts in again.items():
        difference = float((torch.cat(parts) - result[: len(few)]).abs().max()) if len(few) else 0.0
        if difference > (TOLERANCE if kind.itemsize > 2 or not kind.is_floating_point else COARSE) * scale:
            raise UnreadableError(f"it answers differently {how}; a classifier must answer each image by itself")
    return result


def replace(script: Any, values: dict[str, Tensor]) -> None:
    """Puts values into parameters and buffers, in their own types."""
    known = {**dict(script.named_parameters()), **dict(script.named_buffers())}
    with torch.no_grad():
        for name, value in values.items():
            if name not in known:
                raise UnreadableError(f"the weight {name!r} is part of its code; save it without torch.jit.freeze")
            known[name].copy_(value.reshape(known[name].shape))


def carry(before: Path, after: Path) -> None:
    """What saving again leaves out: the shapes that the file was traced with, and files that its author added."""
    with zipfile.ZipFile(before) as old, zipfile.ZipFile(after, "a", zipfile.ZIP_STORED) as new:
        root = new.namelist()[0].partition("/")[0]
        present = {name.partition("/")[2] for name in new.namelist()}
        for name in old.namelist():
            own = name.partition("/")[2]
            if own not in present and own.startswith(("traced_inputs", "extra/")):
                new.writestr(f"{root}/{own}", old.read(name))


def limit(size: int) -> None:
    """Sets what this process may use at most."""
    for kind, most in (
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_AS, MEMORY + 4 * size),
        (resource.RLIMIT_FSIZE, 2 * size + (1 << 30)),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(ValueError, OSError):  # a stricter limit of the system's stays
            resource.setrlimit(kind, (most, most))


def _taken(value: Any, place: list[str]) -> Tensor:
    """The output at a place: indices of tuples and lists, keys of dictionaries, from the outside in."""
    for step in place:
        value = value[step if isinstance(value, dict) else int(step)]
    if not isinstance(value, Tensor):
        raise UnreadableError("its output is no tensor")
    return value


if __name__ == "__main__":
    try:
        main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
    except UnreadableError as error:
        sys.stderr.write(str(error))
        sys.exit(REFUSED)
    except (RuntimeError, MemoryError, ValueError, OSError) as error:
        lines = [line for line in str(error).strip().splitlines() if line.strip()]
        sys.exit(lines[-1] if lines else type(error).__name__)
