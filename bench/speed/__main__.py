"""Times the search and the whole detection beside other ways to write them; appends rows, so that a run that was stopped goes on.

python -m bench.speed                         on a CPU, networks of 1/4 width
python -m bench.speed --device cuda           on a GPU, full width, under 8 minutes
python -m bench.speed --part search --small   one part of it, on small networks and few images: does it run?
python -m bench.speed --print                 the tables from the rows alone
"""

import os
import platform
import sys
import traceback
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import torch

from banscan.kernels import backend
from banscan.scanner.facts import environment
from banscan.scanner.machine import allocator
from banscan.scanner.machine.device import find, repeatable
from banscan.scanner.settings import Settings
from bench import rows
from bench.speed import cells, convolution, machine, page, verdicts
from bench.speed.subject import subject
from bench.speed.switches import switched
from bench.speed.table import tables

RESULTS = Path("bench/results/speed.jsonl")
NETWORKS = {
    "resnet18-10": ("resnet18", 32, 10),
    "resnet18-43": ("resnet18", 32, 43),
    "resnet18-200": ("resnet18", 32, 200),
    "vgg16": ("vgg16", 32, 43),
    "densenet121": ("densenet121", 32, 43),
    "resnet18-64": ("resnet18", 64, 200),
    "resnet18-224": ("resnet18", 224, 200),
}
# the first one is shown first, and is asked by every contender
MAIN = "resnet18-43"
WIDTH = {"cpu": 16, "cuda": 64}
# restarts; images of a step. (a) does one restart after the other, so that its time grows with them exactly
RESTARTS, IMAGES, STEPS = (1, 8, 32), 64, 2
DETECTED = 430
# images of a step beside IMAGES; networks of the same size with more and more classes
SERIES = (25, 250, 1000)
CLASSES = ("resnet18-10", "resnet18-43", "resnet18-200")
# what is worth most comes first, where time is short
PARTS = ("examples", "search", "detection", "classes", "networks", "convolutions", "compiled")
# with tiles that are measured on the GPU, and with what is behind a convolution inside of it as well
TUNED = {"tuned": "apart", "fused": "fused"}
# a rehearsal: width, most images and restarts, and a scan that does a little of everything
SMALL_WIDTH, SMALL_IMAGES, SMALL_RESTARTS = 4, 64, 2
# images where Triton's interpreter does the work
INTERPRETED = 8
SMALL_SCAN = Settings(steps=1, images=16, targets=8)


@dataclass(frozen=True)
class Cell:
    """One row to be: a network, a contender, and how much it does."""

    what: str
    network: str
    contender: str
    layers: str
    dtype: str
    restarts: int
    images: int

    @property
    def key(self) -> tuple[Any, ...]:
        return tuple(vars(self).values())

    @property
    def part(self) -> str:
        """One of PARTS."""
        if self.what in ("verdict", "scan"):
            return "examples"
        if self.contender == "compiled":
            return "compiled"
        if self.what == "convolution" or self.contender in TUNED:
            return "convolutions"
        if self.what != "search":
            return self.what
        return "search" if self.network == MAIN else "networks"


def planned(kind: str, *, small: bool = False) -> list[Cell]:
    """The cells of a CPU or a GPU, part by part; `small` does as much of each as a rehearsal needs."""
    found = _every(kind)
    # for a rehearsal on a CPU there is Triton's interpreter, which has to be asked for before Triton is loaded
    if kind == "cuda" or (small and os.environ.get("TRITON_INTERPRET") == "1"):
        found += _convolutions(kind)
    if small:
        found = [replace(c, images=min(c.images, SMALL_IMAGES), restarts=min(c.restarts, SMALL_RESTARTS)) for c in found]
    return sorted(dict.fromkeys(found), key=lambda c: PARTS.index(c.part))


