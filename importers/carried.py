"""A traced model as plain values, and back: what the confined reader answers, since nothing of its own objects may cross over.

Plain values are those that `torch.load(weights_only=True)` takes: numbers, text, lists, tuples, dictionaries and tensors. What is anything
else is a tuple that begins with a tag. Operators are known by their names; those that touch files have none.
"""

import contextlib
import dataclasses
import math
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, fx
from torch._dispatch.python import enable_python_dispatcher
from torch._dynamo.source import ConstantSource
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StatelessSymbolicContext

from banscan.errors import ModelError
from banscan.importers.model import Folding, Input, Neuron, Part, Source, TracedModel, attribute_named
from banscan.importers.normal.functions import FUNCTIONS

# arithmetic on sizes, beside torch's own operators
PYTHON: dict[str, Callable[..., Any]] = {
    **{
        f"operator.{name}": getattr(operator, name)
        for name in ("add", "sub", "mul", "floordiv", "truediv", "neg", "mod", "pow", "getitem", "eq", "ne", "lt", "le", "gt", "ge")
    },
    "math.trunc": math.trunc,
    **{f"torch.{name}": getattr(torch, name) for name in ("sym_int", "sym_float", "sym_max", "sym_min", "sym_not", "sym_sum")},
    **FUNCTIONS,
}
NAMES = {function: name for name, function in PYTHON.items()}
# no operator of a network, whoever asks for it
FILES = frozenset({"from_file", "save", "load"})
DTYPES = {str(value).removeprefix("torch."): value for value in vars(torch).values() if isinstance(value, torch.dtype)}
MEMORY_FORMATS = {str(f): f for f in (torch.contiguous_format, torch.preserve_format, torch.channels_last, torch.channels_last_3d)}
SCALARS = (type(None), bool, int, float, str)


def plain(model: TracedModel) -> dict[str, Any]:
    """The model as plain values.

    Raises:
        ModelError: an operator or argument that has no plain form.
    """
    rest = {
        field.name: getattr(model, field.name)
        for field in dataclasses.fields(model)
        if field.name not in ("module", "tail", "input", "neurons", "source", "foldings", "statistics")
    }
    return {
        "module": _graph(model.module, {part for folding in model.foldings.values() for part in folding.parts}),
        "tail": None if model.tail is None else _graph(model.tail, set()),
        "input": dataclasses.asdict(model.input),
        "neurons": [dataclasses.asdict(n) for n in model.neurons],
        "source": dataclasses.asdict(model.source) | {"path": str(model.source.path)},
        "foldings": {name: (_named(f.function), f.parts, _plain(f.args), _plain(f.kwargs)) for name, f in model.foldings.items()},
        "statistics": sorted(model.statistics),
        "rest": rest,
    }


def _graph(module: fx.GraphModule, parts: set[str]) -> dict[str, Any]:
    """Nodes and constants, those included that only other constants follow from; some of them are plain attributes."""
    tensors: dict[str, Tensor] = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    held = {str(n.target) for n in module.graph.nodes if n.op == "get_attr"} | parts
    for name in held - tensors.keys():
        with contextlib.suppress(AttributeError):  # it went with a module that nothing else reads
            tensors[name] = attribute_named(module, name)
    nodes = [
        (n.op, n.name, _named(n.target) if n.op == "call_function" else n.target, _plain(n.args), _plain(dict(n.kwargs)))
        for n in module.graph.nodes
    ]
    return {"tensors": {name: value.detach() for name, value in tensors.items()}, "nodes": nodes}


def restored(given: dict[str, Any], path: Path) -> TracedModel:
    """The model that was made plain; `path` is what the user calls its file.

    Raises:
        ModelError: the values are not those of a model, so that whoever wrote them is not to be trusted.
    """
    try:
        spec = Input(**given["input"])
        module = _module(**given["module"])
        _sized(module, spec.example())
        return TracedModel(
            module=module,
            tail=None if given["tail"] is None else _module(**given["tail"]),
            input=spec,
            neurons=tuple(Neuron(**n) for n in given["neurons"]),
            source=Source(**given["source"] | {"path": path}),
            foldings={
                name: Folding(_function(function), tuple(parts), _restored(args, {}), _restored(kwargs, {}))
                for name, (function, parts, args, kwargs) in given["foldings"].items()
            },
            statistics=frozenset(given["statistics"]),
            **given["rest"],
        )
    except Exception as error:
        raise ModelError(f"{path}: its reader answered something that is no model ({type(error).__name__}: {error}); refused") from error


