"""What a run reads outlasts it: no output may take the place of a model, of its weights, of an image or of a table."""

import mmap
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from banscan.errors import UsageError
from banscan.files import special

# how ONNX names a file with weights: a pair of texts in protobuf's form, "location" and the path, whose length comes first
LOCATION = re.compile(rb"\x0a\x08location\x12([\x00-\x7f]|[\x80-\xff][\x00-\x7f])", re.DOTALL)
# what a repair and a calibration write beside their output
BESIDE = (".partial", ".data")
# files that one model keeps weights in; a hostile one may name millions
MOST = 10_000


def check(output: Path | None, files: Iterable[Path | None], folders: Iterable[Path] = (), *, beside: bool = False) -> None:
    """Raises UsageError for an output that is one of the files, is in one of the folders, or holds the weights of an ONNX file among them.

    Links, hard links and other spellings of a path are seen through.

    Args:
        beside: whether something is written beside the output, which then has to be a file.
    """
    if output is None:
        return
    if beside and special(output):
        raise UsageError(f"{output}: is no file; give the output a name of its own")
    written = [path for path in (output, *(_beside(output) if beside else ())) if os.path.isfile(path)]
    if not written:
        return
    own = {_identity(path): path for path in written}
    given = [path for path in files if path is not None]
    for path, why in (*((f, f"it is read{'' if f == output else f' as {f}'}") for f in given), *_weights(given), *_inside(folders)):
        if os.path.isfile(path) and (found := own.get(_identity(path))) is not None:
            raise UsageError(f"{found}: would be overwritten, but {why}; give the output another name")


def _beside(output: Path) -> Iterator[Path]:
    if output.parent.is_dir():
        yield from (path for path in output.parent.iterdir() if path.name.startswith(f"{output.name}.") and path.suffix in BESIDE)


def _identity(path: Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _weights(models: list[Path]) -> Iterator[tuple[Path, str]]:
    """The files that ONNX files among these keep weights in, found without reading a graph."""
    for model in models:
        if not os.path.isfile(model) or not os.path.getsize(model):
            continue
        with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            seen = set[bytes]()
            for found in LOCATION.finditer(data):
                low, *high = found[1]
                length = low if not high else (low & 0x7F) | high[0] << 7
                seen.add(bytes(data[found.end() : found.end() + length]))
                if len(seen) > MOST:
                    break
        yield from ((model.parent / os.fsdecode(location), f"{model} keeps weights in it") for location in seen)


def _inside(folders: Iterable[Path]) -> Iterator[tuple[Path, str]]:
    """All files of these folders, links followed."""
    seen = set[tuple[int, int]]()
    for folder in folders:
        for place, inner, names in os.walk(folder, followlinks=True):
            if (own := _identity(Path(place))) in seen:
                inner.clear()  # a link back, or a second one
                continue
            seen.add(own)
            yield from ((Path(place) / name, f"it lies in {folder}, which is read") for name in names)
