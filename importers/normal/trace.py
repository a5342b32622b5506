"""A module that interprets a model file, recorded as an ATen graph with a free batch."""

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from banscan.errors import BanscanError, ModelError

# how torch says that a graph takes the number of images that it was traced with only
FIXED = "Constraints violated"


class FixedBatchError(ModelError):
    """A graph that takes a fixed number of images only."""


def export(path: Path, module: nn.Module, example: Tensor) -> fx.GraphModule:
    """Traces `module` on an example batch [2, ...] of images.

    Raises:
        ModelError: it cannot be traced; FixedBatchError where it is only with the batch size of the example.
    """
    # torch writes tracebacks of its own for what becomes one sentence here
    logging.getLogger("torch._subclasses.fake_tensor").setLevel(logging.CRITICAL)
    try:
        exported = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},), strict=False)
    except BanscanError as error:
        raise type(error)(f"{path}: {error}") from error
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        if FIXED in reason:
            raise FixedBatchError(f"{path}: the graph takes a fixed number of images only; export it with a dynamic batch axis") from error
        raise ModelError(f"{path}: the graph cannot be traced ({reason}); export the model again") from error
    traced: Any = exported.module(check_guards=False)
    return traced  # type: ignore[no-any-return]
