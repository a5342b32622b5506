"""The intact files that mutants are made of: small classifiers in every format, and what lies beside a model."""

import io
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import Tensor, nn

SIZE, CLASSES = 8, 4
SUFFIXES = ("png", "jpg", "webp", "bmp", "ppm", "gif", "tif")


class Plain(nn.Module):
    """Convolution, batch norm, residual, pooling, linear: images [N, 3, 8, 8] → logits [N, 4]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 6, 3, 1, 1), nn.BatchNorm2d(6)
        self.body, self.head = nn.Conv2d(6, 6, 3, 1, 1), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = torch.relu(self.body(x) + x)
        logits: Tensor = self.head(nn.functional.max_pool2d(x, 2).mean((2, 3)))
        return logits


class Tokens(nn.Module):
    """Patches as tokens, attention, GELU, layer norm: shapes are computed in the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.norm = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8)
        self.mixed, self.head = nn.Linear(8, 24), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        t = self.norm(self.patches(x).flatten(2).transpose(1, 2))
        q, k, v = self.mixed(t).reshape(x.shape[0], -1, 3, 8).unbind(2)
        t = t + torch.softmax(q @ k.transpose(1, 2) / 8**0.5, -1) @ v
        return torch.softmax(self.head(nn.functional.gelu(t).mean(1)), 1)


class Branching(nn.Module):
    """Loops, branches and a check, as scripted code has them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Conv2d(3, 6, 3, 1, 1), nn.Conv2d(6, 6, 3, 1, 1)])
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 4:
            raise ValueError("four axes")
        for layer in self.layers:
            x = torch.relu(layer(x))
        for axis in [3, 2]:
            x = x.mean(axis)
        logits: Tensor = self.head(x)
        return logits


def models(folder: Path) -> list[Path]:
    """Writes a model of every kind into a folder; their paths, by the kind first in the name."""
    torch.manual_seed(0)
    plain, tokens = Plain().eval(), Tokens().eval()
    example = torch.rand(2, 3, SIZE, SIZE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, module in (("plain", plain), ("tokens", tokens)):
            free = {"image": {0: "batch"}, "out": {0: "batch"}}
            torch.onnx.export(
                module,
                (example,),
                str(folder / f"onnx-{name}.onnx"),
                dynamo=False,
                input_names=["image"],
                output_names=["out"],
                dynamic_axes=free,
            )
            torch.jit.trace(module, example).save(str(folder / f"script-{name}.pt"))
            exported = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
            torch.export.save(exported, str(folder / f"pt2-{name}.pt2"))
        torch.jit.script(Branching().eval()).save(str(folder / "script-branching.pt"))
    model = onnx.load(folder / "onnx-plain.onnx")
    onnx.save(_quantised(model), folder / "onnx-quantised.onnx")
    onnx.save(_branched(onnx.load(folder / "onnx-plain.onnx")), folder / "onnx-branched.onnx")
    return sorted(folder.iterdir())


def _quantised(model: onnx.ModelProto) -> onnx.ModelProto:
    """Weights as integers with a scale, and the pixels rounded."""
    graph = model.graph
    for tensor in [t for t in graph.initializer if len(t.dims) > 1]:
        values = numpy_helper.to_array(tensor)
        scale = np.float32(np.abs(values).max() / 127)
        graph.initializer.append(numpy_helper.from_array(np.array(scale), f"{tensor.name}_scale"))
        inputs = [f"{tensor.name}_8", f"{tensor.name}_scale"]
        graph.node.insert(0, helper.make_node("DequantizeLinear", inputs, [tensor.name]))
        tensor.CopyFrom(numpy_helper.from_array(np.round(values / scale).astype(np.int8), f"{tensor.name}_8"))
    return model


def _branched(model: onnx.ModelProto) -> onnx.ModelProto:
    """A constant condition, a cast, names of the classes, and a shape that is computed."""
    graph = model.graph
    head = graph.node[-1]
    source, head.input[0] = head.input[0], "chosen"
    graph.node.pop()
    branches: dict[str, Any] = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(op, [source], [name])], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)]
        )
        for name, op in (("then", "Identity"), ("else", "Neg"))
    }
    graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    graph.node.extend([helper.make_node("If", ["yes"], ["chosen"], **branches), head])
    entry = model.metadata_props.add()
    entry.key, entry.value = "names", str({i: f"class {i}" for i in range(CLASSES)})
    return model


def beside(folder: Path) -> list[Path]:
    """Writes what else a scan reads: images, a table of labels, a calibration."""
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    for suffix in SUFFIXES:
        Image.fromarray(pixels).save(folder / f"image-{suffix}.{suffix}")
    (folder / "table-labels.csv").write_text("file,label\n" + "".join(f"image-{s}.{s},{i % CLASSES}\n" for i, s in enumerate(SUFFIXES)))
    (folder / "names-labels.txt").write_text("".join(f"class {i}\n" for i in range(CLASSES)))
    return sorted(folder.iterdir())


def entries(data: bytes) -> list[tuple[zipfile.ZipInfo, bytes]]:
    """What an archive holds; none where it is no archive."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return [(info, archive.read(info)) for info in archive.infolist()]
    except Exception:
        return []
