"""Libraries that take paths in UTF-8 only, and files that are called otherwise."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def path_of(path: Path) -> Iterator[Path]:
    """The path, or where it is no text in UTF-8, that of a link to the file, for as long as the block lasts.

    Files beside it are found from the link where the file's own name is text.
    """
    if _is_text(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="banscan-") as folder:
        link = Path(folder) / "link"
        if _is_text(path.name):
            link.symlink_to(path.parent.resolve())
            yield link / path.name
        else:
            link.symlink_to(path.resolve())
            yield link


def _is_text(path: str | os.PathLike[str]) -> bool:
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True
