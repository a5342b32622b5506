"""Completion in shells: click's own, which asks banscan itself by a variable of the environment."""

import click
from click.shell_completion import ShellComplete, get_completion_class, shell_complete

from banscan.errors import UsageError

VARIABLE = "_BANSCAN_COMPLETE"
SHELLS = ("bash", "zsh", "fish")


def script(commands: click.Command, shell: str) -> str:
    """What a shell has to run so that it completes banscan's arguments."""
    kind = get_completion_class(shell)
    assert kind is not None
    # past click's own look at the version of bash, for which it would start one
    return f"{ShellComplete.source(kind(commands, {}, 'banscan', VARIABLE)).strip()}\n"


def answer(commands: click.Command, asked: str) -> int:
    """Prints what a shell asks for, and returns the exit code; 1 is a verdict, so it is none of them."""
    return 0 if shell_complete(commands, {}, "banscan", VARIABLE, asked) == 0 else UsageError.exit_code
