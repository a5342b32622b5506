"""Files that appear under their names only when they are whole."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from banscan.errors import UsageError


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A place for `path` in a temporary folder beside it.

    When the block ends, what was written there and beside it takes its own name beside `path`, `path` itself last. When it fails, all of it
    is removed.

    Raises:
        UsageError: it cannot be written; what was there before is untouched.
    """
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            place = Path(folder) / path.name
            yield place
            for made in sorted(place.parent.iterdir(), key=lambda made: made == place):
                made.replace(path.with_name(made.name))
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror or error}); nothing was changed") from error
