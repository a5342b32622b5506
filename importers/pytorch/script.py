"""A TorchScript graph, run step by step with torch calls."""

from typing import Any

from torch import Tensor, nn

from banscan.errors import ModelError
from banscan.importers.pytorch.aten import call, in_place

# a loop of more rounds is no classifier's
ROUNDS = 10_000


class Script(nn.Module):
    """Runs a graph that `script_reader` wrote with torch calls. Tensors with more than one number become frozen parameters."""

    def __init__(self, program: dict[str, Any]) -> None:
        super().__init__()
        self.steps, self.image, self.outputs = program["steps"], program["image"], program["outputs"]
        self.sizes: list[int] | None = program["sizes"]
        self.attributes: dict[str, str] = {}
        shared: dict[tuple[Any, ...], str] = {}
        for name, value in program["tensors"].items():
            plain = value.float() if value.is_floating_point() else value
            key = (plain.data_ptr(), tuple(plain.shape), plain.stride(), plain.dtype)
            if key not in shared:
                shared[key] = f"constant_{len(shared)}"
                self.register_buffer(shared[key], plain)
            self.attributes[name] = shared[key]

    def forward(self, image: Tensor) -> Tensor:
        values: dict[str, Any] = {self.image: image}
        self._run(self.steps, values)
        result: Any = values[self.outputs[0]]
        while isinstance(result, list | tuple) and len(result) == 1:
            result = result[0]
        if not isinstance(result, Tensor):
            raise ModelError(f"the output is a {type(result).__name__}; expected one tensor of logits")
        return result

    def _run(self, steps: list[Any], values: dict[str, Any]) -> None:
        for kind, detail, inputs, outputs in steps:
            given = [values.get(i) for i in inputs]
            if kind == "value":
                values[outputs[0]] = detail
            elif kind == "tensor":
                values[outputs[0]] = getattr(self, self.attributes[detail])
            elif kind == "call":
                result = call(detail, given)
                if outputs:
                    values.update(zip(outputs, [result] if len(outputs) == 1 else result, strict=True))
                if in_place(detail):
                    values[inputs[0]] = result  # later steps may use either name
            elif kind == "unpack":
                parts: Any = given[0]
                values.update(zip(outputs, parts, strict=True))
            elif kind == "if":
                block, names = detail[0 if given[0] else 1]
                self._run(block, values)
                values.update((o, values[n]) for o, n in zip(outputs, names, strict=True))
            elif kind == "loop":
                self._loop(detail, given, outputs, values)
            else:
                raise ModelError("its code raises an exception for this input")

    def _loop(self, detail: list[Any], given: list[Any], outputs: list[str], values: dict[str, Any]) -> None:
        block, names, ends = detail
        most, going, *state = given
        round_ = 0
        while going and round_ < most:
            if round_ >= ROUNDS:
                raise ModelError(f"a loop of more than {ROUNDS} rounds")
            values.update(zip(names, [round_, *state], strict=True))
            self._run(block, values)
            going, *state = (values[e] for e in ends)
            round_ += 1
        values.update(zip(outputs, state, strict=True))
