"""The command line: `banscan MODEL --clean-dir DIR`, `banscan inspect MODEL`, `banscan calibrate`, `banscan repair`.

torch takes seconds to load, so everything that needs it is imported where it is used, and not for --help.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from banscan import reader
from banscan.errors import BanscanError, UsageError
from banscan.scanner import baseline as known
from banscan.scanner.cli import codes, completion, many, pages, topics
from banscan.scanner.cli import config as settings_file
from banscan.scanner.cli import outputs as outputs_
from banscan.scanner.cli.console import bars, check_output, destination, work
from banscan.scanner.cli.options import F, built, options_of, unlike
from banscan.scanner.cli.streams import say
from banscan.scanner.cli.usage import example
from banscan.scanner.findings import NOT_SCANNED, Report
from banscan.scanner.fleet import models as several
from banscan.scanner.inputs import given
from banscan.scanner.machine import versions
from banscan.scanner.places import place
from banscan.scanner.repair.settings import RepairSettings
from banscan.scanner.report import formats
from banscan.scanner.request import Request, set_threads
from banscan.scanner.settings import DEPLOYMENTS, Options, Settings
from banscan.text import counted

if TYPE_CHECKING:
    from banscan.scanner.doctor import Check

FILE = click.Path(path_type=Path)
# what `inspect` asks of how a file and images are read
READING = ("labels", "classes", "max_images", "logits", "size", "preprocess", "mean", "std", "scale", "bgr")
# commands that go on without a settings file that is broken
WITHOUT = ("doctor", "render", "merge")
# what may stand before the command
OWN = ("-h", "--help", "--version", "--debug")


class Commands(topics.Group):
    """`scan` is what banscan does unless another command is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = len(list(takewhile(OWN.__contains__, args)))
        if own == len(args) and not ctx.resilient_parsing and not {"-h", "--help", "--version"}.intersection(args):
            raise click.UsageError("expected a model: banscan MODEL --clean-dir DIR", ctx)
        if own < len(args) and args[own] not in self.commands:
            if not ctx.resilient_parsing:
                _check_spelling(args[own], list(self.commands))
            args = [*args[:own], "scan", *args[own:]]
        return super().parse_args(ctx, args)


def _check_spelling(word: str, known: list[str]) -> None:
    """Raises UsageError for a word that is no file and nearly a command."""
    near = get_close_matches(word, known, 1) if _no_path(word) else []
    if near:
        raise UsageError(f"{word}: no such command or file; did you mean banscan {near[0]}?")


def _no_path(word: str) -> bool:
    """Whether it looks like a command, and is no file."""
    return re.fullmatch(r"\w[\w-]*", word) is not None and not os.path.lexists(word)


debug = click.option("--debug", is_flag=True, expose_value=False, help="Tell where an error comes from, and what libraries say.")


def _version(ctx: click.Context, parameter: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        click.echo(versions.told())
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the versions that matter and exit."
)
@debug
def commands() -> None:
    """Finds backdoors in image classifiers, from a model file and clean images.

    banscan MODEL --clean-dir DIR is the same as banscan scan MODEL --clean-dir DIR.

    \b
    Exit codes:
      0  no backdoor found       3  no image classifier that can be read
      1  backdoored              4  wrong usage, no such file
      2  inconclusive, fragile, suspicious or failed
    """


clean_dir = click.option("--clean-dir", type=FILE, required=True, metavar="DIR", help="Clean images: class folders or flat.")


def format_option(names: list[str]) -> Callable[[F], F]:
    """The choice among report formats."""
    return click.option("--format", "format_", type=click.Choice(names), default=names[0], show_default=True)


def outputs_option(command: F) -> F:
    """Where reports go beside stdout."""
    what = "Write it there, too; its name says how. Repeatable."
    return click.option("-o", "--output", "outputs", type=FILE, multiple=True, metavar="FILE", help=what)(command)


