"""The program of a torch.export archive as the steps that `script.Script` runs: its graph is JSON, its weights are plain bytes."""

import json
from pathlib import PurePosixPath
from typing import Any

import torch
from torch import Tensor

from banscan.errors import ModelError
from banscan.importers.pytorch import operators, stored
from banscan.importers.pytorch.container import Container

# arithmetic on sizes, by TorchScript's names
PYTHON = {
    **{
        f"_operator.{name}": f"aten::{name}" for name in ("add", "sub", "mul", "floordiv", "neg", "pow", "eq", "ne", "lt", "le", "gt", "ge")
    },
    "_operator.truediv": "aten::true_divide",
    "_operator.mod": "aten::remainder",
    "_operator.getitem": "aten::__getitem__",
    "math.trunc": "aten::trunc",
    "math.floor": "aten::floor",
    "math.ceil": "aten::ceil",
    "torch.sym_int": "aten::Int",
    "torch.sym_float": "aten::Float",
    "torch.sym_max": "prim::max",
    "torch.sym_min": "prim::min",
    "torch.sym_not": "aten::__not__",
}
CHECKS = ("torch.ops.aten._assert", "torch.ops.aten.sym_constrain_range", "torch.ops.aten._functional_assert")
# a part of the graph that is computed without gradients, as everything is here
INLINED = "torch.ops.higher_order.wrap_with_set_grad_enabled"
PLAIN = frozenset({"as_int", "as_bool", "as_string", "as_ints", "as_bools", "as_strings", "as_int_lists"})
SYMBOLS = ("as_sym_int", "as_sym_float", "as_sym_bool")
# one of two parts of the graph, by the value of a tensor
COND = "torch.ops.higher_order.cond"
DEEPEST = 20
Argument = dict[str, Any]


def read(container: Container) -> tuple[dict[str, Any], str]:
    """The archive's only program, and the version of PyTorch that wrote it.

    Raises:
        ModelError: several programs, or what a classifier has no use for.
    """
    models = [n for n in container.entries if n.startswith("models/") and n.endswith(".json")]
    if len(models) != 1:
        listed = ", ".join(repr(PurePosixPath(n).stem) for n in models)
        raise ModelError(f"an archive with {len(models)} programs ({listed}); expected one: save the classifier alone")
    name = PurePosixPath(models[0]).stem
    document = stored.document(container, models[0])
    held = {
        **stored.tensors(container, "data/weights/", f"{name}_weights_config.json"),
        **stored.tensors(container, "data/constants/", f"{name}_constants_config.json"),
    }
    return Writer(document["graph_module"], held).program(), str(document.get("torch_version", "unknown"))