def _every(kind: str) -> list[Cell]:
    fast = "bfloat16"
    found = []
    for network in (n for n in NETWORKS if n != "resnet18-200"):
        # on a CPU a step on large images takes half a minute
        some = RESTARTS if network != "resnet18-224" else RESTARTS[:1] if kind == "cpu" else RESTARTS[:2]
        for where in ("deepest quarter", "all layers"):
            for restarts in some:
                if restarts != 32 or where == "deepest quarter" or kind == "cuda":
                    found += [Cell("search", network, "ours", where, dtype, restarts, IMAGES) for dtype in ("float32", fast)]
                if restarts == 1 or (restarts == 8 and network == MAIN):
                    found.append(Cell("search", network, "eager", where, "float32", restarts, IMAGES))
            if network == MAIN:
                found.append(Cell("search", network, "compiled", where, "float32", 8, IMAGES))
    for restarts in RESTARTS[: 2 if kind == "cpu" else 3]:
        found.append(Cell("search", "resnet18-10", "ours", "all layers", fast, restarts, 500))
    found += [Cell("search", MAIN, "ours", "deepest quarter", fast, 8, images) for images in SERIES]
    default = Settings()
    found += [Cell("classes", network, "ours", "deepest quarter", fast, default.restarts, DETECTED) for network in CLASSES]
    found.append(Cell("detection", "resnet18-10", "published", "all layers", "float32", 1, DETECTED))
    found += [Cell("detection", "resnet18-10", "ours", where, fast, restarts, DETECTED) for where in cells.LAYERS for restarts in (1, 4)]
    own = "cpu" if kind == "cpu" else "triton"
    for name in ("backdoored", "clean"):
        for kernels, dtype in ((own, fast), (own, "float32"), ("reference", "float32")):
            found.append(Cell("verdict", name, kernels, "deepest quarter", dtype, default.restarts, DETECTED))
        found.append(Cell("scan", name, own, "deepest quarter", fast, default.restarts, DETECTED))
    return found


def _convolutions(kind: str) -> list[Cell]:
    found, images = [], IMAGES if kind == "cuda" else INTERPRETED
    for dtype, form in (("bfloat16", "normalised"), ("bfloat16", "Eq. 3"), ("float32", "normalised")):
        some = list(convolution.LAYERS)[: None if dtype == "bfloat16" else 2]
        found += [Cell("convolution", layer, who, form, dtype, 8, images) for layer in some for who in ("ours", *TUNED)]
    for where in list(cells.LAYERS)[: None if kind == "cuda" else 1]:
        found += [Cell("search", MAIN, who, where, "bfloat16", 8, images) for who in TUNED]
    return found


def work(cell: Cell, width: int, device: torch.device) -> cells.Work:
    if cell.what == "convolution":
        layer, dtype = convolution.LAYERS[cell.network], getattr(torch, cell.dtype)
        small = width == SMALL_WIDTH
        return convolution.forward(layer, cell.layers, dtype, cell.restarts, cell.images, device, small=small)
    network = subject(*NETWORKS[cell.network], width, device)
    dtype = getattr(torch, cell.dtype)
    if cell.what == "detection":
        if cell.contender == "published":
            return cells.detection(network, cell.images)
        return cells.our_detection(network, cell.layers, dtype, cell.images, cell.restarts)
    if cell.what == "classes":
        return cells.every_class(network, cell.layers, dtype, cell.images)
    if cell.contender in ("ours", *TUNED):
        return cells.ours(network, cell.layers, dtype, cell.restarts, cell.images, STEPS)
    return cells.plain(network, cell.layers, cell.restarts, cell.images, STEPS, compiled=cell.contender == "compiled")


def measured(cell: Cell, width: int, device: torch.device, runs: int, settings: Settings, tiles: Path) -> dict[str, Any]:
    """One row: the seconds of every run behind one that warms up, and the most memory that a further one took.

    What is measured to choose tiles by is kept in the folder `tiles`.
    """
    if cell.part == "examples":
        settings = replace(settings, restarts=cell.restarts, pixels=cell.what == "scan")
        found = {}
        for _ in range(min(runs, 2)):
            found = verdicts.examined(cell.network, cell.contender, cell.dtype, str(device), settings, cell.images)
        return {**vars(cell), **found}
    # the others get torch as it is: on a GPU, faster float32 and algorithms that may differ from run to run
    with ExitStack() as ready:
        ready.enter_context(repeatable(device) if cell.contender in ("ours", *TUNED) else nullcontext())
        ready.enter_context(_kernels(cell, tiles))
        return _timed(cell, width, device, runs)