def verdict_options(command: F) -> F:
    """What a verdict is to whoever called."""
    levels = click.Choice(["backdoored", "suspicious"])
    for option in (
        click.option("--exit-zero", is_flag=True, help="Exit 0 whatever the verdict; failures keep their code."),
        click.option("--fail-on", type=levels, default="backdoored", show_default=True, help="Exit 1 from here on."),
        click.option("--baseline", type=FILE, metavar="FILE", help="Accept the findings that it names (-o FILE.baseline.json)."),
        click.option("-q", "--quiet", is_flag=True, help="One line on stdout."),
    ):
        command = option(command)
    return command


@commands.command()
@click.argument("models", type=FILE, nargs=-1, metavar="MODEL...")
@click.option("--clean-dir", type=FILE, metavar="DIR", help="Clean images: class folders or flat.")
@options_of(Options, Settings)
@click.option("--calibration", type=FILE, metavar="FILE", help="Threshold from your own clean models (calibrate).")
@format_option([f.name for f in formats.FORMATS])
@outputs_option
@verdict_options
@click.option("-v", "--verbose", is_flag=True, help="Cut nothing short in the report.")
@click.option("--as", "deployed", type=click.Choice(DEPLOYMENTS), help="Scan the model as it will be deployed, too.")
@click.option("--dry-run", is_flag=True, help="Show what is read and understood, and search for nothing.")
@click.option("--table", type=FILE, metavar="FILE", help="Models as CSV or YAML: model,images,labels,preprocess.")
@click.option("--jobs", type=click.IntRange(1, 1024), metavar="N", help="Scan so many models at once.")
@click.option("--results", type=FILE, metavar="DIR", help=f"Results of many models; a second run goes on.  [default: {many.RESULTS}]")
@click.option("--shard", metavar="I/N", help="Only part I of N of the models; auto in a Slurm array (merge).")
@click.option("--ray", metavar="ADDRESS", help="Scan many models on a Ray cluster: HOST:PORT, auto or local.")
@debug
def scan(
    models: tuple[Path, ...],
    clean_dir: Path | None,
    calibration: Path | None,
    format_: str,
    outputs: tuple[Path, ...],
    baseline: Path | None,
    quiet: bool,
    verbose: bool,
    fail_on: str,
    deployed: str | None,
    dry_run: bool,
    exit_zero: bool,
    table: Path | None,
    jobs: int | None,
    results: Path | None,
    shard: str | None,
    ray: str | None,
    **values: Any,
) -> None:
    """Scan a model file for a backdoor, or many.

    MODEL is a file, a folder of models, a pattern, hf://owner/name or models:/name/version. Of many models every one has a
    line as it comes and a result in DIR; the exit code is that of the gravest: 1 before 2 before 3.
    """
    if table is None:
        _require("models", models)
        if clean_dir is None and _no_path(str(models[0])):
            raise UsageError(f"{models[0]}: no such command or file; expected a model, or one of {', '.join(commands.commands)}")
        _require("clean_dir", clean_dir)
    with work():
        request = Request(
            settings=built(Settings, values), options=built(Options, values), calibration=calibration, deployed=deployed, dry_run=dry_run
        )
        format_ = _format(format_, quiet)
        if dry_run:
            outputs_.check_found(format_, outputs)
        accepted = frozenset() if baseline is None else known.load(baseline)
        if several.several(models) or table is not None or shard is not None or any(map(_called_with, ("jobs", "results", "ray"))):
            told = many.Told(format_=format_, outputs=outputs, accepted=accepted, fail_on=fail_on, exit_zero=exit_zero, quiet=quiet)
            sys.exit(many.run(models, clean_dir, request, told, table=table, at_once=jobs, results=results, part=shard, ray=ray))
        assert clean_dir is not None
        (model,) = models
        texts = (request.options.labels, request.options.classes)
        outputs_.check(format_, outputs, (model, *texts, calibration, baseline), (clean_dir,), quiet=quiet)
        given.check(model, texts, calibration, clean_dir)
        reader.start()
        set_threads(request.options)
        with bars() as progress:
            report = known.applied(request.run(model, clean_dir, progress), accepted)
        code = _told(report, format_, outputs, fail_on, quiet=quiet, verbose=verbose)
    sys.exit(0 if exit_zero else code)


