"""How `--help` is written: options and commands by topic, then examples and what else a manual page says.

Every option and every command stands in one of the lists; a test says which is missing.
"""

from collections.abc import Iterable, Mapping, Sequence

import click
from click.shell_completion import CompletionItem

OPTIONS: dict[str, tuple[str, ...]] = {
    "Model and images": ("--clean-models", "--clean-dir", "--labels", "--classes", "--max-images", "--size", "--logits", "--structure"),
    "Preprocessing": ("--preprocess", "--mean", "--std", "--scale", "--bgr"),
    "Search": (
        "--effort",
        "--seed",
        "--restarts",
        "--steps",
        "--step-images",
        "--targets",
        "--pixels",
        "--noise",
        "--eps",
        "--depth",
        "--controls",
        "--as",
    ),
    "Repair": ("--method", "--epochs", "--lr", "--lambda2", "--tune-images", "--max-accuracy-drop", "--force", "--dequantize"),
    "Verdict": ("--calibration", "--alpha", "--baseline", "--fail-on", "--exit-zero", "--min-images", "--min-accuracy"),
    "Report": ("--output", "--format", "--quiet", "--verbose", "--dry-run", "--json"),
    "Many models": ("--jobs", "--ray", "--results", "--table", "--shard"),
    "Machine": ("--device", "--threads", "--memory", "--precision"),
}
# what every command has, and whatever stands in no list
GENERAL = "General"
COMMANDS: dict[str, tuple[str, ...]] = {
    "A model": ("scan", "inspect", "repair"),
    "Many models": ("merge", "calibrate"),
    "Reports": ("render",),
    "This machine": ("doctor", "selftest", "config", "completion"),
    "To read": ("docs",),
}
EXAMPLES: dict[str, tuple[str, ...]] = {
    "banscan": (
        "banscan model.onnx --clean-dir imgs/",
        "banscan scan models/ --clean-dir imgs/ --jobs 2 -o findings.sarif",
        "banscan repair model.onnx --clean-dir imgs/ -o fixed.onnx",
    ),
    "scan": (
        "banscan model.onnx --clean-dir imgs/ -o report.html",
        "banscan model.onnx --clean-dir imgs/ --preprocess imagenet -q",
        "banscan scan models/ --clean-dir imgs/ --jobs 2",
    ),
    "inspect": ("banscan inspect model.onnx", "banscan inspect model.onnx --structure --clean-dir imgs/"),
    "repair": ("banscan repair model.onnx --clean-dir imgs/ -o fixed.onnx",),
    "merge": ("banscan merge results/ -o findings.sarif",),
    "calibrate": ("banscan calibrate --clean-models known-good/ --clean-dir imgs/ -o own.json",),
    "render": ("banscan render report.json -o findings.sarif",),
    "config": ("banscan config repair",),
    "docs": ("banscan docs limits", "banscan docs evidence/held"),
    "completion": ('eval "$(banscan completion bash)"',),
}
ENVIRONMENT = (
    ("BANSCAN_CONFIG", "The settings file in place of banscan.toml; with an empty value none."),
    ("BANSCAN_CONV", "fused or auto: on a GPU, the noise inside the convolutions; apart by default."),
    ("BANSCAN_DEBUG", "As --debug with every command."),
    ("BANSCAN_KERNELS", "Kernels to use in place of the fastest that can run (banscan doctor)."),
    ("BANSCAN_TUNE", "on: measures on a GPU which sizes its kernels run fastest with, and keeps them."),
    ("OMP_NUM_THREADS", "Threads, where --threads says nothing."),
    ("TMPDIR", "The folder for temporary files."),
    ("NO_COLOR", "No colours, with any value but an empty one."),
)


class Command(click.Command):
    """A command with its options by topic and with examples."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _options(self, ctx, formatter)
        _examples(str(self.name), formatter)


class Group(click.Group):
    """A group with its commands by topic, and examples."""

    command_class = Command

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for topic, names in by_topic(self.commands, COMMANDS).items():
            # the first sentence whole, as long as it may be
            rows = [(name, self.commands[name].get_short_help_str(1000)) for name in names]
            _section(formatter, topic, rows)
        _options(self, ctx, formatter)
        _examples(str(ctx.info_name), formatter)
        _section(formatter, "Environment", ENVIRONMENT)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Commands and options that begin so, else files: a model may stand in the place of a command."""
        return super().shell_complete(ctx, incomplete) or [CompletionItem(incomplete, type="file")]


def by_topic(names: Iterable[str], topics: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """These names in the order of the topics, those of none at the end."""
    known, left = {name: topic for topic, own in topics.items() for name in own}, list(names)
    order = [name for own in topics.values() for name in own if name in left]
    made: dict[str, list[str]] = {}
    for name in (*order, *(name for name in left if name not in known)):
        made.setdefault(known.get(name, GENERAL), []).append(name)
    return made


def _options(command: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    options = {flag(option): option for option in command.get_params(ctx) if isinstance(option, click.Option)}
    for topic, names in by_topic(options, OPTIONS).items():
        _section(formatter, topic, [row for name in names if (row := options[name].get_help_record(ctx)) is not None])


def flag(option: click.Option) -> str:
    """What an option is called in the lists: its longest name, of a switch the one that turns it on."""
    return max(option.opts, key=len)


def _examples(name: str, formatter: click.HelpFormatter) -> None:
    if name in EXAMPLES:
        with formatter.section("Examples"):
            for line in EXAMPLES[name]:
                formatter.write(f"{' ' * formatter.current_indent}{line}\n")


def _section(formatter: click.HelpFormatter, title: str, rows: Sequence[tuple[str, str]]) -> None:
    if rows:
        with formatter.section(title):
            formatter.write_dl(rows)
