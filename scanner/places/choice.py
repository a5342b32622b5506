"""Which files of a place are fetched: one model that banscan reads and the weights beside it, never anything else."""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from banscan.errors import ModelError, UsageError

# how exporters call the file beside `model.onnx` that holds its weights
WEIGHTS = re.compile(r"[._]data(?:[._-]?\d+)?")
# models that are named one by one
NAMED = 8


def chosen(place: str, names: Iterable[str], inside: str | None) -> tuple[str, ...]:
    """The model's file, and those of weights beside it.

    Args:
        place: what errors call the place; a file's name behind it names that file.
        names: of all files there, with `/` between folders; they come from the place and may be anything.
        inside: the file, or the folder that it is in; None for all of the place.

    Raises:
        UsageError: there are several models, or none of that name.
        ModelError: there is none.
    """
    from banscan.importers.formats import FORMATS

    suffixes = tuple(suffix for format_ in FORMATS for suffix in format_.suffixes)
    known = sorted({name for name in names if _harmless(name)})
    models = [name for name in known if PurePosixPath(name).suffix.lower() in suffixes]
    expected = f"expected a file that ends in {', '.join(suffixes)}"
    if inside is not None:
        own = [name for name in models if name == inside or name.startswith(f"{inside}/")]
        if not own and inside in known:
            raise ModelError(f"{place}/{inside}: no model file; {expected}")
        if not own:
            raise UsageError(f"{place}: holds no model file {inside}; {f'it holds {_listed(models)}' if models else expected}")
        models = own
    if not models:
        weights = next((name for name in known if name.endswith((".safetensors", ".bin", ".h5", ".keras", ".pth", ".ckpt"))), None)
        why = "" if weights is None else f", and {weights} is not read"
        raise ModelError(f"{place}: holds no model file{why}; {expected}, as an export to ONNX writes it")
    if len(models) > 1:
        raise UsageError(f"{place}: holds {len(models)} model files, {_listed(models)}; name one: {place}/{models[0]}")
    (model,) = models
    return (model, *(name for name in known if name.startswith(model) and WEIGHTS.fullmatch(name[len(model) :])))


def _harmless(name: str) -> bool:
    """Whether a name stays below the folder that it is fetched to."""
    return not name.startswith("/") and not {"", ".", ".."}.intersection(name.split("/")) and "\\" not in name and "\0" not in name


def _listed(models: list[str]) -> str:
    return ", ".join(models if len(models) <= NAMED else [*models[:NAMED], "…"])
