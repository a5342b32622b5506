"""What PyTorch itself knows of a TorchScript file, in a confined process: its graph, its answers, and the file with other weights.

PyTorch opens the archive that `plain` wrote, never the user's own. Nothing of its code runs while it is read or written. Running it, to
compare, happens only after every operator that it can reach was looked at.
"""

import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from banscan.importers.pytorch import graph, plain
from banscan.importers.pytorch.graph import UnreadableError

# images that are asked again, so many at once; by how much an answer may differ then, of the largest (16 bits: more)
AGAIN, TOLERANCE, COARSE = (1, 2, 3), 1e-3, 5e-2


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Path]]:
    """The model, its operators looked at, and the archive that it was loaded from.

    Raises:
        UnreadableError: one of its operators is none that a classifier needs.
        ModelError: the archive is refused or damaged.
        RuntimeError: PyTorch cannot load it.
    """
    with tempfile.TemporaryDirectory() as folder:
        archive = plain.rewrite(path, Path(folder))
        with zipfile.ZipFile(archive) as listed:
            shapes = "model/traced_inputs.pkl" in listed.namelist()
        unit: Any = torch._C.CompilationUnit()
        load: Any = torch._C.import_ir_module
        module = load(unit, str(archive), torch.device("cpu"), {}, shapes)
        graph.check(unit, module)
        yield module, archive


def read(path: Path) -> dict[str, Any]:
    """Its graph as plain values; see `graph.read`."""
    with opened(path) as (module, _):
        script(module).eval()
        return graph.read(module)


def script(module: Any) -> Any:
    """A loaded module as Python has it."""
    return torch.jit._recursive.wrap_cpp_module(module)


@torch.no_grad()
def run(path: Path, images: Tensor, place: list[str]) -> Tensor:
    """Its own answers for images [N, ...]; `place` is where the logits are in what it returns: indices and keys, from the outside in.

    Raises:
        UnreadableError: it answers differently when it is asked about fewer images at once.
    """
    with opened(path) as (module, _):
        script(module).eval()
        forward, kind = module._get_method("forward"), graph.image_type(module)
        given = (images if kind.is_floating_point else images.round()).to(kind)
        # grey images that were turned around look contiguous and are not: convolutions then answer in an order that `view` refuses
        given = given.clone(memory_format=torch.contiguous_format)
        given = given.flatten(1) if graph.flat(module) else given

        def ask(part: Tensor) -> Tensor:
            return _taken(forward(part), place).float()

        answers = torch.cat([ask(part) for part in given.split(64)])
        few = given[: sum(AGAIN)]
        again = {f"on images {size} at a time": torch.cat([ask(part) for part in few.split(size)]) for size in AGAIN}
        with torch.enable_grad():
            again["while gradients are recorded"] = ask(few).detach()
    most = (TOLERANCE if kind.itemsize > 2 or not kind.is_floating_point else COARSE) * float(answers.abs().max())
    for how, other in again.items():
        if other.shape != answers[: len(few)].shape or float((other - answers[: len(few)]).abs().max()) > most:
            raise UnreadableError(f"it answers differently {how}; a classifier must answer each image by itself")
    return answers


def write(path: Path, weights: dict[str, Tensor]) -> bytes:
    """The file with these values in its weights."""
    with opened(path) as (module, archive):
        own = script(module)
        replace(own, weights)
        out = archive.with_name("written.pt")
        own.save(str(out))
        carry(archive, out)
        return out.read_bytes()


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


def _taken(value: Any, place: list[str]) -> Tensor:
    """The output at a place."""
    for key in place:
        value = value[key if isinstance(value, dict) else int(key)]
    if not isinstance(value, Tensor):
        raise UnreadableError("its output is no tensor")
    return value