def _module(nodes: list[Any], tensors: dict[str, Tensor]) -> fx.GraphModule:
    graph = fx.Graph()
    known: dict[str, fx.Node] = {}
    for op, name, target, args, kwargs in nodes:
        if op not in ("placeholder", "get_attr", "call_function", "output") or (op == "get_attr" and target not in tensors):
            raise ValueError(f"a node {op} {target}")
        called = _function(target) if op == "call_function" else target
        made = graph.create_node(op, called, _restored(args, known), _restored(kwargs, known), name)
        if made.name != name:
            raise ValueError(f"two nodes of the name {name}")
        known[name] = made
    module = fx.GraphModule({n.target: tensors[cast(str, n.target)] for n in graph.nodes if n.op == "get_attr"}, graph)
    for name, value in tensors.items():  # what only other constants follow from
        if not hasattr(module, name):
            module.register_buffer(name, value)
    return module


def _sized(module: fx.GraphModule, example: Tensor) -> None:
    """Writes down the shape of every node, with a free batch.

    Raises:
        ValueError: the graph takes one number of images only; what follows would take that of the example for every tensor's.
    """
    mode = FakeTensorMode(shape_env=_Shapes())
    axes = [DimDynamic.DYNAMIC, *(DimDynamic.STATIC,) * (example.dim() - 1)]
    free: Any = StatelessSymbolicContext(axes)  # type: ignore[var-annotated, arg-type]
    image = mode.from_tensor(example, source=ConstantSource("image"), symbolic_context=free)
    _Sizes(module, mode).run(image)
    batch: Any = image.shape[0]
    if batch.node.maybe_as_int() is not None:
        raise ValueError("a graph for a fixed number of images")


class _Shapes(ShapeEnv):
    """Free sizes that do not know which line of a program they come from: to tell lines apart torch would load all of its tracer."""

    def _get_user_frame(self) -> None:
        return None


class _Sizes(fx.Interpreter):
    """Runs a graph on tensors without values, and keeps what every node makes."""

    def __init__(self, module: fx.GraphModule, mode: FakeTensorMode) -> None:
        super().__init__(module)
        self.mode = mode

    def run_node(self, n: fx.Node) -> Any:
        # torch's own kernels for padding take the number of images for a number that is known; their descriptions in Python do not
        with self.mode, enable_python_dispatcher():
            made = super().run_node(n)
        if n.op == "get_attr":
            made = self.mode.from_tensor(made, static_shapes=True)
        if n.op != "output":
            n.meta["val"] = made
        return made


def _named(function: Any) -> str:
    """What an operator, or a function of ours, is called."""
    if isinstance(function, torch._ops.OpOverload) and function.namespace == "aten":
        return str(function)
    try:
        return NAMES[function]
    except (KeyError, TypeError):
        raise ModelError(f"operator {function} is not supported") from None


def _function(name: str) -> Callable[..., Any]:
    if name in PYTHON:
        return PYTHON[name]
    namespace, packet, overload = name.split(".")
    if namespace != "aten" or packet in FILES:
        raise ValueError(f"the operator {name}")
    found = getattr(getattr(torch.ops.aten, packet), overload)
    if not isinstance(found, torch._ops.OpOverload):
        raise ValueError(f"the operator {name}")
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, SCALARS):
        return value
    if isinstance(value, fx.Node):
        return ("node", value.name)
    if isinstance(value, Part):
        return ("part", value.index)
    if isinstance(value, list | tuple):  # fx has lists of its own
        return ("tuple" if isinstance(value, tuple) else "list", [_plain(v) for v in value])
    if isinstance(value, dict):
        return ("dict", {str(k): _plain(v) for k, v in value.items()})
    if isinstance(value, slice):
        return ("slice", [_plain(v) for v in (value.start, value.stop, value.step)])
    if isinstance(value, torch.dtype):
        return ("dtype", str(value).removeprefix("torch."))
    if isinstance(value, torch.memory_format):
        return ("memory_format", str(value))
    if isinstance(value, torch.device):
        return ("device", "cpu")
    if isinstance(value, torch.layout):
        return ("layout", str(value))
    raise ModelError(f"an argument of type {type(value).__name__} is not supported")


def _restored(value: Any, known: dict[str, fx.Node]) -> Any:
    if isinstance(value, SCALARS):
        return value
    tag, inner = value
    if tag in ("list", "tuple"):
        made = [_restored(v, known) for v in inner]
        return made if tag == "list" else tuple(made)
    simple: dict[str, Callable[[], Any]] = {
        "node": lambda: known[inner],
        "part": lambda: Part(inner),
        "dict": lambda: {k: _restored(v, known) for k, v in inner.items()},
        "slice": lambda: slice(*(_restored(v, known) for v in inner)),
        "dtype": lambda: DTYPES[inner],
        "memory_format": lambda: MEMORY_FORMATS[inner],
        "device": lambda: torch.device("cpu"),
        "layout": lambda: torch.strided,
    }
    return simple[tag]()
