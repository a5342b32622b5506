"""TracedModel → file: the original file with other values in its weights, and nothing else changed."""

from pathlib import Path

from torch import Tensor

from banscan.errors import ModelError, UsageError
from banscan.importers import formats
from banscan.importers.model import Source, TracedModel


def check_writable(model: TracedModel, *, dequantise: bool) -> None:
    """Raises ModelError for a file whose weights cannot be replaced, before any work is done on them."""
    source = model.source
    if formats.of(source).write is None:
        raise _unwritable(source)
    if source.precision == "8 bits" and not dequantise:
        raise ModelError(
            f"{source.path}: its weights have 8 bits, which fine-tuning would leave; with --dequantize a float32 model is written"
        )


def check_name(model: TracedModel, output: Path) -> None:
    """Raises UsageError for an output that is called like a file of another format; one without a suffix may be of any."""
    own, suffix = formats.of(model.source), output.suffix.lower()
    if suffix not in ("", model.source.path.suffix.lower(), *own.suffixes):
        wanted = " or ".join(own.suffixes)
        raise UsageError(f"{output}: it will be {own.name} like {model.source.path}; expected a name that ends in {wanted}")


def write(model: TracedModel, weights: dict[str, Tensor], path: Path) -> None:
    """Writes the model's own file with these `weights` in it, under their names in the traced graph, to `path`.

    It is written where it is told: `files.whole` has a place until it is complete.

    Raises:
        ModelError: a weight that is not held by the file itself, or a format that is not written.
        OSError: the file cannot be written.
    """
    source = model.source
    own = formats.of(source).write
    if own is None:
        raise _unwritable(source)
    own(source, {source.weights[name]: value.detach() for name, value in weights.items()}, path)


def _unwritable(source: Source) -> ModelError:
    return ModelError(f"{source.path}: a {source.format} file cannot be written back; export the model as ONNX and repair that")
