"""Sizes of memory as people write them."""

import re

from banscan.errors import UsageError

# bytes by the unit's name in small letters, its B left away
UNITS = {"m": 10**6, "g": 10**9, "t": 10**12, "mi": 2**20, "gi": 2**30, "ti": 2**40}
# with less, torch and a small model have no room
LEAST = 10**9


def size(text: str) -> int:
    """Bytes of a size with its unit, as 3GB, 1.5 GB, 3000MB or 4GiB.

    Raises:
        UsageError: it is none, or less than a scan takes in any case.
    """
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?) ?([mgt]i?)b?", text.strip().lower(), re.ASCII)
    count = int(float(found[1]) * UNITS[found[2]]) if found else 0
    if count < LEAST:
        raise UsageError(f"--memory {text}: expected a size of at least 1GB with its unit, as 3GB or 4GiB")
    return count
