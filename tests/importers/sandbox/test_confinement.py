"""What a process cannot do any more once it is confined and limited; each in a child, since nothing of it can be taken back."""

import mmap
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from banscan.importers.sandbox import confinement
from banscan.importers.sandbox.budget import GB, Budget

pytest.importorskip("landlockpy")


def ended(task: Callable[[], object]) -> int:
    """The exit status of a child that did this: 0, 1 for an OSError, 2 for a lack of memory, negative for a signal."""
    child = os.fork()
    if child == 0:
        try:
            task()
            os._exit(0)
        except OSError:
            os._exit(1)
        except MemoryError:
            os._exit(2)
        except BaseException:
            os._exit(3)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A folder to read, one to write, and one that is nobody's business, each with a file."""
    made = tmp_path / "model", tmp_path / "own", tmp_path / "other"
    for folder in made:
        folder.mkdir()
        (folder / "file").write_text("text")
    return made


def confined(folders: tuple[Path, Path, Path], task: Callable[[], object]) -> int:
    def run() -> None:
        if confinement.confine([folders[0]], [folders[1]]) is not None:
            os._exit(4)
        task()

    status = ended(run)
    if status == 4:
        pytest.skip("no Landlock here")
    return status


def test_it_reads_the_model_and_writes_its_own_folder(folders: tuple[Path, Path, Path]) -> None:
    assert confined(folders, lambda: (folders[0] / "file").read_text()) == 0
    assert confined(folders, lambda: (folders[1] / "new").write_text("text")) == 0
    assert (folders[1] / "new").read_text() == "text"


@pytest.mark.parametrize("which", [0, 2])
def test_it_writes_nothing_else(folders: tuple[Path, Path, Path], which: int) -> None:
    for task in (
        lambda: (folders[which] / "file").write_text("changed"),
        lambda: (folders[which] / "new").write_text("made"),
        lambda: (folders[which] / "file").unlink(),
        lambda: (folders[which] / "file").rename(folders[1] / "moved"),
        lambda: os.truncate(folders[which] / "file", 0),
    ):
        assert confined(folders, task) == 1
    assert [p.read_text() for p in folders[which].iterdir()] == ["text"]


def test_it_reads_nothing_else(folders: tuple[Path, Path, Path]) -> None:
    link = folders[1] / "link"
    link.symlink_to(folders[2] / "file")
    for path in (folders[2] / "file", link, Path("/etc/passwd"), Path("/proc/self/environ")):
        assert confined(folders, path.read_bytes) == 1, path


def test_it_starts_no_program_and_no_connection(folders: tuple[Path, Path, Path]) -> None:
    assert confined(folders, lambda: os.execv(sys.executable, [sys.executable, "-c", ""])) == 1
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        address = listening.getsockname()
        assert ended(lambda: socket.create_connection(address, 1)) == 0
        assert confined(folders, lambda: socket.create_connection(address, 1)) == 1


def test_memory_is_limited_and_granted() -> None:
    def take(granted: int) -> None:
        confinement.limit(Budget(seconds=60, memory=GB // 8, more=GB // 4))
        confinement.grant(outside=granted)
        try:  # beside what the process has freed and still holds
            mmap.mmap(-1, GB // 4).close()
        except OSError as error:
            raise MemoryError from error

    assert ended(lambda: take(0)) == 2
    assert ended(lambda: take(GB // 4)) == 0


def test_time_is_limited() -> None:
    def spin() -> None:
        confinement.limit(Budget(seconds=0, memory=GB))
        while True:
            pass

    assert ended(spin) < 0


def test_a_large_file_cannot_be_written(tmp_path: Path) -> None:
    def fill() -> None:
        confinement.limit(Budget(seconds=60, memory=0))
        with (tmp_path / "file").open("wb") as file:
            file.truncate(1 << 50)

    assert ended(fill) != 0
