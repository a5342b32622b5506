"""What was measured before, kept for the next process: one small JSON file a question, in a room of the user's cache folder.

A file is read as text and compared, never executed; one that is broken, or answers another question, counts as none and is written anew.
"""

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

# a file that is longer is none of ours
MOST = 1 << 16


def folder(room: str) -> Path | None:
    """$XDG_CACHE_HOME/banscan/ROOM, by default under ~/.cache; None where nobody says whose home it is."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(given):
        return Path(given) / "banscan" / room
    try:
        return Path.home() / ".cache/banscan" / room
    except RuntimeError:
        return None


def read(room: str, question: dict[str, Any]) -> str | None:
    """The answer to a question of plain values, or None."""
    path = _path(room, question)
    try:
        if path is None or not path.is_file() or path.stat().st_size > MOST:
            return None
        found = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or found.get("question") != question:
        return None
    answer = found.get("answer")
    return answer if isinstance(answer, str) else None


def write(room: str, question: dict[str, Any], answer: str, why: dict[str, Any] | None = None) -> None:
    """Keeps an answer, and for whoever looks into the file why it is one. Where the folder cannot be written to, nothing is kept."""
    path = _path(room, question)
    if path is None:
        return
    text = json.dumps({"question": question, "answer": answer, "why": why or {}}, indent=1) + "\n"
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # whole or not at all: another process may read it
        handle, part = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "w") as file:
                file.write(text)
            os.replace(part, path)
        except OSError:
            os.unlink(part)
            raise


def _path(room: str, question: dict[str, Any]) -> Path | None:
    place = folder(room)
    name = hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()
    return None if place is None else place / f"{name[:32]}.json"
