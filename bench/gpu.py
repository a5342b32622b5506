"""What only a GPU can tell, with the Python that is there: kernel tests, scans, the rows of docs/speed.md; 8 minutes, all of it 25.

python -m bench.gpu --commit 1a2b3c4                on a GPU; the commit where git cannot tell it
python -m bench.gpu --device cpu --out DIR          the same steps on little work: a rehearsal

Needs torch, triton, onnx, onnxruntime, numpy, scipy, pillow, click, rich and pytest; installs nothing, asks no network. Each step is a
process with a limit of its own, what is worth most comes first, and a step that fails or hangs stops no other. Its result is in
OUT/gpu.jsonl before the next one begins, what was timed in OUT/speed.jsonl and OUT/whole.jsonl and, as a page, in docs/speed.md (elsewhere
than in bench/results: OUT/speed.md). Whole scans of large networks come last: with more MINUTES they are reached.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from bench import rows

ROOT = Path(__file__).parent.parent
RESULTS, REHEARSAL = Path("bench/results"), Path("build/rehearsal")
MINUTES = 8.0
# lines of a step's output that its row keeps
LAST, LAST_OF_FAILURE = 3, 200
# no step is worth beginning with less
SECONDS = 5
# seconds of the parts of bench.speed; their order is that of worth
PARTS = {"examples": 150, "search": 60, "detection": 60, "classes": 60, "networks": 120, "convolutions": 120, "compiled": 90}
# seconds for making the subjects of bench.whole and for one scan of each
WHOLE = {
    "backdoored": 60,
    "clean": 60,
    "resnet18-32-43": 60,
    "resnet18-32-10": 60,
    "resnet50-224-100": 150,
    "mobilenetv2-224-100": 120,
    "mobilenetv2-384-100": 150,
    "vits16-224-100": 120,
    "resnet50-224-1000": 240,
}


@dataclass(frozen=True)
class Step:
    """A process: arguments of Python, how long it may take when all may take MINUTES, the exit code that it must have.

    `interpreted` has Triton's kernels run in its interpreter, which needs no GPU.
    """

    name: str
    arguments: tuple[str, ...]
    seconds: int
    expected: int = 0
    interpreted: bool = False


def steps(device: str, out: Path, page: Path, commit: str) -> Iterator[Step]:
    """All of them in order of worth; on a CPU with little work each."""
    small = device == "cpu"
    here = f"import torch; from banscan.scanner import facts; print(facts.environment(torch.bfloat16, torch.device({device!r})))"
    yield Step("machine", ("-c", here), 60)
    # on a CPU the kernels run in Triton's interpreter, and what needs a GPU is skipped; what is compiled ahead of time needs none
    ahead = "--ignore=tests/kernels/test_compiled.py"
    yield Step("kernels", ("-m", "pytest", "tests/kernels", ahead, *(("-m", "not slow") if small else ())), 150)
    yield Step("tests that need a GPU", ("-m", "pytest", "-m", "gpu", "-rs"), 90)
    for name, code in (("backdoored", 1), ("clean", 0)):
        scan = ("-m", "banscan", f"examples/{name}.onnx", "--clean-dir", "examples/clean", "--device", device)
        yield Step(f"scan of {name}.onnx", (*scan, *(("--no-pixels", "--restarts", "2", "--steps", "2") if small else ())), 60, code)
    for part, seconds in PARTS.items():
        timed = ("-m", "bench.speed", "--device", device, "--part", part, "--out", str(out / "speed.jsonl"), "--doc", str(page))
        timed = (*timed, "--commit", commit, *(("--small", "--runs", "1") if small else ()))
        yield Step(f"speed: {part}", timed, seconds, interpreted=small and part == "convolutions")
    for name, seconds in WHOLE.items():
        scans = ("-m", "bench.whole", "--device", device, "--sizes", "gpu", "--only", name, "--runs", "1", "--commit", commit)
        more = ("--small", "--", "--dry-run") if small else ()
        yield Step(f"whole scan: {name}", (*scans, "--out", str(out / "whole.jsonl"), "--doc", str(page), *more), seconds)


def run(step: Step, limit: float) -> dict[str, Any]:
    """Runs a step, shows what it says, ends it and all that it started when its time is over."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        "PYTHONUNBUFFERED": "1",
        **({"TRITON_INTERPRET": "1"} if step.interpreted else {}),
        # warnings are errors in the tests: those of plugins that happen to be there must not be
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }
    begin, late, last = time.monotonic(), threading.Event(), deque[str](maxlen=LAST_OF_FAILURE)
    with subprocess.Popen(
        [sys.executable, *step.arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:

        def end() -> None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

        def out_of_time() -> None:
            late.set()
            end()

        timer = threading.Timer(limit, out_of_time)
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                click.echo(line, nl=False)
                last.append(line.rstrip("\n"))
            code = process.wait()
        finally:
            timer.cancel()
            end()
    passed = code == step.expected and not late.is_set()
    return {
        "step": step.name,
        "result": "passed" if passed else "out of time" if late.is_set() else "failed",
        "exit": code,
        "expected": step.expected,
        "seconds": round(time.monotonic() - begin, 1),
        "limit": round(limit, 1),
        "last": list(last)[-LAST if passed else -LAST_OF_FAILURE :],
    }


def every(todo: Iterator[Step], minutes: float, file: Path, stamp: dict[str, str]) -> list[dict[str, Any]]:
    """Runs the steps one after the other within some minutes; each one's result is in the file before the next begins."""
    begin, found = time.monotonic(), []
    for step in todo:
        limit = min(step.seconds * minutes / MINUTES, begin + 60 * minutes - time.monotonic())
        click.secho(f"\n== {step.name}, at most {max(limit, 0):.0f} s: python {' '.join(step.arguments)}", bold=True)
        row = {"step": step.name, "result": "left out", "seconds": 0.0} if limit < SECONDS else run(step, limit)
        click.echo(f"== {step.name}: {row['result']} after {row['seconds']:.1f} s")
        rows.append(file, {**row, **stamp})
        found.append(row)
    return found


def summary(found: list[dict[str, Any]]) -> str:
    """A line for each step, and how many passed."""
    lines = []
    for row in found:
        why = f", exit code {row['exit']} and not {row['expected']}" if row["result"] == "failed" else ""
        lines.append(f"{row['result']:11s}  {row['seconds']:6.1f} s  {row['step']}{why}")
    passed = sum(row["result"] == "passed" for row in found)
    return "\n".join([*lines, f"{passed} of {len(found)} steps passed in {sum(row['seconds'] for row in found):.0f} s"])


@click.command()
@click.option("--device", default="cuda", show_default=True, help="cuda, cuda:N, or cpu for a rehearsal.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help=f"Default: {RESULTS}, on a CPU {REHEARSAL}.")
@click.option("--minutes", default=MINUTES, show_default=True, help="For all steps together; what each may take grows with it.")
@click.option("--commit", default=rows.commit, help="What is measured.  [default: what git says]")
def main(device: str, out: Path | None, minutes: float, commit: str) -> None:
    """Run every step; exit code 1 if one of them did not pass, or no time was left for it."""
    out = (out or (REHEARSAL if device == "cpu" else RESULTS)).absolute()
    out.mkdir(parents=True, exist_ok=True)
    page = ROOT / "docs/speed.md" if out == ROOT / RESULTS else out / "speed.md"
    try:
        import torch
    except ImportError as error:
        raise click.ClickException(f"{sys.executable} has no torch: {error}; give another Python with make bench-gpu PYTHON=") from None
    if device != "cpu" and not torch.cuda.is_available():
        raise click.ClickException(f"torch {torch.__version__} sees no GPU here; rehearse with --device cpu")
    # whoever ends this process ends the step, too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    found = every(steps(device, out, page, commit), minutes, out / "gpu.jsonl", {"device": device, "commit": commit})
    click.echo(f"\n{summary(found)}")
    sys.exit(any(row["result"] != "passed" for row in found))


if __name__ == "__main__":
    main()
