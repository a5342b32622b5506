"""Help by topic, and completion as shells ask for it."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from banscan.scanner.cli import pages, topics
from banscan.scanner.cli.commands import commands
from banscan.scanner.cli.completion import SHELLS, VARIABLE
from tests.scanner.cli.test_main import ENTRY, ROOT, banscan

EVERY = [None, *commands.commands]


def test_every_option_and_command_has_a_topic() -> None:
    known = {name for own in topics.OPTIONS.values() for name in own}
    for command in (commands, *commands.commands.values()):
        options = {topics.flag(option) for option in command.params if isinstance(option, click.Option)}
        assert options - known <= {"--debug", "--version"}, f"{command.name}: add them to topics.OPTIONS"
    assert set(commands.commands) == {name for own in topics.COMMANDS.values() for name in own}


@pytest.mark.parametrize("name", EVERY)
def test_help_tells_everything_once(name: str | None) -> None:
    command = commands if name is None else commands.commands[name]
    result = banscan(*([] if name is None else [name]), "--help")
    assert (result.returncode, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert "Options:" not in lines
    for option in command.params:
        if isinstance(option, click.Option):
            assert sum(bool(re.match(rf"  (-\w, )?{topics.flag(option)}( |$)", line)) for line in lines) == 1
    if name is None:
        for own in commands.commands:
            assert sum(line.startswith(f"  {own} ") for line in lines) == 1
        for title in ("A model:", "Many models:", "This machine:", "Examples:", "Environment:"):
            assert title in lines
        assert not any(line.endswith("...") for line in lines[1:])


@pytest.mark.parametrize("name", topics.EXAMPLES)
def test_examples_are_calls_that_parse(name: str) -> None:
    for line in topics.EXAMPLES[name]:
        words = re.sub(r'^eval "\$\((.*)\)"$', r"\1", line).split()
        assert words[0] == "banscan"
        arguments = words[1:] if words[1] in commands.commands else ["scan", *words[1:]]
        command = commands.commands[arguments[0]]
        assert name in ("banscan", arguments[0])
        command.make_context(arguments[0], arguments[1:])


def completed(words: str) -> list[str]:
    """What click's form of a completion says, through the real entry point."""
    count = len(words.split()) - (not words.endswith(" "))
    environment = {**os.environ, "PYTHONPATH": str(ROOT), VARIABLE: "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(count)}
    result = subprocess.run(ENTRY, env=environment, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("banscan ", [f"plain,{name}" for name in sorted(commands.commands)]),
        ("banscan rep", ["plain,repair"]),
        ("banscan models/a", ["file,models/a"]),
        ("banscan model.onnx --cl", ["plain,--clean-dir", "plain,--classes"]),
        ("banscan scan a.onnx --format s", ["plain,sarif"]),
        ("banscan scan a.onnx --effort ", ["plain,quick", "plain,standard", "plain,thorough"]),
        ("banscan repair a.onnx --method f", ["plain,finetune"]),
        ("banscan docs lim", ["plain,limits"]),
        ("banscan a.onnx --clean-dir im", ["file,im"]),
        ("banscan inspekt --siz", ["plain,--size"]),
        ("banscan completion ", [f"plain,{shell}" for shell in SHELLS]),
    ],
)
def test_completion(words: str, expected: list[str]) -> None:
    """A first word that is no command is a model, as in a scan."""
    assert completed(words) == expected


def test_completion_asked_for_in_a_way_that_is_none() -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), VARIABLE: "bash_nothing"}
    assert subprocess.run(ENTRY, env=environment, capture_output=True, check=False).returncode == 4


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_of_shells(shell: str) -> None:
    result = banscan("completion", shell)
    assert (result.returncode, result.stderr) == (0, "")
    assert f"{VARIABLE}={shell}_complete" in result.stdout
    assert "_banscan_completion" in result.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_real_bash_completes(tmp_path: Path) -> None:
    own = tmp_path / "banscan"
    own.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m banscan "$@"\n')
    own.chmod(0o755)
    lines = (
        'eval "$(banscan completion bash)"',
        "complete -p banscan",
        "COMP_WORDS=(banscan scan a.onnx --base)",
        "COMP_CWORD=3",
        "_banscan_completion banscan",
        'echo "found ${COMPREPLY[*]}"',
    )
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["bash", "--norc", "-c", "\n".join(lines)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "-F _banscan_completion" in result.stdout
    assert "found --baseline" in result.stdout, result.stderr


def test_every_page_that_is_named_is_installed() -> None:
    """Sentences name pages by the command that shows them."""
    named = {name for room in ("scanner", "importers", "kernels", "banscan") for name in _named(ROOT / room)}
    assert {"limits", "method", "security"} <= named <= set(pages.names())
    listed = banscan("docs")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(pages.names())


def _named(room: Path) -> list[str]:
    return [name for place in room.rglob("*.py") for name in re.findall(r"`banscan docs ([\w/-]+)`", place.read_text())]


@pytest.mark.parametrize("name", ["limits", "docs/limits.md", "limits.md#how-far-this-carries", "evidence/held"])
def test_a_page_as_it_is_written(name: str) -> None:
    shown = banscan("docs", name)
    place = ROOT / "docs" / ("evidence/held.md" if "held" in name else "limits.md")
    assert (shown.returncode, shown.stdout) == (0, place.read_text())


@pytest.mark.parametrize("name", ["limit", "../README", "/etc/passwd", "evidence/../limits", ""])
def test_no_such_page(name: str) -> None:
    refused = banscan("docs", name)
    assert refused.returncode == 4
    assert refused.stderr.startswith(f"Error: {name}: no such page; expected one of evidence, importers")
    assert len(refused.stderr.splitlines()) == 1
