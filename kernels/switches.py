"""Environment variables that are one of a few words."""

import os

from banscan.errors import UsageError


def switch(name: str, values: tuple[str, ...]) -> str | None:
    """The value of a variable, or None where it is not set.

    Raises:
        UsageError: it is none of these.
    """
    asked = os.environ.get(name)
    if asked is not None and asked not in values:
        raise UsageError(f"{name} is {asked!r}; expected one of {', '.join(sorted(values))}")
    return asked