def _told(report: Report, format_: str, outputs: tuple[Path, ...], fail_on: str, *, quiet: bool, verbose: bool) -> int:
    """Writes a report everywhere it is wanted; the exit code that it stands for."""
    outputs_.write(report, outputs)
    outputs_.show(report, format_, quiet=quiet, verbose=verbose)
    code = codes.of(report, fail_on)
    outputs_.explain(code, (report,))
    return code


def _called_with(name: str) -> bool:
    """Whether an option is on the command line; what a settings file says of many models is not for one alone."""
    return click.get_current_context().get_parameter_source(name) == ParameterSource.COMMANDLINE


def _format(name: str, quiet: bool) -> str:
    """The format of what stdout has; --quiet takes the place of one that a settings file names, and not of one that was asked for."""
    return name if not quiet or _called_with("format_") else formats.FORMATS[0].name


def _require(name: str, value: Any) -> None:
    """Raises MissingParameter for one that was left out where it is needed."""
    if not value:
        context = click.get_current_context()
        raise click.MissingParameter(ctx=context, param=next(p for p in context.command.params if p.name == name))


@commands.command()
@click.argument("folder", type=FILE, metavar="DIR")
@format_option([f.name for f in formats.FORMATS])
@outputs_option
@verdict_options
@debug
def merge(folder: Path, format_: str, outputs: tuple[Path, ...], baseline: Path | None, quiet: bool, fail_on: str, exit_zero: bool) -> None:
    """Put the shards of many models together.

    DIR holds the results of `banscan scan --shard I/N --results ...`, all in one folder or one below it for every shard. A shard that is
    missing, or there twice, is refused.
    """
    accepted = frozenset() if baseline is None else known.load(baseline)
    told = many.Told(format_=_format(format_, quiet), outputs=outputs, accepted=accepted, fail_on=fail_on, exit_zero=exit_zero, quiet=quiet)
    sys.exit(many.merge(folder, told))


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
        from banscan.scanner.calibrate import calibrate as run

        called: list[str] = []

        def on_model(path: Path, report: Any, entry: Any, why: str) -> None:
            if entry is None:
                say(f"{path.name}: left out, {why}")
                return
            seen = "scanned before" if report is None else report.verdict.outcome
            say(f"{path.name}: score {entry.score:.2f}, {seen}")
            if entry.score >= 1:
                called.append(path.name)

        set_threads(options)
        with _going_on(output), bars() as progress:
            found = run(
                clean_models, clean_dir, output, alpha=alpha, settings=settings, options=options, on_model=on_model, progress=progress
            )
        if called:
            say(
                f"{', '.join(called)}: called backdoored but for this calibration, by which no model that scores as high is; where you are "
                f"not sure, take what is named out of {clean_models} and calibrate again"
            )
        told = sorted(e.score for e in found.entries)
        with destination(None) as stream:
            stream.write(
                f"{counted(len(told), 'clean model')} score {told[0]:.2f} to {told[-1]:.2f}; above {found.limit:.2f} a model is called "
                f"backdoored, a further clean one with a probability of at most {alpha:g}\n"
            )


@contextmanager
def _going_on(output: Path) -> Iterator[None]:
    """Says where what was done is kept, if it is stopped."""
    try:
        yield
    except KeyboardInterrupt:
        partial = output.with_name(f"{output.name}.partial")
        if partial.exists():
            say(f"{partial} keeps what is done; the same command goes on from there")
        raise


@commands.command()
@click.argument("model", type=FILE)
@clean_dir
@options_of(Options, Settings)
@click.option("-o", "--output", type=FILE, required=True, metavar="FILE", help="The repaired model.")
@options_of(RepairSettings)
@format_option([f.name for f in formats.FORMATS if f.repairs])
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

        set_threads(options)
        with _going_on(output), bars() as progress:
            done = run(model, clean_dir, output, tuning=tuning, settings=settings, options=options, progress=progress, on_epoch=on_epoch)
        with destination(None) as stream:
            formats.named(format_).repair(done, stream)
    sys.exit(codes.EXIT[done.after.verdict.outcome])


