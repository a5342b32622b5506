"""The command line's options, made from the declarations of the settings."""

import types
import typing
from collections.abc import Callable, Container
from dataclasses import Field
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from banscan.scanner.settings import Declared, declared

T = TypeVar("T")
TYPES: dict[Any, Any] = {Path: click.Path(path_type=Path), int: int, float: float, str: str}
F = TypeVar("F", bound=Callable[..., Any])


class Setting(click.Option):
    """An option made from a declaration, which says what its values may be."""

    def __init__(self, *names: Any, declaration: Declared, **about: Any) -> None:
        super().__init__(*names, **about)
        self.declaration = declaration

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The values that it may have, where they are listed."""
        own = [CompletionItem(value) for value in self.declaration.choices or () if value.startswith(incomplete)]
        return own or super().shell_complete(ctx, incomplete)


def numbers(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...] | None:
    """One number or several, separated by commas."""
    try:
        return None if value is None else tuple(float(v) for v in value.split(","))
    except ValueError:
        raise click.BadParameter("expected one number or three, separated by commas") from None


def options_of(*kinds: type, only: Container[str] | None = None) -> Callable[[F], F]:
    """Gives a command an option for every setting of these classes, or for those of these names."""

    def decorate(command: F) -> F:
        for kind in reversed(kinds):
            for field, declaration in reversed(list(declared(kind))):
                if only is None or field.name in only:
                    command = _option(kind, field, declaration)(command)
        return command

    return decorate


def built(kind: type[T], values: dict[str, Any]) -> T:
    """The settings of a class from the values of its options; one that the command does not have is as declared."""
    return kind(**{field.name: values[name] for field, _ in declared(kind) if (name := _name(kind, field)) in values})


def unlike(kind: type, values: dict[str, Any]) -> tuple[str, ...]:
    """The options of a class, as they are written, that were given another value than declared."""
    names = ((field, _name(kind, field), declaration.flag) for field, declaration in declared(kind))
    return tuple(f"--{flag}" for field, name, flag in names if name in values and values[name] != field.default)


def _name(kind: type, field: Field[Any]) -> str:
    """The name of an option's value; two classes may call a setting alike."""
    return f"{kind.__name__.lower()}_{field.name}"


def _option(kind: type, field: Field[Any], declaration: Declared) -> Callable[..., Any]:
    value = _type(field)
    switch = value is bool
    first, _, second = declaration.flag.partition("/")
    flags = f"--{first}/--{second}" if second else f"--{first}"
    among = None if declaration.choices is None else f"[{'|'.join(declaration.choices)}]"
    about: dict[str, Any] = {"help": declaration.help, "metavar": declaration.metavar or among, "default": field.default}
    about["show_default"] = (
        declaration.unset if declaration.unset is not None else field.default is not None and (not switch or bool(second))
    )
    if switch:
        about |= {"is_flag": True, "metavar": None}
    elif value in TYPES:
        about["type"] = TYPES[value]
    else:
        about["callback"] = numbers
    return click.option(flags, _name(kind, field), cls=Setting, declaration=declaration, **about)


def _type(field: Field[Any]) -> Any:
    """The type of a setting's value where there is one."""
    kind = field.type
    inner = typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,)
    return next(k for k in inner if k is not type(None))
