"""The command line: `banscan MODEL --clean-dir DIR`, `banscan inspect MODEL`, `banscan calibrate`, `banscan repair`."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from banscan import __version__
from banscan.errors import BanscanError, UsageError
from banscan.files import whole

EXIT = {"no backdoor found": 0, "backdoored": 1, "suspicious": 2, "inconclusive": 2}
# a report piped to a file has no terminal to ask for its width
PLAIN_WIDTH = 100


class Commands(click.Group):
    """`scan` is what banscan does unless another command is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("--help", "--version"):
            args = ["scan", *args]
        return super().parse_args(ctx, args)


class Failure(click.ClickException):
    """A BanscanError as one line on stderr with its exit code."""

    def __init__(self, error: BanscanError) -> None:
        super().__init__(str(error))
        self.code = error.exit_code


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="banscan")
def commands() -> None:
    """Finds backdoors in image classifiers, from a model file and clean images.

    \b
    banscan MODEL --clean-dir DIR    scan (the same as: banscan scan MODEL ...)
    banscan inspect MODEL            show the layers that a scan would work on
    banscan calibrate ...            set the threshold by clean models of your own
    banscan repair MODEL ... -o FILE take the backdoor out

    \b
    Exit codes:
      0  no backdoor found       3  the file holds no image classifier
      1  backdoored              4  wrong usage, no such file
      2  inconclusive, suspicious or failed
    """


