"""Loops whose rounds are known before any image is seen: every round becomes part of the graph."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from banscan.importers.onnx.operators.registry import Call, is_static, operator, tensor

MOST_ROUNDS = 1024


@operator("Loop")
def loop(call: Call, body: Callable[..., tuple[Any, ...]], rounds: Any = None, condition: Any = None, *carried: Any) -> list[Any]:
    """The carried values after the last round, then what every round gave, stacked; `body` runs the inner graph once."""
    graph = call.get("body")
    values = list(carried)
    stacked: list[list[Any]] | None = None
    count = 0
    while _goes_on(call, rounds, condition, count):
        if count >= MOST_ROUNDS:
            raise call.unsupported(f"more than {MOST_ROUNDS} rounds")
        outputs = body(graph, [np.array(count, np.int64), np.array(True), *values])
        condition, values, given = outputs[0], list(outputs[1 : 1 + len(carried)]), outputs[1 + len(carried) :]
        stacked = [[] for _ in given] if stacked is None else stacked
        for rows, value in zip(stacked, given, strict=True):
            rows.append(value)
        count += 1
    if stacked is None and call.outputs > len(carried):
        raise call.unsupported("no round at all")
    return [*values, *(_stacked(rows) for rows in stacked or [])]


def _goes_on(call: Call, rounds: Any, condition: Any, count: int) -> bool:
    if not is_static(rounds, condition):
        raise call.unsupported("a number of rounds that is computed from the pixels")
    last = rounds is not None and count >= int(np.ravel(rounds)[0])
    return not last and (condition is None or bool(np.ravel(condition)[0]))


def _stacked(rows: list[Any]) -> Any:
    if is_static(*rows):
        return np.stack(rows)
    parts: list[Tensor] = [tensor(r) for r in rows]
    return torch.stack(parts)
