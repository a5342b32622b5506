"""Loading torch and what goes with it into a process of banscan's own."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def loading() -> Iterator[None]:
    """While this is open nothing is looked through for garbage, and what was loaded in it never is.

    Libraries leave hundreds of thousands of objects that stay; looking at all of them again and again takes a third of the time of loading.
    """
    before, first = gc.isenabled(), gc.get_freeze_count() == 0
    gc.disable()
    try:
        yield
        if first:  # later, what scans left behind would stay as well
            gc.freeze()
    finally:
        if before:
            gc.enable()
