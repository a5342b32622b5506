"""Environment variables for as long as something is timed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def switched(**values: str) -> Iterator[None]:
    """Sets some, and puts back what was there."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