class Writer:
    """Writes a graph down as steps; what it names keeps its name, with a mark of the part of the graph that it is in."""

    def __init__(self, module: dict[str, Any], held: dict[str, Tensor]) -> None:
        self.graph, self.signature, self.calls = module["graph"], module["signature"], module.get("module_call_graph") or []
        self.held = held
        self.steps: list[Any] = []
        self.tensors: dict[str, Tensor] = {}
        self.fresh = 0

    def program(self) -> dict[str, Any]:
        images = self.inputs()
        if len(images) > 1:  # what nothing reads is no image
            used = json.dumps([node["inputs"] for node in self.graph["nodes"]])
            images = [name for name in images if json.dumps({"as_tensor": {"name": name}}) in used]
        if len(images) != 1:
            raise ModelError(f"{len(images)} inputs; expected an image classifier with one image input")
        self.nodes(self.graph["nodes"], "", 0)
        if any("buffer_mutation" in entry for entry in self.signature["output_specs"]):
            raise ModelError("it changes values of its own whenever it runs, as in training mode; call model.eval() before export")
        outputs = [entry["user_output"]["arg"] for entry in self.signature["output_specs"] if "user_output" in entry]
        names = [self.argument(argument, "") for argument in outputs]
        given = self.graph["tensor_values"][images[0]]
        return {
            "steps": self.steps,
            "tensors": self.tensors,
            "image": images[0],
            "image_type": stored.DTYPES[given["dtype"]],
            "outputs": [self.returned(names)],
            "sizes": [s.get("as_int") for s in given["sizes"]],
        }

    def inputs(self) -> list[str]:
        """The tensors that the user gives; weights and constants become steps."""
        images = []
        for entry in self.signature["input_specs"]:
            ((kind, value),) = entry.items()
            if kind == "user_input":
                if "as_tensor" in value["arg"]:
                    images.append(value["arg"]["as_tensor"]["name"])
            elif kind in ("parameter", "buffer", "tensor_constant"):
                name = value[f"{kind}_name"]
                if name not in self.held:
                    raise ModelError(f"the weight {name!r} is not in the archive")
                self.tensors[name] = self.held[name]
                self.steps.append(["tensor", name, [], [value["arg"]["name"]]])
            elif kind == "constant_input":
                ((_, constant),) = value["value"].items()
                self.steps.append(["value", constant, [], [value["name"]]])
            else:
                raise ModelError(f"an input of kind {kind} is not supported")
        return images

    def nodes(self, nodes: list[Any], mark: str, depth: int) -> None:
        if depth > DEEPEST:
            raise ModelError(f"its graph is nested more than {DEEPEST} deep")
        for node in nodes:
            target = node["target"]
            if target.startswith(CHECKS):
                continue
            results = [name for output in node["outputs"] for name in _names(output, mark)]
            if target == INLINED:
                self.inlined(node["inputs"], results, mark, depth)
                continue
            if target == COND:
                self.branches(node["inputs"], results, mark, depth)
                continue
            given = {i["name"]: self.argument(i["arg"], mark) for i in node["inputs"]}
            detail, names = self.called(target, given)
            listed = len(node["outputs"]) == 1 and "as_tensors" in node["outputs"][0]
            if listed or len(node["outputs"]) > 1:
                whole = self.name()
                self.steps += [["call", detail, names, [whole]], ["unpack", None, [whole], results]]
            else:
                self.steps.append(["call", detail, names, results])

    def called(self, target: str, given: dict[str, str]) -> tuple[list[Any], list[str]]:
        """A call with all arguments of its schema, in order."""
        if target in PYTHON:
            return [PYTHON[target], []], list(given.values())
        found = known(target)
        arguments = found._schema.arguments
        for argument in arguments:
            if argument.name not in given:
                default = argument.default_value if argument.has_default_value() else None
                given[argument.name] = self.value(default)
        return [f"aten::{'.'.join(target.split('.')[3:])}", [a.name for a in arguments]], [given[a.name] for a in arguments]

    def inlined(self, inputs: list[Any], results: list[str], mark: str, depth: int) -> None:
        """A part of the graph that is called: written out, under names of its own."""
        parts = [i["arg"]["as_graph"] for i in inputs if "as_graph" in i["arg"]]
        given = [i["arg"] for i in inputs if "as_graph" not in i["arg"] and "as_bool" not in i["arg"]]
        if len(parts) != 1:
            raise ModelError("a part of its graph is called in a way that is not supported")
        own = f"{mark}{self.name()}/"
        for name, argument in zip((n for i in parts[0]["graph"]["inputs"] for n in _names(i, own)), given, strict=True):
            self.same(self.argument(argument, mark), name)
        self.nodes(parts[0]["graph"]["nodes"], own, depth + 1)
        for name, argument in zip(results, parts[0]["graph"]["outputs"], strict=True):
            self.same(self.argument(argument, own), name)

    def branches(self, inputs: list[Any], results: list[str], mark: str, depth: int) -> None:
        """Two parts of the graph of which one is taken: each written out for itself, under names of its own."""
        condition, then, other, operands = (i["arg"] for i in inputs)
        name = self.argument(condition, mark)
        given = operands.get("as_tensors", operands.get("as_optional_tensors", []))
        arguments = [self.argument(v if "as_tensor" in v else {"as_tensor": v}, mark) for v in given]
        whole, blocks = self.steps, []
        for part in (then["as_graph"], other["as_graph"]):
            self.steps = []
            own = f"{mark}{self.name()}/"
            for inner, argument in zip((n for i in part["graph"]["inputs"] for n in _names(i, own)), arguments, strict=True):
                self.same(argument, inner)
            self.nodes(part["graph"]["nodes"], own, depth + 1)
            ends = [self.argument(argument, own) for argument in part["graph"]["outputs"]]
            blocks.append((self.steps, ends))
        self.steps = whole
        self.steps.append(["if", blocks, [name], results])

    def same(self, source: str, name: str) -> None:
        self.steps.append(["call", ["prim::unchecked_cast", ["x"]], [source], [name]])

    def argument(self, argument: Argument, mark: str) -> str:
        """The name of an argument's value; plain ones become steps."""
        ((kind, value),) = argument.items()
        if kind == "as_tensor":
            return mark + str(value["name"])
        if kind in SYMBOLS:
            return mark + str(value["as_name"]) if "as_name" in value else self.value(next(iter(value.values())))
        if kind in PLAIN:
            return self.value(value)
        if kind in ("as_float", "as_floats"):
            return self.value([float(v) for v in value] if isinstance(value, list) else float(value))
        if kind == "as_optional_tensor":
            return self.argument(value, mark)
        if kind in ("as_none", "as_layout", "as_device", "as_memory_format"):
            return self.value(None)
        if kind in ("as_tensors", "as_optional_tensors"):
            return self.listed([v if "as_none" in v or "as_tensor" in v else {"as_tensor": v} for v in value], mark)
        if kind in ("as_sym_ints", "as_sym_floats", "as_sym_bools"):
            return self.listed([{kind.removesuffix("s"): v} for v in value], mark)
        if kind == "as_scalar_type" and value in stored.DTYPES:
            return self.value(stored.DTYPES[value])
        raise ModelError(f"an argument of kind {kind} is not supported")

    def listed(self, parts: list[Argument], mark: str) -> str:
        names, whole = [self.argument(part, mark) for part in parts], self.name()
        self.steps.append(["call", ["prim::ListConstruct", []], names, [whole]])
        return whole

    def value(self, value: Any) -> str:
        name = self.name()
        self.steps.append(["value", value, [], [name]])
        return name

    def name(self) -> str:
        self.fresh += 1
        return f"/{self.fresh}"

    def returned(self, names: list[str]) -> str:
        """The value that is returned, in the structure that the archive gives it."""
        left = list(names)
        spec = next((c["signature"]["out_spec"] for c in self.calls if c.get("fqn") == "" and c.get("signature")), None)
        tree = json.loads(spec)[1] if isinstance(spec, str) and len(spec) < stored.DOCUMENT and spec.count("[") < 1000 else None
        whole = self.structure(tree, left, 0) if isinstance(tree, dict) and _count(tree, 0) == len(names) else None
        if whole is None:
            whole = names[0] if len(names) == 1 else self.name()
            if len(names) != 1:
                self.steps.append(["call", ["prim::TupleConstruct", []], names, [whole]])
        return whole

    def structure(self, tree: dict[str, Any], left: list[str], depth: int) -> str:
        if tree["type"] is None:
            return left.pop(0)
        parts = [self.structure(child, left, depth + 1) for child in tree["children_spec"]]
        whole = self.name()
        keys = json.loads(tree["context"]) if "dict" in str(tree["type"]).lower() and isinstance(tree["context"], str) else None
        if isinstance(keys, list) and len(keys) == len(parts):
            pairs = [name for key, part in zip(keys, parts, strict=True) for name in (self.value(str(key)), part)]
            self.steps.append(["call", ["prim::DictConstruct", []], pairs, [whole]])
        else:
            self.steps.append(["call", ["prim::TupleConstruct", []], parts, [whole]])
        return whole


