"""Where a repair stands after an epoch, in a file beside its output: a repair that was stopped goes on from there."""

import json
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from banscan.errors import UsageError
from banscan.files import whole
from banscan.scanner.inputs.images import CleanSet, digest
from banscan.scanner.repair.course import Losses
from banscan.scanner.repair.job import Job
from banscan.scanner.repair.trainable import State
from banscan.scanner.search.patch import Patches
from banscan.version import __version__


def key(job: Job, clean: CleanSet) -> str:
    """What a checkpoint must agree on to be gone on from."""
    aims = None if job.aims is None else job.aims.tolist()
    source, images = job.model.source, digest(clean.images, job.labels)
    return json.dumps([__version__, source.sha256, source.output, asdict(job.preprocess), job.method, asdict(job.how), aims, images])


def keep(path: Path, key: str, state: State, losses: Losses) -> None:
    """Writes the state after an epoch; it is under its name only when it is whole."""
    arrays = {"key": np.array(key), "losses": np.array(losses)}
    arrays |= {f"values/{name}": value.numpy(force=True) for name, value in state.values.items()}
    arrays |= {f"momenta/{name}": value.numpy(force=True) for name, value in state.momenta.items()}
    arrays |= {} if state.pixels is None else {"pixels": state.pixels.numpy(force=True)}
    arrays |= {} if state.patches is None else {f"patches/{f.name}": getattr(state.patches, f.name).numpy() for f in fields(Patches)}
    with whole(path) as place, place.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def resume(path: Path, key: str, device: torch.device) -> tuple[State, Losses] | None:
    """Where an earlier run of the same repair stopped, on this device; None where there was none.

    Raises:
        UsageError: the file is no checkpoint, or that of another repair.
    """
    if not path.exists():
        return None
    if not path.is_file():
        raise UsageError(f"{path}: not the checkpoint of a repair (it is no file); remove it")
    own, losses, arrays = _read(path)
    if own != key:
        raise UsageError(
            f"{path}: left by a repair of another model, or with other images or settings; finish that one, or remove the file"
        )

    def named(kind: str) -> dict[str, Tensor]:
        return {name.removeprefix(kind): value for name, value in arrays.items() if name.startswith(kind)}

    values, momenta = ({name: value.to(device) for name, value in named(kind).items()} for kind in ("values/", "momenta/"))
    pixels = arrays["pixels"].to(device) if "pixels" in arrays else None
    patches = named("patches/")
    return State(values, momenta, len(losses), pixels, Patches(**patches) if patches else None), losses


def _read(path: Path) -> tuple[str, Losses, dict[str, Tensor]]:
    """The key of a checkpoint, the losses, and the arrays of the state by name."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
            losses = [(float(clean), float(noisy)) for clean, noisy in data["losses"]]
            return str(data["key"]), losses, {name: torch.from_numpy(data[name]) for name in data.files if name != "key"}
    except Exception as error:  # numpy, zipfile and what unpacks for them have each their own
        raise UsageError(f"{path}: not the checkpoint of a repair ({error}); remove it") from error
