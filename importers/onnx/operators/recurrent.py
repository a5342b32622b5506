"""Recurrent layers over rows of an image, step by step."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.importers.onnx.operators.registry import Call, operator

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
USUAL = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {"sigmoid": torch.sigmoid, "tanh": torch.tanh, "relu": F.relu}
LONGEST = 1024

Step = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


@operator("LSTM", "GRU", "RNN")
def recurrent(
    call: Call,
    x: Tensor,
    weight: Tensor,
    again: Tensor,
    bias: Tensor | None = None,
    lengths: Any = None,
    hidden: Tensor | None = None,
    cell: Tensor | None = None,
    peepholes: Any = None,
) -> Any:
    """Steps [length, N, size] → all states [length, directions, N, size], the last ones [directions, N, size]."""
    for key in ("hidden_size", "output_sequence"):  # the first follows from the weights
        call.get(key)
    if call.get("layout", 0) or call.get("clip") or call.get("input_forget", 0) or peepholes is not None or lengths is not None:
        raise call.unsupported("layout, clip, input_forget, peepholes or lengths of sequences")
    if call.get("activation_alpha") or call.get("activation_beta"):
        raise call.unsupported("parameters of activations")
    direction, before = call.get("direction", "forward"), call.get("linear_before_reset", 0)
    count, usual = weight.shape[0], USUAL[call.op]
    names = [str(n).lower() for n in call.get("activations") or usual * count]
    if len(names) != len(usual) * count or any(n not in FUNCTIONS for n in names):
        raise call.unsupported(f"the activations {', '.join(names)}")
    if not isinstance(x.shape[0], int) or x.shape[0] > LONGEST:
        raise call.unsupported("a free number of steps, or very many,")
    outputs, ends, cells = [], [], []
    for i in range(count):
        functions = [FUNCTIONS[n] for n in names[i * len(usual) : (i + 1) * len(usual)]]
        step = _step(call.op, again[i], None if bias is None else bias[i], functions, bool(before))
        backwards = direction == "reverse" or i == 1
        own = None if bias is None else bias[i, : weight.shape[1]]
        driven = F.linear(x.flip(0) if backwards else x, weight[i], own)
        zero = torch.zeros_like(driven[0, :, : again.shape[-1]])
        h, c = (zero if given is None else given[i] + zero for given in (hidden, cell))
        states = []
        for t in range(x.shape[0]):
            h, c = step(driven[t], h, c)
            states.append(h)
        outputs.append(torch.stack(states[::-1] if backwards else states))
        ends.append(h)
        cells.append(c)
    return torch.stack(outputs, 1), torch.stack(ends), *((torch.stack(cells),) if call.op == "LSTM" else ())


def _step(op: str, again: Tensor, bias: Tensor | None, functions: list[Callable[[Tensor], Tensor]], before: bool) -> Step:
    """One step: what the input drives [N, gates * size], state, cell → state, cell."""
    size = again.shape[-1]
    own = torch.zeros(again.shape[0]) if bias is None else bias[again.shape[0] :]

    def lstm(driven: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        i, o, f, g = (driven + torch.matmul(h, again.t()) + own).split(size, -1)
        c = functions[0](f) * c + functions[0](i) * functions[1](g)
        return functions[0](o) * functions[2](c), c

    def gru(driven: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        both = driven[:, : 2 * size] + torch.matmul(h, again[: 2 * size].t()) + own[: 2 * size]
        z, r = functions[0](both).split(size, -1)
        if before:
            new = functions[1](driven[:, 2 * size :] + r * (torch.matmul(h, again[2 * size :].t()) + own[2 * size :]))
        else:
            new = functions[1](driven[:, 2 * size :] + torch.matmul(r * h, again[2 * size :].t()) + own[2 * size :])
        return (1 - z) * new + z * h, c

    def rnn(driven: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        return functions[0](driven + torch.matmul(h, again.t()) + own), c

    steps: dict[str, Step] = {"LSTM": lstm, "GRU": gru, "RNN": rnn}
    return steps[op]
