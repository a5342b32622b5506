"""The program of a torch.export archive, run node by node with torch calls: its graph is JSON, its weights are plain bytes."""

import json
import math
import operator
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from banscan.errors import ModelError
from banscan.importers.pytorch import archive
from banscan.importers.pytorch.aten import call, in_place

# the numbering of the archive's schema
DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
MEMORY_FORMATS = {1: torch.contiguous_format, 2: torch.channels_last, 3: torch.channels_last_3d, 4: torch.preserve_format}
# arithmetic on sizes
PYTHON: dict[str, Callable[..., Any]] = {
    **{
        f"_operator.{name}": getattr(operator, name)
        for name in ("add", "sub", "mul", "floordiv", "truediv", "neg", "mod", "pow", "getitem")
    },
    **{f"_operator.{name}": getattr(operator, name) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    "math.trunc": math.trunc,
    "torch.sym_int": torch.sym_int,
    "torch.sym_float": torch.sym_float,
    "torch.sym_max": torch.sym_max,
    "torch.sym_min": torch.sym_min,
    "torch.sym_not": torch.sym_not,
}
CHECKS = ("torch.ops.aten._assert", "torch.ops.aten.sym_constrain_range")
PLAIN = frozenset({"as_int", "as_bool", "as_string", "as_ints", "as_bools", "as_float", "as_floats"})


class Program(nn.Module):
    """Runs the graph of an archive. Weights become frozen float32 buffers."""

    def __init__(self, opened: zipfile.ZipFile) -> None:
        super().__init__()
        models = [n for n in opened.namelist() if "/models/" in n and n.endswith(".json")]
        if len(models) != 1:
            raise ModelError(f"an archive with {len(models)} programs; expected one")
        root, name = models[0].split("models/")[0], Path(models[0]).stem
        document = json.loads(opened.read(models[0]))
        self.version = str(document.get("torch_version", "unknown"))
        own, signature = document["graph_module"]["graph"], document["graph_module"]["signature"]
        stored = {
            **_tensors(opened, root + "data/weights/", f"{name}_weights_config.json"),
            **_tensors(opened, root + "data/constants/", f"{name}_constants_config.json"),
        }
        self.attributes: dict[str, str] = {}
        images = []
        for entry in signature["input_specs"]:
            ((kind, value),) = entry.items()
            if kind == "user_input":
                images.append(value["arg"]["as_tensor"]["name"])
            elif kind in ("parameter", "buffer", "tensor_constant"):
                attribute = f"constant_{len(self.attributes)}"
                tensor = stored[value[f"{kind}_name"]]
                self.register_buffer(attribute, tensor.float() if tensor.is_floating_point() else tensor)
                self.attributes[value["arg"]["name"]] = attribute
            elif kind != "constant_input":
                raise ModelError(f"an input of kind {kind} is not supported")
        if len(images) != 1:
            raise ModelError(f"{len(images)} inputs; expected an image classifier with one image input")
        outputs = [entry["user_output"]["arg"] for entry in signature["output_specs"] if "user_output" in entry]
        if len(outputs) != 1 or len(signature["output_specs"]) != 1:
            raise ModelError("several outputs, or one that changes the model's state; expected a classifier with one output, its logits")
        self.image, self.output = images[0], outputs[0]
        self.sizes: list[Any] = own["tensor_values"][self.image]["sizes"]
        self.steps = [
            (n["target"], [(i["name"], i["arg"]) for i in n["inputs"]], [_names(o) for o in n["outputs"]])
            for n in own["nodes"]
            if not n["target"].startswith(CHECKS)
        ]
        for target, _, _ in self.steps:
            _known(target)

    def forward(self, image: Tensor) -> Tensor:
        values: dict[str, Any] = {self.image: image}
        for target, inputs, outputs in self.steps:
            given = [(name, self._value(argument, values)) for name, argument in inputs]
            if target in PYTHON:
                result = PYTHON[target](*(value for _, value in given))
            else:
                packet, overload = target.removeprefix("torch.ops.aten.").split(".")
                schema = _known(target)._schema
                named = dict(given)
                result = call(f"aten::{packet}.{overload}", [named.get(a.name, a.default_value) for a in schema.arguments])
                if in_place(f"aten::{packet}") and "as_tensor" in inputs[0][1]:
                    values[inputs[0][1]["as_tensor"]["name"]] = result
            flat = outputs[0] if len(outputs) == 1 else [name for names in outputs for name in names]
            if len(outputs) == 1 and len(flat) == 1 and not isinstance(result, list | tuple):
                values[flat[0]] = result
            else:
                values.update(zip(flat, result, strict=False))
        final: Tensor = self._value(self.output, values)
        return final

    def _value(self, argument: dict[str, Any], values: dict[str, Any]) -> Any:
        ((kind, value),) = argument.items()
        if kind == "as_tensor":
            name = value["name"]
            return values[name] if name in values else getattr(self, self.attributes[name])
        if kind in PLAIN:
            return [float(v) for v in value] if kind == "as_floats" else float(value) if kind == "as_float" else value
        if kind == "as_none":
            return None
        if kind in ("as_tensors", "as_optional_tensors"):
            return [None if "as_none" in v else self._value(v if "as_tensor" in v else {"as_tensor": v}, values) for v in value]
        if kind == "as_optional_tensor":
            return None if "as_none" in value else self._value(value, values)
        if kind in ("as_sym_int", "as_sym_float", "as_sym_bool"):
            return values[value["as_name"]] if "as_name" in value else next(iter(value.values()))
        if kind in ("as_sym_ints", "as_sym_bools"):
            return [values[v["as_name"]] if "as_name" in v else next(iter(v.values())) for v in value]
        if kind == "as_scalar_type":
            return DTYPES[value]
        if kind == "as_memory_format":
            return MEMORY_FORMATS[value]
        if kind in ("as_layout", "as_device"):
            return None
        raise ModelError(f"an argument of kind {kind} is not supported")


def _names(output: dict[str, Any]) -> list[str]:
    """What a node calls its output, or the parts of it."""
    ((kind, value),) = output.items()
    if kind == "as_tensor":
        return [value["name"]]
    if kind == "as_tensors":
        return [v["name"] for v in value]
    if kind in ("as_sym_int", "as_sym_float", "as_sym_bool"):
        return [value["as_name"]]
    raise ModelError(f"an output of kind {kind} is not supported")


def _known(target: str) -> Any:
    """The operator of this name, if a classifier has a use for it."""
    if target in PYTHON:
        return PYTHON[target]
    parts = target.split(".")
    if parts[:3] != ["torch", "ops", "aten"] or len(parts) != 5 or parts[3] in archive.DENIED or parts[3].startswith("__"):
        raise ModelError(f"operator {target} is not supported")
    found = getattr(getattr(torch.ops.aten, parts[3], None), parts[4], None)
    if not isinstance(found, torch._ops.OpOverload):
        raise ModelError(f"operator {target} is not known to PyTorch {torch.__version__}")
    return found


def _tensors(opened: zipfile.ZipFile, folder: str, config: str) -> dict[str, Tensor]:
    """The stored tensors by name; each is a file of plain bytes."""
    result = {}
    for name, entry in json.loads(opened.read(folder + config))["config"].items():
        file, meta = entry["path_name"], entry["tensor_meta"]
        if entry.get("use_pickle") or "/" in file or not file.startswith(("weight_", "tensor_")):
            raise ModelError(f"{name} is stored as a pickle or an object of its own; refused")
        dtype = DTYPES.get(meta["dtype"])
        if dtype is None:
            raise ModelError(f"{name} has a type (number {meta['dtype']}) that is not supported")
        sizes, strides = [int(s["as_int"]) for s in meta["sizes"]], [int(s["as_int"]) for s in meta["strides"]]
        offset, data = int(meta["storage_offset"]["as_int"]), bytearray(opened.read(folder + file))
        last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
        if min([*sizes, *strides, offset], default=0) < 0 or (all(sizes) and (last + 1) * dtype.itemsize > len(data)):
            raise ModelError(f"{name} has fewer values than its shape; the file is damaged")
        flat = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
        result[name] = torch.as_strided(flat, sizes, strides, offset).clone()
    return result
