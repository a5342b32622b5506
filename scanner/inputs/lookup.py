"""Which file a row of a table means."""

import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from banscan.scanner.inputs.names import unpadded

# forms of a name, and files of the same one that a row is looked for among
FORMS, ALIKE = 4, 100


class Lookup:
    """Which file a row means: by its path from the end, its name, its name without suffix, or that without leading zeros."""

    def __init__(self, folder: Path, files: list[Path]) -> None:
        self.around = folder.resolve().parts
        self.forms: list[dict[str, list[Path]]] = [defaultdict(list) for _ in range(FORMS)]
        for p in files:
            for form, key in zip(self.forms, _keys((*self.around, *p.parts)), strict=True):
                form[key].append(p)

    def of(self, value: str, *, by_name: bool = False) -> tuple[Path, int] | None:
        """The one file that a row means, and how many folders of its path agree; None where there is none, or several.

        Args:
            by_name: only by its whole name.
        """
        wanted = PurePosixPath(value.strip().replace("\\", "/")).parts
        if not wanted:
            return None
        for form, key in list(zip(self.forms, _keys(wanted), strict=True))[: 2 if by_name else FORMS]:
            found = form.get(key, ())
            if len(found) > ALIKE:
                return None
            if found:
                ranked = sorted(((self._agree(p, wanted), p) for p in found), reverse=True)
                return None if len(ranked) > 1 and ranked[0][0] == ranked[1][0] else (ranked[0][1], ranked[0][0])
        return None

    def _agree(self, path: Path, wanted: Sequence[str]) -> int:
        """Folders that two paths have in common, from the end."""
        own = (*self.around, *path.parts[:-1])
        count = 0
        for a, b in zip(reversed(own), reversed(wanted[:-1]), strict=False):
            if a.casefold() != b.casefold():
                break
            count += 1
        return count


def _keys(parts: Sequence[str]) -> tuple[str, ...]:
    """The forms of a file's name that rows are looked up by, the strictest first."""
    *_, name = near = [unicodedata.normalize("NFC", part).casefold() for part in parts[-2:]]
    stem = PurePosixPath(name).stem
    return "/".join(near), name, stem, unpadded(stem) if stem.isdigit() else stem
