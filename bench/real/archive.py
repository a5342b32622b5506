"""Single files out of packages, which are read and never unpacked or run."""

import tarfile
import zipfile
from pathlib import Path

from banscan.errors import UsageError
from bench.real.table import inside

# no model of the tables is larger; what says that it is would fill the memory
LARGEST = 512 << 20


def member(archive: Path, name: str) -> bytes:
    """The content of one file in a wheel, zip or gzipped tar file.

    Raises:
        UsageError: a name that leads outside, no such file, a link, or one that is too large.
    """
    if not inside(name):
        raise UsageError(f"{archive.name}: {name!r} leads outside; expected a path within the archive")
    try:
        return _zipped(archive, name) if zipfile.is_zipfile(archive) else _tarred(archive, name)
    except (KeyError, tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise UsageError(f"{archive.name}: holds no file {name} that can be read; download it again") from error


def _zipped(archive: Path, name: str) -> bytes:
    with zipfile.ZipFile(archive) as package:
        info = package.getinfo(name)
        _check(archive, name, info.file_size, info.is_dir())
        with package.open(info) as file:
            return file.read(LARGEST)


def _tarred(archive: Path, name: str) -> bytes:
    with tarfile.open(archive) as package:
        info = package.getmember(name)
        file = package.extractfile(info) if info.isreg() else None
        _check(archive, name, info.size, file is None)
        assert file is not None
        return file.read()


def _check(archive: Path, name: str, size: int, special: bool) -> None:
    if special or size > LARGEST:
        raise UsageError(
            f"{archive.name}: {name} is {'no plain file' if special else f'{size:,} bytes'}; expected a file up to {LARGEST:,}"
        )