@commands.command()
@click.argument("model", type=FILE)
@click.option("--structure", is_flag=True, help="Show what in the graph decides by the pixels.")
@click.option("--clean-dir", type=FILE, metavar="DIR", help="With --structure: run it on these images, decided otherwise.")
@options_of(Options, only=READING)
@debug
def inspect(model: Path, structure: bool, clean_dir: Path | None, **values: Any) -> None:
    """Show what is read from a model file; needs no images.

    Options that say how images are read need --clean-dir, but for --size.
    """
    with work():
        if clean_dir is not None and not structure:
            raise UsageError("--clean-dir: only used with --structure")
        used = ("--logits",) if structure else ("--logits", "--size")
        idle = [flag for flag in unlike(Options, values) if flag not in used] if clean_dir is None else []
        if idle:
            raise UsageError(f"{idle[0]}: only used with --structure and --clean-dir")
        options = built(Options, values)
        given.check(model, (options.labels, options.classes), images=clean_dir)
        reader.start()
        with place.local(model) as here:
            if structure:
                _inspect_structure(here, clean_dir, options)
                return
            from banscan.scanner import logic
            from banscan.scanner.report import inspected
            from banscan.scanner.report.console import console

            traced = logic.readable(here.path, options.sides, options.logits)
        with destination(None) as stream:
            inspected.show(traced, console(stream), here.origin)


def _inspect_structure(model: place.Local, clean_dir: Path | None, options: Options) -> None:
    """Prints what in the graph decides by the pixels, and with images what becomes of the answers when it decides otherwise."""
    from banscan.scanner import logic
    from banscan.scanner.report import logic as shown
    from banscan.scanner.report.console import console

    found = logic.inspected(model.path, clean_dir, options)
    with destination(None) as stream:
        shown.show(model.origin or model.path.name, found, console(stream))


@commands.command()
@click.argument("report", type=FILE, metavar="REPORT")
@format_option([f.name for f in formats.FORMATS])
@outputs_option
@verdict_options
@click.option("-v", "--verbose", is_flag=True, help="Cut nothing short in the report.")
@debug
def render(
    report: Path,
    format_: str,
    outputs: tuple[Path, ...],
    baseline: Path | None,
    quiet: bool,
    verbose: bool,
    fail_on: str,
    exit_zero: bool,
) -> None:
    """Write a stored report in other forms.

    REPORT is a file that `banscan scan -o FILE.json` wrote; nothing is scanned. Exit codes are those of the scan.
    """
    format_ = _format(format_, quiet)
    outputs_.check(format_, outputs, (report, baseline), (), quiet=quiet)
    accepted = frozenset() if baseline is None else known.load(baseline)
    from banscan.scanner.report.json import read_file

    stored = read_file(report)
    if stored.verdict.outcome == NOT_SCANNED:
        outputs_.check_found(format_, outputs)
    stored = stored if baseline is None else known.applied(stored, accepted)
    code = _told(stored, format_, outputs, fail_on, quiet=quiet, verbose=verbose)
    sys.exit(0 if exit_zero else code)


@commands.command()
@click.option("--json", "as_json", is_flag=True, help="For a program, or for a report of a fault.")
@debug
def doctor(as_json: bool) -> None:
    """Say whether scans can run here, and what to install.

    Exit codes: 0 where they can, 2 where they cannot.
    """
    with work():
        reader.start()
        from banscan.scanner import doctor as looking
        from banscan.scanner.report import checked

        found = (*looking.examine(), *looking.looked(_settings))
        with destination(None) as stream:
            checked.write(found, stream, as_json=as_json)
    sys.exit(BanscanError.exit_code if any(check.wrong for check in found) else 0)


@commands.command()
@options_of(Options, only=("device", "precision", "threads"))
@click.option("--json", "as_json", is_flag=True, help="For a program, or for a report of a fault.")
@debug
def selftest(as_json: bool, **values: Any) -> None:
    """Plant a trigger, find it and take it out.

    A small network that comes with banscan is given a backdoor, scanned and repaired on the device that a scan would use, and what is
    measured is compared with reference numbers. It takes half a minute and needs neither files nor a network.

    Exit codes: 0 where this installation gives the reference numbers, 2 where it does not.
    """
    with work():
        options = built(Options, values)
        reader.start()
        set_threads(options)
        from banscan.scanner.report import tested
        from banscan.scanner.selftest.run import run as measured

        with bars() as progress:
            found = measured(options, progress)
        with destination(None) as stream:
            tested.write(found, stream, as_json=as_json)
        if not found.passed:
            raise BanscanError(tested.sentence(found))


