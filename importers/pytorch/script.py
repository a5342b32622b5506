"""A TorchScript graph, run step by step with torch calls."""

from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from banscan.errors import ModelError
from banscan.importers.pytorch import language, outputs, views
from banscan.importers.pytorch.aten import ASKING, CASTING, SAME, VALUES, any_tensor, call, in_place
from banscan.importers.pytorch.dtypes import Types
from banscan.importers.sandbox import confinement

# of one run: steps, with the work that long lists are; and operators on tensors
STEPS, OPERATORS = 300_000, 20_000


class Decide(Protocol):
    """What answers where a graph decides by the values of tensors; `known`, whether it has real values."""

    known: bool

    def number(self, value: Tensor) -> Any:
        """The number or truth in a tensor of one value."""

    def branch(self, name: str, condition: Any) -> bool:
        """Which way a branch goes; `name` is that of its condition. ModelError where that cannot be told."""

    def joined(self, name: str, values: list[Any]) -> None:
        """What a branch came to."""


class Script(nn.Module):
    """Runs a graph that `script_reader` wrote with torch calls. Tensors become frozen float32 constants."""

    def __init__(self, program: dict[str, Any]) -> None:
        super().__init__()
        self.steps, self.image, self.output = program["steps"], program["image"], program["outputs"][0]
        confinement.grant(nodes=len(self.steps))
        self.sizes: list[int | None] | None = program["sizes"]
        # where the logits are in what it returns, and what that place is called; set when that is known
        self.place: tuple[outputs.Key, ...] = ()
        self.chosen: str | None = None
        # whether it takes the values of an image in one row
        self.flat = False
        floats = (v.dtype for v in program["tensors"].values() if v.is_floating_point())
        own = next(floats, torch.float32)
        self.precision = str(own).removeprefix("torch.")
        self.types = Types(own)
        self.image_type: torch.dtype = program["image_type"]
        # whether anything in its code depends on the types of its numbers
        self.typed = own != torch.float32 or self.image_type != torch.float32 or _typed(self.steps)
        # of each weight, as it is in the file
        self.stored = {name: value.dtype for name, value in program["tensors"].items()}
        # what decides by the values of tensors; where it is None, such a graph is refused
        self.decide: Decide | None = None
        self.attributes: dict[str, str] = {}
        self.numbers: dict[str, float] = {}
        shared: dict[tuple[Any, ...], str] = {}
        for name, value in program["tensors"].items():
            key = (value.data_ptr(), tuple(value.shape), value.stride(), value.dtype)
            if key not in shared:
                shared[key] = f"constant_{len(shared)}"
                self.register_buffer(shared[key], value.float() if value.is_floating_point() else value)
                if value.numel() == 1:
                    self.numbers[shared[key]] = value.item()
            self.attributes[name] = shared[key]

    def forward(self, image: Tensor) -> Tensor:
        result: Any = outputs.at(self.run(image)[self.output], self.place)
        if not isinstance(result, Tensor):
            raise ModelError(f"the output is a {type(result).__name__}; expected one tensor of logits")
        return result

    def run(self, image: Tensor, types: Types | None = None, notes: list[Any] | None = None) -> dict[str, Any]:
        """All values by their names in the graph; `notes` gets, in order, what was computed that is no tensor, and decided."""
        run = Run(self, {self.image: image.flatten(1) if self.flat else image}, types or self.types, notes)
        run.block(self.steps)
        run.views.check([self.output])
        return run.values


def _typed(steps: list[Any]) -> bool:
    """Whether steps cast, or ask for types."""
    for kind, detail, *_ in steps:
        if kind == "call" and (detail[0].partition(".")[0] in CASTING | ASKING or "dtype" in detail[1]):
            return True
        if (kind == "if" and any(_typed(block) for block, _ in detail)) or (kind == "loop" and _typed(detail[0])):
            return True
    return False