def _kernels(cell: Cell, tiles: Path) -> AbstractContextManager[None]:
    """The environment that a contender is timed in."""
    if cell.part != "convolutions":
        return nullcontext()
    tuned = cell.contender in TUNED
    # what nothing writes to has no answers
    place = tiles.absolute() / ("tiles" if tuned else "no tiles")
    how = {"BANSCAN_CONV": TUNED.get(cell.contender, "apart"), "BANSCAN_TUNE": "on" if tuned else "off"}
    return switched(BANSCAN_KERNELS="triton", **how, XDG_CACHE_HOME=str(place))


def _timed(cell: Cell, width: int, device: torch.device, runs: int) -> dict[str, Any]:
    todo = work(cell, width, device)
    seconds = machine.seconds(todo.run, 1 if cell.contender == "published" and device.type == "cpu" else runs, device)
    return {
        **vars(cell),
        "width": width,
        "steps": STEPS,
        "passes": todo.passes,
        "operations": todo.operations,
        "bytes": todo.bytes,
        "seconds": [round(s, 5) for s in seconds],
        "peak_bytes": machine.peak(todo.run, device),
    }


def stamp(device: torch.device) -> dict[str, Any]:
    """Hardware and versions; the rates that the machine reaches at most."""
    versions = {name: metadata.version(name) for name in ("triton",) if device.type == "cuda"}
    both = {name: machine.rates(getattr(torch, name), device) for name in ("float32", "bfloat16")}
    own = environment(torch.bfloat16, device)
    return {"commit": rows.commit(), "rates": both, "platform": platform.platform(), **versions, **own, "kernels": backend(device)}


@click.command()
@click.option("--device", "name", default="auto", show_default=True)
@click.option("--only", default="", help="Part of a network's name.")
@click.option("--part", type=click.Choice(PARTS), help="A part of the cells; all of them by default.")
@click.option("--small", is_flag=True, help="Little of everything, to see that it runs.")
@click.option("--runs", default=5, show_default=True)
@click.option("--commit", help="What is measured, where git cannot tell.")
@click.option("--threads", type=int, help="CPU threads.")
@click.option("--print", "only_print", is_flag=True, help="The tables from the rows that are there.")
@click.option("--doc", type=click.Path(path_type=Path), help="Write the tables to this page.")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(
    name: str,
    only: str,
    part: str | None,
    small: bool,
    runs: int,
    commit: str | None,
    threads: int | None,
    only_print: bool,
    doc: Path | None,
    out: Path,
) -> None:
    """Append a row for every cell that OUT does not have for this machine and commit, and print the tables.

    A cell that fails is told and left out; the others are measured, and the exit code is 1.
    """
    failed = 0
    if not only_print:
        torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
        device = find(name)
        allocator.keep(device)  # for every contender
        here = stamp(device) | ({"commit": commit} if commit else {})
        known = {
            tuple(r[f] for f in Cell.__annotations__)
            for r in rows.read(out)
            if here["commit"] != "unknown" and all(r["machine"][f] == here[f] for f in ("commit", "processor", "threads"))
        }
        every = planned(device.type, small=small)
        if part is not None and part not in {cell.part for cell in every}:
            raise click.ClickException(f"--part {part} needs a GPU; rehearse with --small and TRITON_INTERPRET=1")
        for cell in every:
            if only not in cell.network or part not in (None, cell.part) or cell.key in known:
                continue
            told = " ".join(map(str, cell.key))
            try:
                width, settings = (SMALL_WIDTH, SMALL_SCAN) if small else (WIDTH[device.type], Settings())
                row = measured(cell, width, device, runs, settings, out.parent)
            except Exception:
                click.echo(f"{told}: failed\n{traceback.format_exc()}", err=True)
                failed += 1
                continue
            rows.append(out, {**row, "machine": here})
            click.echo(f"{told}: {min(row['seconds']):.3f} s", err=True)
    if doc is None:
        click.echo(tables(rows.read(out)))
    else:
        page.write(doc, out.with_name("whole.jsonl"), out)
    sys.exit(min(failed, 1))


if __name__ == "__main__":
    main()
