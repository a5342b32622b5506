"""The command line: `banscan MODEL --clean-dir DIR`, `banscan inspect MODEL`, `banscan calibrate`, `banscan repair`.

torch takes seconds to load, so everything that needs it is imported where it is used, and not for --help.
"""

import os
import sys
from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import click

from banscan import reader
from banscan.errors import UsageError
from banscan.scanner.cli.console import bars, check_output, destination, work
from banscan.scanner.cli.options import F, built, options_of
from banscan.scanner.cli.streams import say
from banscan.scanner.cli.usage import example
from banscan.scanner.inputs import given
from banscan.scanner.repair.settings import RepairSettings
from banscan.scanner.report import formats
from banscan.scanner.settings import DEPLOYMENTS, Options, Settings
from banscan.text import counted
from banscan.version import __version__

EXIT = {"no backdoor found": 0, "not scanned": 0, "backdoored": 1, "suspicious": 2, "fragile": 2, "inconclusive": 2}
FILE = click.Path(path_type=Path)
# what may stand before the command
OWN = ("-h", "--help", "--version", "--debug")


class Commands(click.Group):
    """`scan` is what banscan does unless another command is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = len(list(takewhile(OWN.__contains__, args)))
        if own == len(args) and not {"-h", "--help", "--version"}.intersection(args):
            raise click.UsageError("expected a model: banscan MODEL --clean-dir DIR", ctx)
        if own < len(args) and args[own] not in self.commands:
            _check_spelling(args[own], list(self.commands))
            args = [*args[:own], "scan", *args[own:]]
        return super().parse_args(ctx, args)


def _check_spelling(word: str, known: list[str]) -> None:
    """Raises UsageError for a word that is no file and nearly a command."""
    near = get_close_matches(word, known, 1) if word.isalpha() else []
    if near and not os.path.lexists(word):
        raise UsageError(f"{word}: no such command or file; did you mean banscan {near[0]}?")


debug = click.option("--debug", is_flag=True, expose_value=False, help="Tell where an error comes from, and what libraries say.")


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="banscan")
@debug
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
      2  inconclusive, fragile, suspicious or failed
    """


clean_dir = click.option("--clean-dir", type=FILE, required=True, metavar="DIR", help="Clean images: class folders or flat.")


def format_option(names: list[str]) -> Callable[[F], F]:
    """The choice among report formats."""
    return click.option("--format", "format_", type=click.Choice(names), default=names[0], show_default=True)


@commands.command()
@click.argument("model", type=FILE)
@clean_dir
@options_of(Options, Settings)
@click.option("--calibration", type=FILE, metavar="FILE", help="Threshold from your own clean models (calibrate).")
@format_option([f.name for f in formats.FORMATS])
@click.option("-o", "--output", type=FILE, metavar="FILE", help="Write the report there instead of to stdout.")
@click.option(
    "--fail-on", type=click.Choice(["backdoored", "suspicious"]), default="backdoored", show_default=True, help="Exit 1 from here on."
)
@click.option("--as", "deployed", type=click.Choice(DEPLOYMENTS), help="Scan the model as it will be deployed, too.")
@click.option("--dry-run", is_flag=True, help="Show what is read and understood, and search for nothing.")
@click.option("--exit-zero", is_flag=True, help="Exit 0 whatever the verdict; failures keep their code.")
@debug
def scan(
    model: Path,
    clean_dir: Path,
    calibration: Path | None,
    format_: str,
    output: Path | None,
    fail_on: str,
    deployed: str | None,
    dry_run: bool,
    exit_zero: bool,
    **values: Any,
) -> None:
    """Scan one model file for a backdoor."""
    with work():
        settings, options = built(Settings, values), built(Options, values)
        check_output(output, (model, options.labels, options.classes, calibration), (clean_dir,))
        given.check(model, (options.labels, options.classes), calibration, clean_dir)
        reader.start()
        from banscan.scanner import calibration as scores
        from banscan.scanner import scan as scanning
        from banscan.scanner.deployed import scan_deployed

        _set_threads(options)
        run = scanning.dry_run if dry_run else scanning.scan if deployed is None else partial(scan_deployed, kind=deployed)
        against = None if calibration is None else scores.load(calibration)
        with bars() as progress:
            report = run(model, clean_dir, settings=settings, options=options, against=against, progress=progress)
        with destination(output) as stream:
            formats.named(format_).scan(report, stream)
    outcome = report.verdict.outcome
    code = 1 if outcome == "suspicious" == fail_on else EXIT[outcome]
    sys.exit(0 if exit_zero else code)


def _set_threads(options: Options) -> None:
    """As many as the process is allowed, unless someone said how many."""
    import torch

    from banscan.scanner.machine import threads

    if options.threads is None and threads.NAME not in os.environ:  # torch has taken that number already
        torch.set_num_threads(threads.allowed())


