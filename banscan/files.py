"""Files that appear under their names only when they are whole."""

import atexit
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from banscan.errors import BanscanError, UsageError

# of a name, within that of the folder beside it; systems allow 255 bytes
PART = 30
# what somebody who gave the path can change; anything else is the system's
WRONG_PATH = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP})


class Scratch:
    """A temporary folder that goes when its block ends, or this process: a fork of it inherits the wish to remove it, but not the right."""

    def __init__(self) -> None:
        self.place, self.owner = Path(tempfile.mkdtemp(prefix="banscan-")), os.getpid()
        atexit.register(self.remove)

    def __enter__(self) -> Path:
        return self.place

    def __exit__(self, *raised: object) -> None:
        self.remove()
        atexit.unregister(self.remove)

    def remove(self) -> None:
        """Removes it, where it is this process's; at the exit once more, for those that still wrote there."""
        if self.owner == os.getpid():
            shutil.rmtree(self.place, ignore_errors=True)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A place for `path` in a temporary folder beside it.

    When the block ends, what was written there and beside it takes its own name beside `path`, `path` itself last; a link stays, and the
    file that it leads to is replaced. When it fails, all of it is removed. A device or a pipe is its own place.

    Raises:
        UsageError: the path is wrong; what was there before is untouched.
        BanscanError: the system cannot write it, for want of room for example; likewise.
    """
    if special(path):
        try:
            yield path
        except OSError as error:
            raise unwritable(path, error) from error
        return
    real = Path(os.path.realpath(path))
    try:
        with tempfile.TemporaryDirectory(dir=real.parent, prefix=_prefix(real)) as folder:
            place = Path(folder) / real.name
            yield place
            for made in sorted(place.parent.iterdir(), key=lambda made: made == place):
                made.replace(real.with_name(made.name))
    except OSError as error:
        raise unwritable(path, error) from error


def check(path: Path) -> None:
    """Tries whether `whole` could write a file there.

    Raises:
        UsageError, BanscanError: as `whole` does.
    """
    try:
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if not special(path):
            real = Path(os.path.realpath(path))
            with tempfile.TemporaryDirectory(dir=real.parent, prefix=_prefix(real)) as folder:
                (Path(folder) / real.name).touch()
    except OSError as error:
        raise unwritable(path, error) from error


def check_file(path: Path, expected: str) -> None:
    """Raises UsageError for what is no file that can be read, with what was `expected` in its place."""
    if not os.path.exists(path):  # also of a name that no system takes: too long, or with a NUL character
        raise UsageError(f"{path}: no such file; {expected}")
    if not path.is_file():
        raise UsageError(f"{path}: is {'a folder' if path.is_dir() else 'no file'}; {expected}")
    try:
        path.open("rb").close()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); {expected}") from error


def check_model(path: Path) -> None:
    """Raises UsageError where there is no model; what a folder is, or what a file holds, tells its reader."""
    if not path.is_dir():
        check_file(path, "expected the path of a model")


def check_folder(path: Path, expected: str) -> None:
    """Raises UsageError for what is no folder that can be listed, with what was `expected` in its place."""
    if not path.is_dir():
        raise UsageError(f"{path}: {'is a file' if os.path.exists(path) else 'no such folder'}; {expected}")
    try:
        os.scandir(path).close()
    except OSError as error:
        raise UsageError(f"{path}: may not be read; {expected}") from error


def special(path: Path) -> bool:
    """Whether there is something that is neither a file nor a folder: a device, a pipe."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def unwritable(path: Path, error: OSError) -> BanscanError:
    """The error for a file that cannot be written."""
    sentence = f"{path}: cannot be written ({error.strerror or error}); "
    if error.errno in WRONG_PATH:
        return UsageError(f"{sentence}expected a file in a folder that exists and may be written to; nothing was changed")
    return BanscanError(f"{sentence}nothing was changed")


def _prefix(path: Path) -> str:
    return f".{path.name[:PART]}."