def _numbers(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    try:
        return None if value is None else tuple(float(v) for v in value.split(","))
    except ValueError:
        raise click.BadParameter("expected one number or three, separated by commas") from None


SEARCH = (
    click.option("--clean-dir", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Clean images: class folders or flat."),
    click.option("--labels", "table", type=click.Path(path_type=Path), metavar="FILE", help="CSV of file,label instead of class folders."),
    click.option(
        "--classes", "names", type=click.Path(path_type=Path), metavar="FILE", help="Class names, one a line, in the model's order."
    ),
    click.option("--max-images", default=500, show_default=True, type=click.IntRange(1), help="Read at most this many images."),
    click.option("--logits", metavar="NAME", help="The output that holds the logits, in an ONNX file with several."),
    click.option("--size", type=click.IntRange(1), help="Image size, where the model leaves it free."),
    click.option(
        "--preprocess", "name", default="auto", show_default=True, metavar="NAME", help="auto, unit, raw, signed, imagenet, cifar10, …"
    ),
    click.option("--mean", callback=_numbers, metavar="R,G,B", help="Own mean, after scaling."),
    click.option("--std", callback=_numbers, metavar="R,G,B", help="Own standard deviation."),
    click.option("--scale", type=float, help="Own factor on pixels 0 to 255."),
    click.option("--bgr", is_flag=True, help="Channels in BGR order."),
    click.option("--noise", default="normalised", show_default=True, metavar="FORM", help="normalised, or paper for Eq. 3 as printed."),
    click.option("--eps", type=float, help="Strength of the noise; by default the model decides."),
    click.option("--steps", type=int, help="PGD steps."),
    click.option("--restarts", type=int, help="Independent searches."),
    click.option(
        "--pixels/--no-pixels", default=True, show_default=True, help="Also search pixels; without, neuron noise and logits alone."
    ),
    click.option("--seed", default=0, show_default=True, help="Same seed, same device: same numbers."),
    click.option(
        "--precision", type=click.Choice(["auto", "float32", "bfloat16"]), default="auto", show_default=True, help="Of the search."
    ),
    click.option("--device", default="auto", show_default=True, metavar="NAME", help="auto (a GPU where there is one), cpu, cuda, cuda:N."),
    click.option("--threads", type=click.IntRange(1), help="CPU threads; by default OMP_NUM_THREADS, or all that this process may use."),
)


def _search_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What every command that scans has in common."""
    for option in reversed(SEARCH):
        command = option(command)
    return command


@commands.command(no_args_is_help=True)
@click.argument("model", type=click.Path(path_type=Path))
@_search_options
@click.option("--calibration", type=click.Path(path_type=Path), metavar="FILE", help="Threshold from your own clean models (calibrate).")
@click.option("--format", "format_", type=click.Choice(["terminal", "json"]), default="terminal", show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write the report there instead of to stdout.")
@click.option(
    "--fail-on", type=click.Choice(["backdoored", "suspicious"]), default="backdoored", show_default=True, help="Exit 1 from here on."
)
@click.option("--exit-zero", is_flag=True, help="Exit 0 whatever the verdict; failures keep their code.")
def scan(model: Path, clean_dir: Path, **options: Any) -> None:
    """Scan one model file for a backdoor."""
    with _failures():
        outcome = _scan(model, clean_dir, options)
    code = 1 if outcome == "suspicious" == options["fail_on"] else EXIT[outcome]
    sys.exit(0 if options["exit_zero"] else code)


def _scan(model: Path, clean_dir: Path, options: dict[str, Any]) -> str:
    output: Path | None = options["output"]
    _check_writable(output)
    # torch takes seconds to load: not for --help
    from banscan.scanner import calibration
    from banscan.scanner.report import json, terminal
    from banscan.scanner.scan import scan as run

    own = options["calibration"]
    against = None if own is None else calibration.load(own)
    with _bars() as progress:
        report = run(model, clean_dir, against=against, progress=progress, **_search_arguments(options))
    with _destination(output) as stream:
        if options["format_"] == "json":
            stream.write(json.render(report))
        else:
            terminal.show(report, _console(stream))
    return report.verdict.outcome


def _search_arguments(options: dict[str, Any]) -> dict[str, Any]:
    """The options of SEARCH as arguments of `scan.scan`; also sets the number of threads."""
    import torch

    from banscan.scanner.inputs import preprocess
    from banscan.scanner.machine import threads
    from banscan.scanner.settings import Settings

    if options["threads"] or "OMP_NUM_THREADS" not in os.environ:  # torch has taken that number already
        torch.set_num_threads(options["threads"] or threads.allowed())
    given = {key: options[key] for key in ("noise", "eps", "steps", "restarts", "seed", "pixels") if options[key] is not None}
    return {
        "settings": Settings(**given),
        "preprocessing": preprocess.named(
            options["name"], mean=options["mean"], std=options["std"], scale=options["scale"], bgr=options["bgr"]
        ),
        "names": options["names"],
        "table": options["table"],
        "size": options["size"],
        "limit": options["max_images"],
        "precision": options["precision"],
        "device": options["device"],
        "logits": options["logits"],
    }


@commands.command(no_args_is_help=True)
@click.option("--clean-models", type=click.Path(path_type=Path), required=True, metavar="DIR", help="Classifiers known to be clean.")
@_search_options
@click.option("--alpha", default=0.05, show_default=True, help="False positives.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The calibration, for scan.")
def calibrate(clean_models: Path, clean_dir: Path, alpha: float, output: Path, **options: Any) -> None:
    """Measure what clean models of your own kind score.

    `banscan scan --calibration FILE` then calls a model backdoored when it scores higher than all but the share ALPHA of them, so that at
    most that share of further clean models is called so. 19 clean models are enough for 0.05. A run that was stopped goes on from where it
    was.
    """
    with _failures():
        _calibrate(clean_models, clean_dir, alpha, output, options)


def _calibrate(clean_models: Path, clean_dir: Path, alpha: float, output: Path, options: dict[str, Any]) -> None:
    _check_writable(output)
    from banscan.scanner import calibration
    from banscan.scanner.calibrate import calibrate as run

    def told(path: Path, report: Any, entry: Any, why: str) -> None:
        if entry is None:
            click.echo(f"{path.name}: left out, {why}", err=True)
            return
        seen = "scanned before" if report is None else report.verdict.outcome
        click.echo(f"{path.name}: score {entry.score:.2f}, {seen}", err=True)

    arguments = _search_arguments(options)
    partial = output.with_name(f"{output.name}.partial")
    with _bars() as progress:
        found = run(clean_models, clean_dir, partial=partial, alpha=alpha, told=told, progress=progress, **arguments)
    with _destination(output) as stream:
        stream.write(calibration.render(found))
    scores = sorted(e.score for e in found.entries)
    click.echo(
        f"{len(scores)} clean models score {scores[0]:.2f} to {scores[-1]:.2f}; above {found.limit:.2f} a model is called backdoored, "
        f"a further clean one with a probability of at most {alpha:g}"
    )


@commands.command(no_args_is_help=True)
@click.argument("model", type=click.Path(path_type=Path))
@_search_options
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The repaired model.")
@click.option("--method", default="ban", show_default=True, metavar="NAME", help="ban, finetune (no noise) or anp (neurons pruned).")
@click.option("--epochs", type=int, help="Passes over the images.  [default: 25]")
@click.option("--lr", type=float, help="Learning rate.")
@click.option("--lambda2", type=float, help="Weight of the loss under noise (Eq. 8).  [default: 0.5]")
@click.option("--max-accuracy-drop", default=0.05, show_default=True, help="Write nothing beyond this loss.")
@click.option("--force", is_flag=True, help="Repair a model that the scan does not flag.")
@click.option("--dequantize", is_flag=True, help="Write a float32 model for one of 8 bits.")
@click.option("--format", "format_", type=click.Choice(["terminal", "json"]), default="terminal", show_default=True)
def repair(model: Path, clean_dir: Path, output: Path, **options: Any) -> None:
    """Take the backdoor out of a model file.

    Scans MODEL, fine-tunes it on four fifths of the clean images against noise on neurons and pixels and against patches, writes it to FILE
    with everything but the values of its weights as it was, compares the file with the tuned model, and scans it again. Exit codes are
    those of the second scan. A run that was stopped goes on from its last epoch.
    """
    with _failures():
        outcome = _repair(model, clean_dir, output, options)
    sys.exit(EXIT[outcome])


def _repair(model: Path, clean_dir: Path, output: Path, options: dict[str, Any]) -> str:
    _check_writable(output)
    from dataclasses import replace

    from banscan.scanner.repair.repair import METHODS
    from banscan.scanner.repair.repair import repair as run
    from banscan.scanner.report import repaired

    def told(epoch: int, clean: float, noisy: float, accuracy: float) -> None:
        under = "" if noisy != noisy else f", under noise {noisy:.3f}"
        click.echo(f"epoch {epoch}: loss {clean:.3f} on clean images{under}; accuracy {accuracy:.1%} on the images kept", err=True)

    given = {"epochs": options["epochs"], "lr": options["lr"], "weight": options["lambda2"], "seed": options["seed"]}
    base = METHODS.get(options["method"])
    arguments = _search_arguments(options)
    with _bars() as progress:
        done = run(
            model,
            clean_dir,
            output,
            method=options["method"],
            how=None if base is None else replace(base, **{key: value for key, value in given.items() if value is not None}),
            max_drop=options["max_accuracy_drop"],
            force=options["force"],
            dequantise=options["dequantize"],
            progress=progress,
            told=told,
            **arguments,
        )
    with _destination(None) as stream:
        if options["format_"] == "json":
            stream.write(repaired.render(done))
        else:
            repaired.show(done, _console(stream))
    return done.after.verdict.outcome


def _check_writable(output: Path | None) -> None:
    if output is not None and (output.is_dir() or not output.parent.is_dir()):
        raise UsageError(f"{output}: cannot be written; expected a file in a folder that exists")


class _Plain(Console):
    """A console that leaves a closed pipe to `_destination`; rich would exit with 1, which means backdoored here."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def _console(stream: Any) -> Console:
    return _Plain(file=stream, width=None if stream.isatty() else PLAIN_WIDTH)


@commands.command(no_args_is_help=True)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--logits", metavar="NAME", help="The output that holds the logits, in an ONNX file with several.")
def inspect(model: Path, logits: str | None) -> None:
    """Show what is read from a model file; needs no images."""
    with _failures():
        from banscan import importers
        from banscan.scanner.report import terminal

        traced = importers.load(model, logits=logits)
        with _destination(None) as stream:
            terminal.inspect(traced, _console(stream))


@contextmanager
def _failures() -> Iterator[None]:
    try:
        yield
    except BanscanError as error:
        raise Failure(error) from None
    except (MemoryError, RuntimeError) as error:
        # torch has no exception of its own for a CPU's memory
        if not isinstance(error, MemoryError) and not any(told in str(error) for told in ("out of memory", "can't allocate memory")):
            raise
        raise Failure(BanscanError("out of memory; give fewer images with --max-images")) from None


@contextmanager
def _bars() -> Iterator[Any]:
    """A progress bar on stderr, only where someone watches it."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda stage, done, total: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        tasks: dict[str, TaskID] = {}

        def advance(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=total)
            progress.update(tasks[stage], completed=done)

        yield advance


@contextmanager
def _destination(output: Path | None) -> Iterator[Any]:
    """stdout, or a file that appears under its name only when it is whole. A reader who closes the pipe early changes no exit code."""
    if output is None:
        try:
            yield sys.stdout
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    with whole(output) as place, place.open("w", encoding="utf-8") as stream:
        yield stream


def main() -> NoReturn:
    """The entry point; Ctrl-C ends with 130 and leaves nothing behind."""
    try:
        code = commands.main(standalone_mode=False)
    except click.exceptions.Exit as ended:
        code = ended.exit_code
    except click.ClickException as error:
        error.show()
        code = error.code if isinstance(error, Failure) else UsageError.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        code = 130
    sys.exit(code)


if __name__ == "__main__":
    main()
