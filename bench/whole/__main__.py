"""Times whole scans as processes, at the sizes that people have, beside another version; appends rows, so that a stopped run goes on.

python -m bench.whole                                        the examples and a ResNet18 for 32x32 images: half an hour on two cores
python -m bench.whole --sizes large --beside d99a411         networks for 224x224 images, too, and version 0.1.0 beside this one
python -m bench.whole --sizes gpu --device cuda              all of them
python -m bench.whole --only resnet50 -- --no-pixels         what stands behind -- is for banscan, of this checkout alone
python -m bench.whole --print                                the tables from the rows alone
"""

import json
import os
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import torch

from banscan.importers import sha256
from banscan.scanner import facts
from banscan.scanner.machine.device import find
from bench import child, rows
from bench.speed import page
from bench.whole.subjects import GPU, LARGE, SMALL, SUBJECTS, Subject, build, small
from bench.whole.table import FAILED, UNFINISHED, tables
from bench.whole.trees import Tree, trees

RESULTS, MADE = Path("bench/results/whole.jsonl"), Path("build/whole")
SIZES = (SMALL, LARGE, GPU)
# seconds after which a scan is ended; 0.1.0 takes an hour and more at 224x224 pixels
LIMIT = 4 * 3600


@dataclass(frozen=True)
class How:
    """How scans are run: CPU threads, the device, seconds after which one is ended, and the options of this checkout's banscan."""

    threads: int
    device: str
    limit: float
    options: tuple[str, ...]

    def given(self, tree: Tree) -> list[str]:
        """The options that this version is given; another one may not know them."""
        return [] if tree.beside else list(self.options)

    def machine(self) -> dict[str, Any]:
        """What tells machines apart."""
        where = find(self.device)
        name = torch.cuda.get_device_name(where) if where.type == "cuda" else facts.processor()
        return {"device": str(where), "processor": name, "threads": self.threads, "torch": metadata.version("torch")}


def timed(subject: Subject, folder: Path, tree: Tree, how: How) -> dict[str, Any]:
    """One scan, from the start of its process to its end: what it took and what it says."""
    model, images = (place.absolute() for place in subject.places(folder))
    load = os.getloadavg()[0]
    with TemporaryDirectory() as scratch:
        out = Path(scratch) / "report.json"
        asked = ["--clean-dir", str(images), "--threads", str(how.threads), "--device", how.device, "--format", "json", "-o", str(out)]
        command = [sys.executable, "-m", "banscan", str(model), *asked, *how.given(tree)]
        ended = child.run(command, how.limit, tree.folder, tree.environment)
        report = json.loads(out.read_text()) if ended.code is not None and out.exists() else None
    row: dict[str, Any] = {
        "subject": subject.name,
        "sha256": sha256(model),
        "beside": tree.beside,
        "commit": tree.commit,
        "options": how.given(tree),
        "machine": how.machine(),
        "load": round(load, 2),
        "limit": how.limit,
        "exit": ended.code,
        "seconds": round(ended.seconds, 2),
        # the larger of two views: what all processes have together is looked at every second, the largest one is known exactly
        "peak_mb": max(ended.peak_mb, ended.together_mb),
    }
    if report is None:
        failed = {"outcome": FAILED, "reason": ended.last}
        return row | ({"outcome": UNFINISHED, "reason": f"ended after {how.limit:.0f} s"} if ended.code is None else failed)
    verdict, environment = report["verdict"], report["environment"]
    return row | {
        **{name: verdict[name] for name in ("outcome", "score", "reason")},
        "images": report["images"]["used"],
        "stages": report["seconds"],
        "memory": report.get("memory", {}),
        "version": environment["banscan"],
        "precision": environment["search precision"],
    }


