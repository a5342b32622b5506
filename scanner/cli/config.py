"""The settings file: `banscan.toml`, or `[tool.banscan]` in `pyproject.toml`, in the folder where banscan is called.

Its names are those of the options; of a switch both: `pixels = false` and `no-pixels = true` are one setting. What stands at the top is for
every command that has such an option; `output` and `format`, which mean something else elsewhere, for `scan` alone; a table `[repair]` or
`[calibrate]` is for that command. The command line wins.
"""

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from banscan.errors import UsageError
from banscan.files import check_file
from banscan.scanner.cli.options import Setting

OWN, PROJECT = Path("banscan.toml"), Path("pyproject.toml")
# names another file; an empty value, none
VARIABLE = "BANSCAN_CONFIG"
EXPECTED = "expected a settings file in TOML"
SCAN_ONLY = frozenset({"output", "format"})
# whole numbers beyond this are none that an option has
LARGEST = 10**20 - 1
# of every command, and none of a file's business
LEFT_OUT = frozenset({"help", "debug"})


@dataclass(frozen=True)
class Found:
    """A settings file and what it holds; no path where there is none."""

    path: Path | None = None
    values: Mapping[str, Any] | None = None


def place(environment: Mapping[str, str]) -> Path | None:
    """The file whose settings hold here, whatever is in it; None where there is none."""
    named = environment.get(VARIABLE)
    if named is not None:
        return Path(named) if named else None
    # what is there and cannot be read is told, since it may hold a policy
    return next((path for path in (OWN, PROJECT) if os.path.lexists(path)), None)


def find(environment: Mapping[str, str]) -> Found:
    """The settings that hold here.

    Raises:
        UsageError: their file cannot be read, or is no TOML.
    """
    path = place(environment)
    return Found() if path is None else _read(path)


def _read(path: Path) -> Found:
    check_file(path, EXPECTED)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if path == PROJECT and b"tool.banscan" not in path.read_bytes():
            return Found()  # a fault of somebody else's
        raise UsageError(f"{path}: no TOML ({_fault(error)}); {EXPECTED}") from error
    if path.name != PROJECT.name:
        return Found(path, document)
    tool = document.get("tool")
    own = tool.get("banscan") if isinstance(tool, dict) else None
    if own is None:
        return Found()
    if not isinstance(own, dict):
        raise UsageError(f"{path}: tool.banscan is no table; expected [tool.banscan]")
    return Found(path, own)


def _fault(error: Exception) -> str:
    """What is wrong with a file, where Python's own words are about Python."""
    if isinstance(error, RecursionError):
        return "nested too deep"
    return str(error) if isinstance(error, tomllib.TOMLDecodeError | UnicodeError | OSError) else "a number with too many digits"


def options(command: click.Command) -> dict[str, click.Option]:
    """The options of a command that a file may set, by their names there."""
    named = ((_name(option), option) for option in command.params if isinstance(option, click.Option))
    return {name: option for name, option in named if name not in LEFT_OUT}


def defaults(group: click.Group, found: Found) -> dict[str, dict[str, Any]]:
    """What the file says for every command, by the names of its parameters.

    Raises:
        UsageError: a name that no command has, or a value that its option cannot have.
    """
    made: dict[str, dict[str, Any]] = {}
    if found.path is None or found.values is None:
        return made
    commands = {name: options(command) for name, command in group.commands.items()}
    top = _on(found.path, {name: value for name, value in found.values.items() if not isinstance(value, dict)}, commands)
    tables = {name: _on(found.path, value, commands) for name, value in found.values.items() if isinstance(value, dict)}
    _known(found.path, top, {name for own in commands.values() for name in own} | commands.keys())
    _known(found.path, tables, commands.keys(), what="table")
    for command, own in commands.items():
        table = tables.get(command, {})
        _known(found.path, table, own, of=f"[{command}]")
        shared = {name: value for name, value in top.items() if name in own and (command == "scan" or name not in SCAN_ONLY)}
        values = {str(own[name].name): _value(found.path, name, own[name], value) for name, value in (shared | table).items()}
        if values:
            made[command] = values
    return made


