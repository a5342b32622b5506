"""Memory that a tensor leaves is kept for the next one, instead of being given back to the system and asked for anew.

glibc gives large blocks back as soon as they are free, and every page that is asked for again costs an interrupt. On an AMD EPYC, one
thread, eight images of 224 x 224 pixels through MobileNetV2 with a gradient: 108 ms an image so, 82 ms with this, none of it for pages.
"""

import ctypes
import os
from functools import cache

# of `mallopt`: the free memory at the heap's end that is given back, and the blocks that are not of the heap
TRIM, MMAP = -1, -3
# blocks above this size, such as a set of images, still go back at once
LARGE, KEPT = 64 << 20, 512 << 20
# how somebody else says it, and another allocator is chosen
SAID = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_MAX_")


@cache
def keep() -> bool:
    """Keeps freed memory for as long as the process runs, unless somebody said otherwise; whether it does. Only glibc can."""
    if any(name in os.environ for name in SAID) or "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    try:
        libc = ctypes.CDLL(None)
        known = libc.gnu_get_libc_version is not None
        return known and bool(libc.mallopt(MMAP, LARGE)) and bool(libc.mallopt(TRIM, KEPT))
    except (OSError, AttributeError, TypeError):  # another system, or another C library
        return False