@commands.command()
@click.option("--clean-models", type=FILE, required=True, metavar="DIR", help="Classifiers known to be clean.")
@clean_dir
@options_of(Options, Settings)
@click.option("--alpha", default=0.05, show_default=True, help="False positives.")
@click.option("-o", "--output", type=FILE, required=True, metavar="FILE", help="The calibration, for scan.")
@debug
def calibrate(clean_models: Path, clean_dir: Path, alpha: float, output: Path, **values: Any) -> None:
    """Measure what clean models of your own kind score.

    `banscan scan --calibration FILE` then calls a model backdoored when it scores higher than all but the share ALPHA of them, so that at
    most that share of further clean models is called so. 19 clean models are enough for 0.05. A run that was stopped goes on from where it
    was.
    """
    with work():
        settings, options = built(Settings, values), built(Options, values)
        check_output(output, (options.labels, options.classes), (clean_dir, clean_models), beside=True)
        given.check(texts=(options.labels, options.classes), images=clean_dir, models=clean_models)
        reader.start()
        from banscan.scanner import calibration as scores
        from banscan.scanner.calibrate import calibrate as run

        def on_model(path: Path, report: Any, entry: Any, why: str) -> None:
            if entry is None:
                say(f"{path.name}: left out, {why}")
                return
            seen = "scanned before" if report is None else report.verdict.outcome
            say(f"{path.name}: score {entry.score:.2f}, {seen}")

        _set_threads(options)
        partial = output.with_name(f"{output.name}.partial")
        with bars() as progress:
            found = run(
                clean_models,
                clean_dir,
                partial=partial,
                alpha=alpha,
                settings=settings,
                options=options,
                on_model=on_model,
                progress=progress,
            )
        with destination(output) as stream:
            stream.write(scores.render(found))
        told = sorted(e.score for e in found.entries)
        with destination(None) as stream:
            stream.write(
                f"{counted(len(told), 'clean model')} score {told[0]:.2f} to {told[-1]:.2f}; above {found.limit:.2f} a model is called "
                f"backdoored, a further clean one with a probability of at most {alpha:g}\n"
            )


@commands.command()
@click.argument("model", type=FILE)
@clean_dir
@options_of(Options, Settings)
@click.option("-o", "--output", type=FILE, required=True, metavar="FILE", help="The repaired model.")
@options_of(RepairSettings)
@format_option([f.name for f in formats.FORMATS if f.repair is not None])
@debug
def repair(model: Path, clean_dir: Path, output: Path, format_: str, **values: Any) -> None:
    """Take the backdoor out of a model file.

    Scans MODEL, fine-tunes it on four fifths of the clean images against noise on neurons and pixels and against patches, writes it to FILE
    with everything but the values of its weights as it was, compares the file with the tuned model, and scans it again. Exit codes are
    those of the second scan. A run that was stopped goes on from its last epoch.
    """
    with work():
        settings, options, tuning = built(Settings, values), built(Options, values), built(RepairSettings, values)
        check_output(output, (model, options.labels, options.classes), (clean_dir,), beside=True)
        given.check(model, (options.labels, options.classes), images=clean_dir)
        reader.start()
        from banscan.scanner.repair.repair import repair as run

        def on_epoch(epoch: int, clean: float, noisy: float, accuracy: float) -> None:
            under = "" if noisy != noisy else f", under noise {noisy:.3f}"
            say(f"epoch {epoch}: loss {clean:.3f} on clean images{under}; accuracy {accuracy:.1%} on the images kept")

        _set_threads(options)
        with bars() as progress:
            done = run(model, clean_dir, output, tuning=tuning, settings=settings, options=options, progress=progress, on_epoch=on_epoch)
        write = formats.named(format_).repair
        assert write is not None
        with destination(None) as stream:
            write(done, stream)
    sys.exit(EXIT[done.after.verdict.outcome])


@commands.command()
@click.argument("model", type=FILE)
@click.option("--logits", metavar="NAME", help="The output that holds the logits, in an ONNX file with several.")
@click.option("--structure", is_flag=True, help="Show what in the graph decides by the pixels.")
@click.option("--clean-dir", type=FILE, metavar="DIR", help="With --structure: run it on these images, decided otherwise.")
@debug
def inspect(model: Path, logits: str | None, structure: bool, clean_dir: Path | None) -> None:
    """Show what is read from a model file; needs no images."""
    if clean_dir is not None and not structure:
        raise UsageError("--clean-dir: only used with --structure")
    with work():
        given.check(model)
        reader.start()
        if structure:
            _inspect_structure(model, logits, clean_dir)
            return
        from banscan import importers
        from banscan.scanner.report import inspected
        from banscan.scanner.report.console import console

        traced = importers.load(model, logits=logits)
        with destination(None) as stream:
            inspected.show(traced, console(stream))


def _inspect_structure(model: Path, logits: str | None, clean_dir: Path | None) -> None:
    """Prints what in the graph decides by the pixels, and with images what becomes of the answers when it decides otherwise."""
    from banscan.scanner import logic
    from banscan.scanner.report import logic as shown
    from banscan.scanner.report.console import console

    found = logic.inspected(model, clean_dir, logits)
    with destination(None) as stream:
        shown.show(model, found, console(stream))


def run(arguments: list[str]) -> int:
    """Runs one command and returns its exit code.

    Not by click's own `main`, which ends with 1 when any pipe breaks. Raises whatever the command raises.
    """
    try:
        with commands.make_context("banscan", list(arguments)) as context:
            commands.invoke(context)
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.Abort:
        raise KeyboardInterrupt from None
    except click.ClickException as error:
        where = getattr(error, "ctx", None)
        shown = f"; for example: {example(where)}" if isinstance(error, click.MissingParameter) and where is not None else ""
        hint = "" if where is None else f"; see {where.command_path} --help"
        raise UsageError(f"{' '.join(error.format_message().split()).rstrip('.?')}{shown}{hint}") from error
    return 0