def lines(context: click.Context, found: Found) -> Iterator[str]:
    """What holds for a command, as TOML, with where it is from."""
    for name, option in options(context.command).items():
        value = context.params.get(str(option.name))
        source = context.get_parameter_source(str(option.name))
        where = str(found.path) if source == ParameterSource.DEFAULT_MAP else "default"
        written = _written(value)
        unset = f", {option.show_default}" if isinstance(option.show_default, str) else ""
        yield f"# {name} is not set{unset}" if written is None else f"{name} = {written}  # {where}"


def _name(option: click.Option) -> str:
    return max(option.opts, key=len).lstrip("-")


def _on(path: Path, given: Mapping[str, Any], commands: Mapping[str, Mapping[str, click.Option]]) -> dict[str, Any]:
    """Settings in which a switch that was given by the name that turns it off has the name that turns it on."""
    names = {off.lstrip("-"): name for own in commands.values() for name, option in own.items() for off in option.secondary_opts}
    made: dict[str, Any] = {}
    for name, value in given.items():
        own = names.get(name, name)
        if own in made:
            raise UsageError(f"{path}: {own} and no-{own} are one setting; give one of them")
        if own != name and not isinstance(value, bool):
            raise UsageError(f"{path}: {name}: expected true or false")
        made[own] = value if own == name else not value
    return made


def _known(path: Path, given: Mapping[str, Any], known: Any, *, what: str = "setting", of: str = "") -> None:
    for name in given:
        if name not in known:
            near = get_close_matches(name.replace("_", "-"), list(known), 1)
            hint = f"did you mean {near[0]}?" if near else "`banscan config` lists those that there are"
            raise UsageError(f"{path}: unknown {what} {name!r}{f' in {of}' if of else ''}; {hint}")


def _value(path: Path, name: str, option: click.Option, value: Any) -> Any:
    """A value as the option takes it; paths are relative to the file."""
    several = value if isinstance(value, list) else [value]
    if option.is_flag != isinstance(value, bool) or not all(isinstance(v, str | int | float) for v in several):
        kind = "true or false" if option.is_flag else "a number or a text"
        raise UsageError(f"{path}: {name}: expected {kind}{', or a list of them' if option.multiple else ''}")
    if option.is_flag:
        return value
    if any(isinstance(v, int) and abs(v) > LARGEST for v in several):
        raise UsageError(f"{path}: {name}: expected a number of at most {len(str(LARGEST))} digits")
    if any(isinstance(v, str) and "\0" in v for v in several):
        raise UsageError(f"{path}: {name}: holds a NUL character; expected a text without")
    if isinstance(option.type, click.Path):
        several = [str(path.parent / str(v)) for v in several]
    texts = [f"{v:g}" if isinstance(v, float) else str(v) for v in several]
    made: Any = texts if option.multiple else ",".join(texts)
    try:
        cast = option.type_cast_value(click.Context(click.Command("config")), made)
    except click.BadParameter as error:
        raise UsageError(f"{path}: {name}: {' '.join(error.message.split()).rstrip('.')}") from error
    if isinstance(option, Setting) and option.callback is None:
        try:
            option.declaration.check(cast)
        except UsageError as error:
            raise UsageError(f"{path}: {str(error).removeprefix('--')}") from error
    return made


def _written(value: Any) -> str | None:
    """A value as TOML has it; None for none."""
    if value is None or value == ():
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple):
        return f"[{', '.join(str(_written(v)) for v in value)}]"
    text = os.fspath(value) if isinstance(value, Path) else str(value)
    return f'"{"".join(map(_escaped, text))}"'


def _escaped(character: str) -> str:
    """A character in a text of TOML."""
    if character.isprintable() and character not in '"\\':
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 1 << 16 else f"\\U{code:08x}"
