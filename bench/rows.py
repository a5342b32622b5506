"""Files of results, one JSON object a line; whoever writes one goes on where an earlier run stopped."""

import json
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

# rows of models that settings may be tried on, and of those that only measure
LOOKED, HELD = ("tune", "kinds-tune"), ("held", "kinds-held")
# an attack that works less often than this is no backdoor that anything can be asked to find or to take out
WORKING = 0.9


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, which are not to be changed; none where it does not exist yet."""
    if not path.exists():
        return []
    state = path.stat()
    return list(_rows(path, state.st_mtime_ns, state.st_size))


@lru_cache(maxsize=64)
def _rows(path: Path, _changed: int, _size: int) -> tuple[dict[str, Any], ...]:
    """Those of a file in this state: all pages are of the same few files."""
    return tuple(json.loads(line) for line in path.read_text().splitlines())


def append(path: Path, row: dict[str, Any]) -> None:
    """Adds one row."""
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n")


def arch(row: dict[str, Any]) -> str:
    """Data set and architecture, from the model's name."""
    return " ".join(row["name"].split("-")[:2])


def attack(recipe: dict[str, Any]) -> str:
    """What a model was trained with, from its recipe or a row that holds the same."""
    several = recipe.get("several", 1)
    how = ", all-to-all" if recipe["target"] is None else f", {several} targets" if several > 1 else ""
    return "clean" if recipe["attack"] == "none" else f"{recipe['attack']}{how}"


def succeeds(recipe: dict[str, Any], asr: float | None) -> bool:
    """Whether a model has a backdoor, and one that works."""
    return recipe["attack"] != "none" and asr is not None and asr >= WORKING


def commit() -> str:
    """The commit that is measured; "unknown" outside a repository."""
    try:
        done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() or "unknown"
