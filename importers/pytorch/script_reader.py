"""What PyTorch itself knows of a TorchScript file, in a confined process: its graph, its answers, and the file with other weights."""

import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

# what a graph may hold as numbers; anything else is an object that only TorchScript itself can run
PLAIN = (type(None), bool, int, float, str)


class UnreadableError(Exception):
    """A part of the graph that cannot be carried over; the message says which."""


def opened(path: Path) -> Any:
    """The model; nothing of its code runs."""
    return torch.jit.load(str(path), map_location="cpu", _restore_shapes=True)


def run(path: Path, images: Tensor) -> Tensor:
    """Its own answers for images [N, ...]."""
    script = opened(path).eval()
    with torch.no_grad():
        return torch.cat([_first(script(part)) for part in images.split(64)])


def write(path: Path, weights: dict[str, Tensor]) -> bytes:
    """The file with these values in its weights."""
    script = opened(path)
    replace(script, weights)
    with tempfile.NamedTemporaryFile(suffix=".pt") as file:
        script.save(file.name)
        carry(path, Path(file.name))
        return Path(file.name).read_bytes()


def replace(script: Any, values: dict[str, Tensor]) -> None:
    """Puts values into parameters and buffers, in their own types."""
    known = {**dict(script.named_parameters()), **dict(script.named_buffers())}
    with torch.no_grad():
        for name, value in values.items():
            if name not in known:
                raise UnreadableError(f"the weight {name!r} is part of its code; save it without torch.jit.freeze")
            known[name].copy_(value.reshape(known[name].shape))


def carry(before: Path, after: Path) -> None:
    """What saving again leaves out: the shapes that the file was traced with, and files that its author added."""
    with zipfile.ZipFile(before) as old, zipfile.ZipFile(after, "a", zipfile.ZIP_STORED) as new:
        root = new.namelist()[0].partition("/")[0]
        present = {name.partition("/")[2] for name in new.namelist()}
        for name in old.namelist():
            own = name.partition("/")[2]
            if own not in present and own.startswith(("traced_inputs", "extra/")):
                new.writestr(f"{root}/{own}", old.read(name))


def _first(value: Any) -> Tensor:
    while isinstance(value, list | tuple):
        value = value[0]
    if not isinstance(value, Tensor):
        raise UnreadableError("its output is no tensor")
    return value.float()


def read(script: Any) -> dict[str, Any]:
    """The graph of `forward` as plain values: steps, tensors, input names and the shape it was traced with.

    A step is [kind, detail, inputs, outputs]: "value" (a number or a list), "tensor" (its name), "call" ("aten::add.Tensor"), "unpack",
    "if" (two blocks of steps with the names they return), "loop" (a block, its inputs and outputs), "raise".
    """
    try:
        # folds the training flag and dead branches; parameters stay attributes
        root = torch._C._freeze_module(script._c, [], True, True)
    except RuntimeError:
        root = script._c  # frozen already
    graph = root._get_method("forward").graph.copy()
    torch._C._jit_pass_inline(graph)
    inputs = list(graph.inputs())
    if len(inputs) != 2:
        raise UnreadableError(f"{len(inputs) - 1} inputs; expected an image classifier with one image input")
    names = [i.debugName() for i in inputs]
    tensors: dict[str, Tensor] = {}
    steps = _steps(graph, {names[0]: (root, "")}, tensors)
    # freezing forgets the shapes that the file was traced with
    kind: Any = list(script.graph.inputs())[1].type()
    sizes = kind.sizes() if isinstance(kind, torch._C.TensorType) else None
    return {
        "steps": steps,
        "tensors": tensors,
        "image": names[1],
        "outputs": [o.debugName() for o in graph.outputs()],
        "sizes": None if sizes is None else list(sizes),
    }


def _steps(block: Any, objects: dict[str, Any], tensors: dict[str, Tensor]) -> list[Any]:
    steps: list[Any] = []
    for node in block.nodes():
        kind = node.kind()
        inputs, outputs = [v.debugName() for v in node.inputs()], [v.debugName() for v in node.outputs()]
        if kind == "prim::Constant":
            value = node.output().toIValue()
            steps.append(_constant(value, outputs[0], tensors, outputs))
        elif kind == "prim::GetAttr":
            owner, path = objects[inputs[0]]
            name = f"{path}.{node.s('name')}".lstrip(".")
            value = owner.getattr(node.s("name")) if hasattr(owner, "getattr") else getattr(owner, node.s("name"))
            if isinstance(value, torch._C.ScriptObject | torch.ScriptObject):
                objects[outputs[0]] = (value, name)
            else:
                steps.append(_constant(value, name, tensors, outputs))
        elif kind == "prim::If":
            blocks = [[_steps(b, objects, tensors), [v.debugName() for v in b.outputs()]] for b in node.blocks()]
            steps.append(["if", blocks, inputs, outputs])
        elif kind == "prim::Loop":
            body = next(iter(node.blocks()))
            ends = [v.debugName() for v in body.inputs()], [v.debugName() for v in body.outputs()]
            steps.append(["loop", [_steps(body, objects, tensors), *ends], inputs, outputs])
        elif kind == "prim::RaiseException":
            steps.append(["raise", None, inputs, outputs])
        elif kind in ("prim::TupleUnpack", "prim::ListUnpack"):
            steps.append(["unpack", None, inputs, outputs])
        elif kind.startswith("aten::"):
            overload = torch._C.parse_schema(node.schema()).overload_name if node.schema() != "(no schema)" else ""
            steps.append(["call", f"{kind}.{overload or 'default'}", inputs, outputs])
        elif kind.startswith("prim::"):
            steps.append(["call", kind, inputs, outputs])
        else:
            raise UnreadableError(f"operator {kind} is not supported")
    return steps


def _constant(value: Any, name: str, tensors: dict[str, Tensor], outputs: list[str]) -> list[Any]:
    if isinstance(value, Tensor):
        if value.is_quantized:
            raise UnreadableError(f"{name} is quantised; export the float model, or quantise it with onnxruntime")
        if value.dim() == 0 and not value.is_floating_point():
            return ["value", value.item(), [], outputs]  # a size, which tracing made a tensor of
        tensors[name] = value.detach().clone()
        return ["tensor", name, [], outputs]
    if isinstance(value, torch.dtype):
        return ["value", str(value), [], outputs]
    if isinstance(value, torch.device):
        return ["value", "cpu", [], outputs]
    if isinstance(value, PLAIN) or (isinstance(value, list | tuple) and all(isinstance(v, PLAIN) for v in value)):
        return ["value", list(value) if isinstance(value, tuple) else value, [], outputs]
    raise UnreadableError(f"{name} is a {type(value).__name__}, which cannot be read")