def _count(tree: dict[str, Any], depth: int) -> int:
    """Leaves of the structure that is returned."""
    if depth > DEEPEST:
        raise ModelError(f"what it returns is nested more than {DEEPEST} deep")
    return 1 if tree["type"] is None else sum(_count(child, depth + 1) for child in tree["children_spec"])


def _names(output: Argument, mark: str) -> list[str]:
    """What a node calls its output, or the parts of it."""
    ((kind, value),) = output.items()
    if kind == "as_tensor":
        return [mark + str(value["name"])]
    if kind == "as_tensors":
        return [mark + str(v["name"]) for v in value]
    if kind == "as_optional_tensor" and "as_tensor" in value:
        return [mark + str(value["as_tensor"]["name"])]
    if kind in SYMBOLS:
        return [mark + str(value["as_name"])]
    if kind == "as_none":
        return [mark + "/none"]
    raise ModelError(f"an output of kind {kind} is not supported")


def known(target: str) -> Any:
    """The operator of this name, if a classifier has a use for it."""
    parts = target.split(".")
    if parts[:3] != ["torch", "ops", "aten"] or len(parts) != 5:
        plain = "its quantised operator " if ".quantized" in target else "operator "
        raise ModelError(f"{plain}{target} is not supported")
    if not operators.allowed(f"aten::{parts[3]}", parts[4]):
        raise ModelError(f"operator {target} is not supported, or no classifier needs it")
    found = getattr(getattr(torch.ops.aten, parts[3], None), parts[4], None)
    if not isinstance(found, torch._ops.OpOverload):
        raise ModelError(f"operator {target} is not known to PyTorch {torch.__version__}")
    return found
