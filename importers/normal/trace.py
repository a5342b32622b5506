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


# numbers of images for which what was traced has to hold
BATCHES = (*range(2, 300), 430, 512, 1000, 1024, 4096, 10_000, 1 << 16)


def differing(exported: torch.export.ExportedProgram) -> int | None:
    """The first number of images for which a decision that was taken while tracing would be another; None where there is none."""
    image = next(n.meta["val"] for n in reversed(exported.graph.nodes) if n.op == "placeholder")
    batch = image.shape[0]
    if not isinstance(batch, torch.SymInt):
        return None
    symbol = batch.node.expr
    conditions = [g.expr for g in batch.node.shape_env.guards if g.expr.free_symbols == {symbol}]
    return next((size for size in BATCHES if any(str(c.subs(symbol, size)) == "False" for c in conditions)), None)


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
    if (size := differing(exported)) is not None:
        raise ModelError(
            f"{path}: it computes something else for {size} images at once than for others; a classifier must answer each image by itself"
        )
    traced: Any = exported.module(check_guards=False)
    return traced  # type: ignore[no-any-return]