class Run:
    """One run of a script, with what it may still spend."""

    def __init__(self, script: Script, values: dict[str, Any], types: Types, notes: list[Any] | None) -> None:
        self.script, self.values, self.types, self.notes = script, values, types, notes
        # weights in the types of the file, where these are asked for
        self.exact: dict[str, Tensor] = {}
        self.left, self.operators = STEPS, OPERATORS
        # the numbers in tensors of one value, by the names of these
        self.known: dict[str, float] = {}
        # numbers and truths that follow from the values of tensors
        self.pixels: set[str] = set()
        self.views = views.Views(values)
        # whether all floating-point tensors so far have the type that they have in the file
        self.faithful = types.exact or types.own == torch.float32

    def block(self, steps: list[Any]) -> None:
        values = self.values
        for kind, detail, inputs, results in steps:
            given = [values.get(i) for i in inputs]
            self.spend(1 + sum(language.weight(g) for g in given))
            if kind == "value":
                values[results[0]] = detail
            elif kind == "tensor":
                values[results[0]] = self._weight(detail)
                if self.script.attributes[detail] in self.script.numbers:
                    self.known[results[0]] = self.script.numbers[self.script.attributes[detail]]
            elif kind == "call":
                self._call(detail, given, inputs, results)
            elif kind == "unpack":
                self._unpack(given[0], results)
            elif kind == "chunk":
                self._unpack(cast(Tensor, given[0]).chunk(*detail), results)
            elif kind == "isinstance":
                values[results[0]] = _isinstance(given[0], *detail)
            elif kind == "if":
                self._if(detail, given[0], inputs[0], results)
            elif kind == "loop":
                self._loop(detail, given, results)
            elif kind == "raise":
                raise language.RaisedError(f"its code raises an exception for this input ({str(given[0])[:200] if given else ''})")
            else:
                raise ModelError(detail)

    def _weight(self, name: str) -> Tensor:
        attribute = self.script.attributes[name]
        held: Tensor = getattr(self.script, attribute)
        if not self.types.exact:
            return held
        return self.exact.setdefault(attribute, held.to(self.script.stored[name]))

    def spend(self, work: int) -> None:
        self.left -= work
        if self.left < 0:
            raise ModelError(f"its code takes more than {STEPS:,} steps; the file is damaged or hostile")

    def _call(self, detail: list[Any], given: list[Any], inputs: list[str], results: list[str]) -> None:
        name, names = detail
        plain = name.partition(".")[0]
        if plain in VALUES and inputs and inputs[0] in self.known:
            given = [self.known[inputs[0]]]
        if plain == "prim::requires_grad":
            self._check_trained(given[0])
        if self.script.decide is not None and self._by_pixels(plain, given, inputs, results):
            return
        if any(isinstance(g, Tensor) for g in given):
            self.operators -= 1
            if self.operators < 0:
                raise ModelError(f"its code takes more than {OPERATORS:,} operators on tensors; the file is damaged or hostile")
        self.views.check(inputs)
        result: Any
        try:
            result = False if plain == "prim::requires_grad" else call(name, given, names, self.types)
        except (ArithmeticError, ValueError, TypeError, LookupError, AttributeError, AssertionError) as error:
            raise language.RaisedError(f"its code cannot be computed ({plain}: {str(error).strip().partition(chr(10))[0]})") from error
        if in_place(plain) and isinstance(given[0], Tensor):
            if any(given[0] is own for own in self.script.buffers()):
                raise ModelError("its code changes values of its own whenever it runs; a classifier must answer as it did before")
            result = self.views.write(inputs[0], given[0], result)
        elif results:
            self.views.note(plain, inputs, given, results[0])
            self._note_copy(plain, dict(zip(names, given, strict=False)), given, result, results[0])
        if self.notes is not None:
            self.notes += noted(plain, names, given, result)
        if len(results) == 1:
            self.values[results[0]] = result
        elif results:
            self._unpack(result, results)

    def _note_copy(self, plain: str, named: dict[str, Any], given: list[Any], result: Any, name: str) -> None:
        """A cast gives a copy, or the tensor itself, by types that are not all held here; others by their layout, or as they like."""
        if plain in CASTING and isinstance(result, Tensor) and isinstance(given[0], Tensor):
            if result is not given[0]:
                self.faithful = self.faithful and result.dtype != given[0].dtype
            elif not self.faithful or named.get("memory_format") is not None:
                self.views.copies.add(name)
        elif plain.endswith("dropout") or plain == "aten::contiguous":
            self.views.copies.add(name)

    def _by_pixels(self, plain: str, given: list[Any], inputs: list[str], results: list[str]) -> bool:
        """Whether a call asks for the value of a tensor, which is answered here; what follows from the answer is noted."""
        assert self.script.decide is not None
        if plain in VALUES and isinstance(given[0], Tensor):
            self.values[results[0]] = self.script.decide.number(given[0])
            self.pixels.update(results)
            return True
        if any(i in self.pixels for i in inputs):
            if any(isinstance(g, Tensor) for g in given) and not self.script.decide.known:
                raise ModelError(language.PIXELS)
            self.pixels.update(results)
        return False

    def _check_trained(self, value: Any) -> None:
        """Whatever is computed answers no at inference; a weight's answer is not the network's affair."""
        if any(value is own for own in self.script.buffers()):
            raise ModelError("its code asks whether a weight requires a gradient; the network must not depend on that")

    def _unpack(self, parts: Any, results: list[str]) -> None:
        if not isinstance(parts, list | tuple) or len(parts) < len(results):
            raise language.RaisedError("its code takes more values out of a list or tuple than are in it")
        self.values.update(zip(results, parts, strict=False))

    def _if(self, blocks: list[Any], condition: Any, name: str, results: list[str]) -> None:
        decide = self.script.decide
        by_pixels = decide is not None and (name in self.pixels or isinstance(condition, Tensor))
        if decide is not None and by_pixels:
            condition = decide.branch(name, condition)
        taken = language.decided(condition)
        if taken is None:  # it depends on the number of images, which no network may: unless one way is an error
            raises = [any(step[0] == "raise" for step in block) for block, _ in blocks]
            if raises.count(True) != 1:
                raise ModelError(language.BATCH)
            taken = raises[1]
        if self.notes is not None:
            self.notes.append(taken)
        block, names = blocks[0 if taken else 1]
        self.block(block)
        self.views.check(names)
        self.values.update([(o, self.values[n]) for o, n in zip(results, names, strict=True)])
        if decide is not None and by_pixels:
            decide.joined(name, [self.values[o] for o in results])

    def _loop(self, detail: list[Any], given: list[Any], results: list[str]) -> None:
        block, names, ends = detail
        most, going, *state = given
        round_ = 0
        while language.truth(going) and language.truth(round_ < most):
            self.spend(1)
            self.values.update(zip(names, [round_, *state], strict=True))
            self.block(block)
            self.views.check(ends)
            going, *state = (self.values[e] for e in ends)
            round_ += 1
        self.values.update(zip(results, state, strict=True))


