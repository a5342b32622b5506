"""A part of many models for one machine, and the parts put together again."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from banscan.errors import UsageError
from banscan.files import check_folder, whole
from banscan.scanner.fleet.stored import Stored, found, place

SCHEMA = "banscan-shard/1"
EXPECTED = "expected I/N, as 2/8; auto in a Slurm array; or auto/N in a Kubernetes Indexed Job of N"
RESULTS = "expected a folder of results that `banscan scan --shard I/N --results DIR` wrote"
# parts that anybody makes of a list
MOST = 1_000_000
T = TypeVar("T")


@dataclass(frozen=True)
class Shard:
    """The `number`th part, counted from 1, `of` so many."""

    number: int = 1
    of: int = 1

    def own(self, everything: Sequence[T]) -> tuple[T, ...]:
        """This part of a list that is the same on all machines."""
        return tuple(everything[self.number - 1 :: self.of])

    @property
    def file(self) -> str:
        """The name of the file that says that this part is done."""
        return f"shard-{self.number}-of-{self.of}.json"


def parse(text: str | None, environment: Mapping[str, str]) -> Shard:
    """The shard that --shard names; None for the whole.

    Raises:
        UsageError: it names none.
    """
    if text is None:
        return Shard()
    first, _, second = text.partition("/")
    if first == "auto":
        number, of = _given(second, environment)
    else:
        number, of = first, second
    if not (re.fullmatch(r"[0-9]{1,6}", number) and re.fullmatch(r"[0-9]{1,6}", of) and 1 <= int(number) <= int(of)):
        raise UsageError(f"--shard {text}: {EXPECTED}{f'; here that would be {number}/{of}' if first == 'auto' else ''}")
    return Shard(int(number), int(of))


def _given(of: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """Number and count from a scheduler: Slurm counts from SLURM_ARRAY_TASK_MIN on, Kubernetes from 0."""
    if "SLURM_ARRAY_TASK_ID" in environment:
        own, least = environment["SLURM_ARRAY_TASK_ID"], environment.get("SLURM_ARRAY_TASK_MIN", "0")
        count = of or environment.get("SLURM_ARRAY_TASK_COUNT", "")
        return _plus(own, 1 - int(least) if least.isdecimal() else 1), count
    if "JOB_COMPLETION_INDEX" in environment:
        return _plus(environment["JOB_COMPLETION_INDEX"], 1), of
    raise UsageError(f"--shard auto: neither SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set; {EXPECTED}")


def _plus(text: str, more: int) -> str:
    return str(int(text) + more) if text.isdecimal() else text


def listing(models: Sequence[Path]) -> str:
    """What tells lists of models apart."""
    return hashlib.sha256("\0".join(map(str, models)).encode("utf-8", "surrogatepass")).hexdigest()


def write(folder: Path, shard: Shard, models: Sequence[Path], done: Sequence[tuple[Path, str | None, str | None]]) -> None:
    """Says that a shard is done: of every model its path, its SHA-256, and the sentence where nothing of it was kept."""
    rows = [{"model": str(path), "sha256": digest, "error": error} for path, digest, error in done]
    document = {"schema": SCHEMA, "shard": shard.number, "of": shard.of, "models": len(models), "list": listing(models), "done": rows}
    with whole(folder / shard.file) as made:
        made.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def merge(folder: Path) -> tuple[Stored, ...]:
    """All results of all shards below a folder.

    Raises:
        UsageError: a shard is missing, there twice, or of another run; a result of one is missing or damaged.
    """
    check_folder(folder, RESULTS)
    shards = sorted(folder.rglob("shard-*-of-*.json"))
    if not shards:
        raise UsageError(f"{folder}: no finished shard in it; {RESULTS}")
    read = [(path, _read(path)) for path in shards]
    counts = sorted({document["of"] for _, document in read})
    if len(counts) > 1:
        raise UsageError(f"{folder}: shards of {' and of '.join(map(str, counts))}, of different runs; merge one run at a time")
    seen = Counter(document["shard"] for _, document in read)
    missing = [str(number) for number in range(1, counts[0] + 1) if not seen[number]]
    if missing:
        few = len(missing) == 1
        which = f"shard {_some(missing)} of {counts[0]} is" if few else f"shards {_some(missing)} of {counts[0]} are"
        raise UsageError(f"{folder}: {which} missing; scan {'it' if few else 'them'}, then merge again")
    for number, count in seen.items():
        if count > 1:
            twice = ", ".join(str(path) for path, document in read if document["shard"] == number)
            raise UsageError(f"{folder}: shard {number} of {counts[0]} is there {count} times ({twice}); keep one")
    if len({document["list"] for _, document in read}) > 1:
        raise UsageError(f"{folder}: the shards were made from different lists of models; scan again what changed")
    made = [_stored(path, row) for path, document in read for row in document["done"]]
    return tuple(sorted(made, key=lambda stored: str(_model(stored))))


def _some(numbers: list[str]) -> str:
    return ", ".join(numbers if len(numbers) <= 20 else [*numbers[:20], "…"])


def _model(stored: Stored) -> Path:
    from banscan.scanner.findings import Failure

    return stored.scanned.path if isinstance(stored.scanned, Failure) else stored.scanned.model.path


def _read(path: Path) -> dict[str, Any]:
    try:
        if not path.is_file():  # a pipe would be waited for
            raise ValueError("no file")
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        numbers = document["shard"], document["of"]
        good = document["schema"] == SCHEMA and all(type(n) is int for n in numbers) and 1 <= numbers[0] <= numbers[1] <= MOST
        good = good and isinstance(document["list"], str) and isinstance(document["done"], list) and all(map(_is_row, document["done"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        good = False
    if not good:
        raise UsageError(f"{path}: damaged, or no shard of banscan's; scan that shard again")
    return document


def _is_row(row: dict[str, Any]) -> bool:
    """Whether a row names a model and a result in the shard's own folder, or says why there is none."""
    digest, error = row["sha256"], row["error"]
    named = digest is None or (isinstance(digest, str) and re.fullmatch("[0-9a-f]{64}", digest) is not None)
    return isinstance(row["model"], str) and named and (isinstance(error, str) or (error is None and digest is not None))


def _stored(manifest: Path, row: dict[str, Any]) -> Stored:
    from banscan.scanner.findings import Failure

    model, digest = Path(row["model"]), row["sha256"]
    if row["error"] is not None:
        return Stored(Failure(model, digest, row["error"], 2), None)
    file = place(manifest.parent, str(digest))
    stored = found(file, model, str(digest))
    if stored is None:
        raise UsageError(f"{file}: the result of {model} is missing or damaged; scan that shard again")
    return stored
