"""A batch size that an exporter wrote into a graph, made free: where constants name it, they get the batch that is traced."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from banscan.importers.onnx.operators.registry import Call, axes_of

MIXED = "it puts the values of several images between each other, where its file has one; export it with a dynamic batch axis"


def reshaped(before: list[Any], target: list[Any], batch: int | None) -> list[Any]:
    """The sizes of a reshape, with the free batch in place of the one that the file fixes.

    The values keep their order, so the axes fall into groups with the same number of values on both sides. The batch of a group goes
    into the first axis of the group's new ones, where all that reads it takes the values of an image to lie together.

    Raises:
        ValueError: they do not.
    """
    free = [i for i, e in enumerate(before) if isinstance(e, torch.SymInt)]
    if batch is None or not free or any(isinstance(e, torch.SymInt) for e in target):
        return target
    old, new = [_fixed(e, batch) for e in before], list(target)
    if new.count(-1) == 1:
        rest = -math.prod(new)
        if rest <= 0 or math.prod(old) % rest:
            return target
        new[new.index(-1)] = math.prod(old) // rest
    if min(new, default=0) < 1 or math.prod(old) != math.prod(new):
        return target
    i = j = 0
    result = list(new)
    while i < len(old):
        first, start = i, j
        left, right = old[i], new[j] if j < len(new) else 1
        i, j = i + 1, j + 1
        while left != right:
            if left < right:
                left, i = left * old[i], i + 1
            else:
                right, j = right * new[j], j + 1
        symbols = [before[k] for k in range(first, i) if k in free]
        if not symbols:
            continue
        if start >= len(new):
            if math.prod(new) > 1:
                raise ValueError(MIXED)
            return target
        if any(math.prod(old[first:k]) > 1 for k in range(first, i) if k in free):
            raise ValueError(MIXED)
        # a batch of one may stand alone in front of the group that it was in
        share = math.prod(symbols) if len(symbols) > 1 else symbols[0]
        fixed = math.prod(old[k] for k in range(first, i) if k in free)
        result[start] = share if new[start] == fixed else share * new[start] // fixed
    return result


def _fixed(size: Any, batch: int) -> int:
    """A size with the file's own batch."""
    if not isinstance(size, torch.SymInt):
        return int(size)
    expression = size.node.expr
    return int(expression.subs(dict.fromkeys(expression.free_symbols, batch)))


def apart(call: Call, x: Tensor) -> Tensor | None:
    """[N, rows, ...] of [N * rows, ...], which a file made for one image has as [rows, ...]; None for anything else."""
    size = x.shape[0] if x.dim() else None
    if call.batch != 1 or not isinstance(size, torch.SymInt) or not isinstance(call.images, torch.SymInt):
        return None
    rows = _fixed(size, 1)
    if size.node.expr != rows * call.images.node.expr:
        return None
    return x.reshape(call.images, rows, *x.shape[1:])


def freed(sizes: list[Any], batch: int | None, images: Any) -> list[Any]:
    """Sizes whose first is the file's batch, with the traced one in its place; a batch of one spreads by itself."""
    if batch is None or batch == 1 or images is None or not sizes or sizes[0] != batch:
        return sizes
    return [images, *sizes[1:]]


def spread(values: list[Tensor], axis: int, batch: int | None) -> list[Tensor]:
    """Tensors to be joined along another axis than the batch; one that was made for a fixed batch is repeated for the free one."""
    counts = [v.shape[0] for v in values if isinstance(v.shape[0], torch.SymInt)]
    if batch is None or not counts or axis % values[0].dim() == 0:
        return values
    return [v.expand(counts[0], *v.shape[1:]) if isinstance(v.shape[0], int) and v.shape[0] == 1 else v for v in values]


# operators that work value by value, or on the last axes: an image alone and a batch of images are the same to them
ALIKE = frozenset(
    [
        "Abs",
        "Add",
        "Cast",
        "Clip",
        "Div",
        "Dropout",
        "Elu",
        "Erf",
        "Exp",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "Identity",
        "LeakyRelu",
        "Log",
        "MatMul",
        "Max",
        "Min",
        "Mish",
        "Mul",
        "Neg",
        "Pow",
        "Relu",
        "Selu",
        "Sigmoid",
        "Softplus",
        "Sqrt",
        "Sub",
        "Sum",
        "Tanh",
    ]
)
ON_AXIS = {"Softmax": -1, "LogSoftmax": -1, "ArgMax": 0, "Concat": 1, "Gather": 0, "Hardmax": -1}


def taken_off(call: Call, given: list[Any]) -> list[Any] | None:
    """The inputs of a Squeeze or Gather that takes the axis of a batch of one away, for a batch that keeps it; None for any other node."""
    if call.batch != 1 or call.op not in ("Squeeze", "Gather") or not isinstance(given[0], Tensor):
        return None
    if not isinstance(given[0].shape[0], torch.SymInt):
        return None
    if call.op == "Gather":
        index = given[1]
        first = isinstance(index, np.ndarray) and index.ndim == 0 and index.dtype != object and int(index) in (0, -1)
        return [] if first and call.get("axis", 0) % given[0].dim() == 0 else None
    axes = axes_of(call, given[1] if len(given) > 1 else None)
    if axes is None:
        axes = [0, *(i for i, e in enumerate(given[0].shape) if isinstance(e, int) and e == 1)]
    axes = [a % given[0].dim() for a in axes]
    return [a for a in axes if a] if 0 in axes else None


def alone(call: Call, given: list[Any]) -> tuple[Call, list[Any], bool]:
    """A node that works on an image without a batch axis, as one that works on a batch; whether its result is without, too.

    Raises:
        ModelError: an operator for which that is not known.
    """
    if call.op in ALIKE:
        return call, given, True
    if call.op == "Reshape":
        return call, given, False
    attributes = dict(call.attributes)
    if call.op in ON_AXIS and (call.op not in ("Softmax", "LogSoftmax", "Hardmax") or call.version >= 13):
        axis = attributes.get("axis", ON_AXIS[call.op])
        return replace(call, attributes=attributes | {"axis": axis + 1 if axis >= 0 else axis}), given, True
    if call.op == "Transpose" and attributes.get("perm"):
        return replace(call, attributes=attributes | {"perm": [0, *(p + 1 for p in attributes["perm"])]}), given, True
    if call.op == "Unsqueeze":
        asked = axes_of(call, given[1] if len(given) > 1 else None) or []
        axes = [a % (given[0].dim() - 1 + len(asked)) for a in asked]
        back = 0 in axes
        axes = [a for a in axes if a] if back else [a + 1 for a in axes]
        return replace(call, attributes=attributes | {"axes": axes}), given[:1], not back
    raise call.unsupported("an image whose batch axis was taken away")