def noted(plain: str, names: list[str], given: list[Any], result: Any) -> list[Any]:
    """What a step computes that is no tensor, and the numbers that it computes tensors with; types of numbers apart."""
    if plain == "prim::dtype" or plain in SAME:
        return []
    values = [result] if not isinstance(result, Tensor) else [g for n, g in zip(names, given, strict=False) if n != "dtype"]
    return [str(v) for v in values if isinstance(v, bool | int | float | str) or (isinstance(v, list | tuple) and not any_tensor(v))]


# how TorchScript names the types of values
TYPES = {"Tensor": Tensor, "int": int, "float": float, "str": str, "NoneType": type(None), "bool": bool}


def _isinstance(value: Any, declared: str, types: list[str] | None) -> bool:
    """Is a value of one of these types?"""
    if types is None:
        raise ModelError(f"its code asks for the type of a value ({declared}), which cannot be read; export it with torch.jit.trace")
    for kind in types:
        plain = TYPES.get(kind)
        if plain is not None:
            if isinstance(value, plain | torch.SymInt if plain is int else plain) and not (plain is int and isinstance(value, bool)):
                return True
        elif (
            (kind.startswith(("Tuple", "(")) and isinstance(value, tuple))
            or ((kind.startswith("List") or kind.endswith("[]")) and isinstance(value, list))
            or (kind.startswith("Dict") and isinstance(value, dict))
        ):
            return True
    return False
