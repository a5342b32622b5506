"""The versions that matter, without loading what they are of."""

import platform
from collections.abc import Iterator

from banscan.version import __version__

NEEDED, OPTIONAL = ("torch", "onnx", "onnxruntime", "numpy"), ("triton",)


def version(name: str) -> str | None:
    """That of an installed package."""
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def told() -> str:
    """banscan's own version in the first line, the others in the second."""
    return f"banscan, version {__version__}\n{', '.join(_others())}"


def _others() -> Iterator[str]:
    yield f"Python {platform.python_version()}"
    for name in (*NEEDED, *OPTIONAL):
        found = version(name)
        if found is not None or name in NEEDED:
            yield f"{name} {found or 'not installed'}"
