"""A loaded TorchScript module's graph: checked against what a classifier needs, then written down as plain steps. Nothing of it is run."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from banscan.importers.pytorch import operators
from banscan.importers.pytorch.pickles import QUANTISED

# nodes when every call is written out: a large transformer has some 20,000
NODES, DEEPEST = 500_000, 100
# what a graph may hold as numbers; anything else is an object that only TorchScript itself can run
PLAIN = (type(None), bool, int, float, str)
# bytes that a stored tensor may claim beyond those of its storage (a view that repeats them)
CLAIMED = 64 << 20


class UnreadableError(Exception):
    """A part of the graph that is refused or cannot be carried over; the message says which."""


def check(unit: Any, module: Any) -> None:
    """Looks at every operator that `forward` can reach, before anything of the module is run.

    Raises:
        UnreadableError: one that no classifier needs, or more of them than it can have.
    """
    if module._get_forward_hooks() or module._get_forward_pre_hooks():
        raise UnreadableError("the model runs hooks around its layers, which cannot be read; remove them and save it again")
    functions = {function.qualified_name: function for function in unit.get_functions()}
    sizes: dict[str, int] = {}

    def size(name: str, above: tuple[str, ...]) -> int:
        """Nodes of a function with those of everything it calls."""
        if name in above or len(above) > DEEPEST:
            raise UnreadableError(f"its code calls itself, or calls nested more than {DEEPEST} deep")
        if name not in functions:
            raise UnreadableError(f"its code calls {name}, which is not in the file")
        if name not in sizes:
            total = 0
            for node in nodes(functions[name].graph, 0):
                _check_node(node)
                called = _called(node)
                total += 1 if called is None else size(called, (*above, name))
                if total > NODES:
                    raise UnreadableError(f"its calls write out to more than {NODES:,} steps; the file is damaged or hostile")
            sizes[name] = total
        return sizes[name]

    size(f"{module._type().qualified_name()}.forward", ())


def nodes(block: Any, depth: int) -> Iterator[Any]:
    """All nodes of a block and of the blocks in it."""
    if depth > DEEPEST:
        raise UnreadableError(f"its code is nested more than {DEEPEST} deep")
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from nodes(inner, depth + 1)


def _check_node(node: Any) -> None:
    kind = node.kind()
    if kind in ("prim::Enter", "prim::Exit"):
        raise UnreadableError("its code has a with-block, which is not read; export it with torch.jit.trace")
    if kind.startswith(("quantized::", "quantization::", "_quantized::")):
        raise UnreadableError(QUANTISED)
    if not operators.allowed(kind, _schema(node)[0]):
        raise UnreadableError(f"its code calls {kind}, which no classifier needs; refused")


def _called(node: Any) -> str | None:
    """The qualified name of the function or method that a node calls."""
    if node.kind() == "prim::CallFunction":
        return str(next(iter(node.inputs())).type().annotation_str)
    if node.kind() == "prim::CallMethod":
        return f"{next(iter(node.inputs())).type().annotation_str}.{node.s('name')}"
    return None


def _schema(node: Any) -> tuple[str, list[str]]:
    """The overload that a node calls, and the names of its arguments."""
    text = node.schema()
    if text == "(no schema)":
        return "", []
    parsed = torch._C.parse_schema(text)
    return parsed.overload_name, [a.name for a in parsed.arguments]


def read(module: Any) -> dict[str, Any]:
    """The graph of `forward`, all calls written out, as plain values: steps, tensors, input names and what it was traced with.

    A step is [kind, detail, inputs, outputs]: "value" (a number or a list), "tensor" (its name), "call" (["aten::add.Tensor", names of the
    arguments]), "unpack", "if" (two blocks of steps with the names they return), "loop" (a block, its inputs and outputs), "refused" (why).
    """
    method = module._get_method("forward")
    graph = method.graph.copy()
    kind: Any = list(graph.inputs())[1].type() if len(list(graph.inputs())) > 1 else None
    torch._C._jit_pass_inline(graph)
    inputs = [i.debugName() for i in graph.inputs()]
    writer = Writer({inputs[0]: (module, "")})
    steps = []
    given = method.schema.arguments[2:]
    if len(inputs) < 2 or not all(a.has_default_value() for a in given):
        raise UnreadableError(f"{len(inputs) - 1} inputs; expected an image classifier with one image input")
    for name, argument in zip(inputs[2:], given, strict=True):
        steps += writer.constant(argument.default_value, argument.name, name)
    steps += writer.steps(graph, 0)
    tensor = kind if isinstance(kind, torch._C.TensorType) else None
    sizes = None if tensor is None else tensor.sizes()
    return {
        "steps": steps,
        "tensors": writer.tensors,
        "image": inputs[1],
        "image_type": image_type(module),
        "outputs": [o.debugName() for o in graph.outputs()],
        "sizes": None if sizes is None else list(sizes),
    }


def image_type(module: Any) -> torch.dtype:
    """The type of image that the module is to be called with: the traced one, or that of its weights."""
    arguments = list(module._get_method("forward").graph.inputs())
    kind: Any = arguments[1].type() if len(arguments) > 1 else None
    traced = kind.dtype() if isinstance(kind, torch._C.TensorType) else None
    if isinstance(traced, torch.dtype):
        return traced
    weights = (p.dtype for p in torch.jit._recursive.wrap_cpp_module(module).parameters() if p.is_floating_point())
    return next(weights, torch.float32)


def flat(module: Any) -> bool:
    """Was it traced with the values of an image in one row?"""
    kind: Any = list(module._get_method("forward").graph.inputs())[1].type()
    return isinstance(kind, torch._C.TensorType) and kind.dim() == 2


class Writer:
    """Writes blocks down; `objects` are the modules that a name stands for, `tensors` what the steps read."""

    def __init__(self, objects: dict[str, Any]) -> None:
        self.objects = objects
        self.tensors: dict[str, Tensor] = {}

    def steps(self, block: Any, depth: int) -> list[Any]:
        if depth > DEEPEST:
            raise UnreadableError(f"its code is nested more than {DEEPEST} deep")
        steps: list[Any] = []
        for node in block.nodes():
            steps += self.step(node, depth)
        return steps

    def step(self, node: Any, depth: int) -> list[Any]:
        kind = node.kind()
        inputs, outputs = [v.debugName() for v in node.inputs()], [v.debugName() for v in node.outputs()]
        if kind == "prim::Constant":
            return self.constant(node.output().toIValue(), outputs[0], outputs[0], anonymous=True)
        if kind == "prim::GetAttr":
            return self.attribute(node, inputs[0], outputs[0])
        if kind == "prim::If":
            blocks = [[self.steps(b, depth + 1), [v.debugName() for v in b.outputs()]] for b in node.blocks()]
            return [["if", blocks, inputs, outputs]]
        if kind == "prim::Loop":
            body = next(iter(node.blocks()))
            ends = [v.debugName() for v in body.inputs()], [v.debugName() for v in body.outputs()]
            return [["loop", [self.steps(body, depth + 1), *ends], inputs, outputs]]
        if kind == "prim::RaiseException":
            return [["raise", None, inputs, outputs]]
        if kind in ("prim::TupleUnpack", "prim::ListUnpack"):
            return [["unpack", None, inputs, outputs]]
        if kind == "prim::ConstantChunk":
            return [["chunk", [node.i("chunks"), node.i("dim")], inputs, outputs]]
        if kind == "prim::isinstance":
            types = [str(t) for t in node.tys("types")] if hasattr(node, "tys") else None
            return [["isinstance", [str(next(iter(node.inputs())).type()), types], inputs, outputs]]
        if kind in ("prim::SetAttr", "prim::CallMethod", "prim::CallFunction", "prim::CreateObject"):
            return [["refused", f"its code needs {kind.removeprefix('prim::')}, which cannot be read", inputs, outputs]]
        overload, names = _schema(node)
        return [["call", [f"{kind}.{overload or 'default'}" if kind.startswith("aten::") else kind, names], inputs, outputs]]

    def attribute(self, node: Any, owner: str, output: str) -> list[Any]:
        if owner not in self.objects:
            return [["refused", f"its code chooses between objects ({node.s('name')}), which cannot be read", [], [output]]]
        held, path = self.objects[owner]
        name = f"{path}.{node.s('name')}".lstrip(".")
        value = held.getattr(node.s("name")) if hasattr(held, "getattr") else getattr(held, node.s("name"))
        if isinstance(value, torch._C.ScriptObject | torch.ScriptObject):
            self.objects[output] = (value, name)
            return []
        return self.constant(value, name, output)

    def constant(self, value: Any, name: str, output: str, *, anonymous: bool = False) -> list[Any]:
        """A value that the file holds, as `output`; `name` is what the file calls it."""
        if isinstance(value, Tensor):
            if anonymous and value.dim() == 0 and not value.is_complex():
                return [["value", value.item(), [], [output]]]  # a number, which tracing made a tensor of
            if value.dim() == 0 and not value.is_floating_point() and not value.is_complex():
                return [["value", value.item(), [], [output]]]
            _check_tensor(value, name)
            self.tensors[name] = value.detach()
            return [["tensor", name, [], [output]]]
        if isinstance(value, torch.device):
            return [["value", str(value), [], [output]]]
        if isinstance(value, PLAIN):
            return [["value", value, [], [output]]]
        if isinstance(value, list | tuple | dict):
            parts = [part for pair in value.items() for part in pair] if isinstance(value, dict) else list(value)
            kind = "Dict" if isinstance(value, dict) else "List" if isinstance(value, list) else "Tuple"
            kind = kind if anonymous or kind == "Tuple" else f"Held{kind}"
            names = [f"{output}.{i}" for i in range(len(parts))]
            steps = [s for i, part in enumerate(parts) for s in self.constant(part, f"{name}.{i}", names[i], anonymous=anonymous)]
            return [*steps, ["call", [f"prim::{kind}Construct", []], names, [output]]]
        return [["refused", f"{name} is a {type(value).__name__}, which cannot be read", [], [output]]]


def _check_tensor(value: Tensor, name: str) -> None:
    if value.is_quantized:
        raise UnreadableError(QUANTISED)
    if value.is_complex():
        raise UnreadableError(f"{name} holds complex numbers, which are not read")
    if value.layout != torch.strided or value.is_mkldnn:
        raise UnreadableError(f"{name} is stored in a layout ({value.layout}) that is not read; save the model before it is optimised")
    if value.numel() * value.itemsize > CLAIMED + 2 * value.untyped_storage().nbytes():
        raise UnreadableError(f"{name} has more values than are stored; the file is damaged or hostile")