def _settings() -> "Iterator[Check]":
    """Whether the settings file can be read."""
    from banscan.scanner.doctor import Check

    path = settings_file.place(os.environ)
    try:
        settings_file.defaults(commands, settings_file.find(os.environ))
    except UsageError as error:
        advice = f"mend {path}, or scan without it: {settings_file.VARIABLE}= banscan …"
        yield Check("settings", str(error), wrong=True, advice=advice)
    else:
        yield Check("settings", "no file of them here" if path is None else str(path))


@commands.command()
@click.argument("command", default="scan", metavar="[COMMAND]")
@debug
def config(command: str) -> None:
    """Print the settings that hold for a command (scan), and where they are from.

    They are read from banscan.toml, or [tool.banscan] in pyproject.toml, in the folder where banscan is called; BANSCAN_CONFIG names
    another file. The command line wins.
    """
    known_ = {name: own for name, own in commands.commands.items() if settings_file.options(own)}
    if command not in known_:
        raise UsageError(f"{command}: no command with settings; expected one of {', '.join(known_)}")
    found = settings_file.find(os.environ)
    values = settings_file.defaults(commands, found).get(command, {})
    own = known_[command].make_context(command, [], resilient_parsing=True, default_map=values)
    with destination(None) as stream:
        stream.write(f"# banscan {command}: what holds here, and where it is from\n")
        stream.writelines(f"{line}\n" for line in settings_file.lines(own, found))


def _completed(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """The pages whose names begin so."""
    return [name for name in pages.names() if name.startswith(incomplete)]


@commands.command()
@click.argument("page", required=False, metavar="[PAGE]", shell_complete=_completed)
@debug
def docs(page: str | None) -> None:
    """Show a page of the documentation, which comes with banscan; without one, what there is.

    In a terminal it is laid out, elsewhere it is Markdown as it is written.
    """
    from banscan.scanner.report.console import console

    with destination(None) as stream:
        if page is None:
            width = max(map(len, pages.names()))
            stream.writelines(f"{name:{width}}  {pages.title(name)}\n" for name in pages.names())
        elif stream.isatty():
            from rich.markdown import Markdown

            console(stream).print(Markdown(pages.text(page), hyperlinks=False))
        else:
            stream.write(pages.text(page))


@commands.command("completion")
@click.argument("shell", type=click.Choice(completion.SHELLS))
@debug
def complete(shell: str) -> None:
    """Print what makes a shell complete banscan's arguments.

    \b
    bash  eval "$(banscan completion bash)"       in ~/.bashrc
    zsh   eval "$(banscan completion zsh)"        in ~/.zshrc
    fish  banscan completion fish | source        in ~/.config/fish/config.fish
    """
    with destination(None) as stream:
        stream.write(completion.script(commands, shell))


def _defaults(command: str) -> dict[str, dict[str, Any]]:
    """What the settings file says; commands that can do without a broken one go on without, and say so."""
    try:
        return settings_file.defaults(commands, settings_file.find(os.environ))
    except UsageError as error:
        if command not in WITHOUT:
            raise
        if command != "doctor":  # which has a line for it
            say(f"{error}; {command} goes on without it")
        return {}


def run(arguments: list[str]) -> int:
    """Runs one command and returns its exit code.

    Not by click's own `main`, which ends with 1 when any pipe breaks. Raises whatever the command raises.
    """
    asked = os.environ.get(completion.VARIABLE)
    if asked:
        return completion.answer(commands, asked)
    try:
        helped = {"-h", "--help", "--version"}.intersection(arguments)
        values = {} if helped else _defaults(next((word for word in arguments if word not in OWN), ""))
        with commands.make_context("banscan", list(arguments), default_map=values) as context:
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