def known(found: list[dict[str, Any]], subject: Subject, tree: Tree, how: How) -> list[dict[str, Any]]:
    """The rows of this subject and version, on this machine with these options; of a commit that nobody can name none counts."""
    asked = {"subject": subject.name, "commit": tree.commit, "options": how.given(tree), "machine": how.machine()}
    return [r for r in found if tree.commit != "unknown" and all(r[k] == v for k, v in asked.items()) and r["outcome"] != FAILED]


def due(found: list[dict[str, Any]], runs: int, limit: float) -> bool:
    """Whether one more run is wanted, behind these: one that met a limit stands for all, unless there is more time now."""
    late = [r for r in found if r["outcome"] == UNFINISHED]
    return len(found) - len(late) < runs and all(r["limit"] < limit for r in late)


def measured(subject: Subject, folder: Path, versions: tuple[Tree, ...], how: How, runs: int, out: Path) -> int:
    """Appends the rows that are missing, the versions in turn; how many scans failed."""
    failed = 0
    for _ in range(runs):
        for tree in versions:
            if not due(known(rows.read(out), subject, tree, how), runs, how.limit):
                continue
            row = timed(subject, folder, tree, how)
            rows.append(out, row)
            failed += row["outcome"] == FAILED
            click.echo(f"{subject.name}, {row['commit']}: {row['outcome']} after {row['seconds']:.1f} s, {row['peak_mb']} MB", err=True)
            if row["outcome"] == FAILED:
                click.echo(row["reason"], err=True)
    return failed


@click.command()
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@click.option("--sizes", type=click.Choice(SIZES), default=SMALL, show_default=True, help="Each with those before it.")
@click.option("--only", default="", help="Part of a subject's name.")
@click.option("--runs", default=3, show_default=True)
@click.option("--threads", default=2, show_default=True, help="CPU threads.")
@click.option("--device", default="cpu", show_default=True)
@click.option("--beside", metavar="COMMIT", help="Time the files of this commit, too.")
@click.option("--limit", default=LIMIT, show_default=True, help="Seconds after which a scan is ended.")
@click.option("--commit", help="What is measured, where git cannot tell.")
@click.option("--subjects", type=click.Path(path_type=Path), default=MADE, show_default=True, help="Where they are made, or were.")
@click.option("--small", "rehearsal", is_flag=True, help="Narrow networks and few images, to see that it runs.")
@click.option("--build", "only_build", is_flag=True, help="Make the subjects, and time nothing.")
@click.option("--print", "only_print", is_flag=True, help="The tables from the rows that are there.")
@click.option("--doc", type=click.Path(path_type=Path), help="Write the tables to this page.")
@click.option("--out", type=click.Path(path_type=Path), default=RESULTS, show_default=True)
def main(
    options: tuple[str, ...],
    sizes: str,
    only: str,
    runs: int,
    threads: int,
    device: str,
    beside: str | None,
    limit: float,
    commit: str | None,
    subjects: Path,
    rehearsal: bool,
    only_build: bool,
    only_print: bool,
    doc: Path | None,
    out: Path,
) -> None:
    """Append the rows that OUT does not have of this machine, commit and options, and print the tables; exit code 1 if a scan failed."""
    failed = 0
    if rehearsal and out == RESULTS:
        raise click.UsageError("--small: these are no measurements; give an --out of their own")
    if not only_print:
        chosen = [s for s in SUBJECTS if SIZES.index(s.where) <= SIZES.index(sizes) and only in s.name]
        if rehearsal:
            chosen, subjects = [small(s) for s in chosen], subjects / "small"
        torch.set_num_threads(threads)
        for subject in chosen:
            build(subject, subjects, find(device))
        if not only_build:
            with trees(commit, beside) as versions:
                failed = sum(measured(s, subjects, versions, How(threads, device, limit, options), runs, out) for s in chosen)
    if doc is None:
        click.echo(tables(rows.read(out)))
    else:
        page.write(doc, out, out.with_name("speed.jsonl"))
    sys.exit(min(failed, 1))


if __name__ == "__main__":
    main()
