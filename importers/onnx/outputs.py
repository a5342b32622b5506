"""Which output of an ONNX file holds the scores of the classes, and what the file calls the classes."""

import ast
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from banscan.errors import ModelError
from banscan.importers.normal import choice

FLOATS = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16})
# where exporters and hand-written scripts put the class names; compared without case
KEYS = ("names", "classes", "class_names", "labels", "label_names", "categories", "id2label")
LONGEST = 1 << 20
# operators with weights: of constant operands
WEIGHTED = frozenset(
    {"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "FusedConv", "FusedGemm", "FusedMatMul", "MatMulNBits", "Attention"}
)
# operators that change no value
MOVES = frozenset({"Identity", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Cast"})


@dataclass(frozen=True)
class Output:
    """An output's name, the tensor of scores behind it (another where a ZipMap stands between), and the names of the classes."""

    name: str
    tensor: str
    labels: tuple[str, ...] | None


def find(path: Path, model: onnx.ModelProto, wanted: str | None) -> Output:
    """The output asked for, or the one that holds the logits, or what is computed from these: probabilities before labels.

    Raises:
        ModelError: no such output, or several that could be meant.
    """
    maps = {node.output[0]: node for node in model.graph.node if node.op_type == "ZipMap" and node.domain == "ai.onnx.ml"}
    names = [o.name for o in model.graph.output]
    if wanted is not None and wanted not in names:
        raise ModelError(f"{path}: no output {wanted!r}; it has {', '.join(names) or 'none'}")
    if wanted is None:
        found = _chosen(model, maps)
        if found is None:
            raise ModelError(
                f"{path}: {len(names)} outputs ({', '.join(names) or 'none'}); say with --logits which of them holds the logits"
            )
        wanted = found.name
    if wanted in maps:
        return Output(wanted, maps[wanted].input[0], _mapped(maps[wanted]))
    return Output(wanted, wanted, _described(model) or _looked_up(model))


def _chosen(model: onnx.ModelProto, maps: dict[str, onnx.NodeProto]) -> choice.Candidate | None:
    graph = model.graph
    made_by = {o: node for node in graph.node for o in node.output}
    candidates = [_mapped_scores(o.name, maps[o.name]) if o.name in maps else _candidate(o, made_by) for o in graph.output]
    if not candidates:
        return None
    constants = {t.name for t in (*graph.initializer, *(s.values for s in graph.sparse_initializer))}
    reached = {i.name for i in graph.input if i.name not in constants}
    made_from: dict[str, list[str]] = {}
    weighted: set[str] = set()
    for node in graph.node:
        read = [i for i in (*node.input, *_inner(node)) if i]
        if not any(i in reached for i in read):
            continue
        for output in filter(None, node.output):
            reached.add(output)
            made_from[output] = [i for i in read if i in reached]
            if node.op_type in WEIGHTED and any(i not in reached for i in read):
                weighted.add(output)
    return choice.choose(candidates, made_from, weighted)


def _inner(node: onnx.NodeProto) -> Iterator[str]:
    """What the branches of a node read, their own tensors among it."""
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from inner.input
            yield from _inner(inner)


def _mapped_scores(name: str, node: onnx.NodeProto) -> choice.Candidate:
    return choice.Candidate(name, node.input[0], (None, len(_mapped(node))), floating=True)


def _candidate(output: onnx.ValueInfoProto, made_by: dict[str, onnx.NodeProto]) -> choice.Candidate:
    kind = output.type.tensor_type
    known = output.type.HasField("tensor_type") and kind.HasField("shape")
    sizes = tuple(d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in kind.shape.dim) if known else None
    node = made_by.get(output.name)
    while node is not None and node.op_type in MOVES and node.input:
        node = made_by.get(node.input[0])
    largest = node is not None and node.op_type in ("ReduceMax", "Max")
    return choice.Candidate(output.name, output.name, sizes, output.type.HasField("tensor_type") and kind.elem_type in FLOATS, largest)


def _mapped(node: onnx.NodeProto) -> tuple[str, ...]:
    """A ZipMap's keys, in the order of the scores."""
    values = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    return _texts(values.get("classlabels_strings") or values.get("classlabels_int64s") or [])


def _looked_up(model: onnx.ModelProto) -> tuple[str, ...] | None:
    """The constant in which scikit-learn's exporter looks the label up."""
    tables = {node.input[0] for node in model.graph.node if node.op_type == "ArrayFeatureExtractor" and node.domain == "ai.onnx.ml"}
    kinds = (onnx.TensorProto.STRING, onnx.TensorProto.INT64)
    constants = [t for t in model.graph.initializer if t.name in tables and t.data_type in kinds]
    try:
        return _texts(onnx.numpy_helper.to_array(constants[0]).ravel().tolist()) if len(constants) == 1 else None
    except ValueError:  # fewer values than its shape says; nothing but names is lost
        return None


def _texts(values: list[Any]) -> tuple[str, ...]:
    return tuple(v.decode(errors="replace") if isinstance(v, bytes) else str(v) for v in values)


def _described(model: onnx.ModelProto) -> tuple[str, ...] | None:
    """Class names in the file's metadata: a list, or a map from index to name, in JSON or as Python writes it, or a list by commas."""
    given = {p.key.lower(): p.value for p in model.metadata_props if len(p.value) < LONGEST}
    return next((names for key in KEYS if key in given and (names := _parsed(given[key])) is not None), None)


def _parsed(text: str) -> tuple[str, ...] | None:
    value: Any = None
    for parse in (json.loads, ast.literal_eval):
        try:
            value = parse(text)
            break
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    if isinstance(value, dict):
        indices = {str(k): v for k, v in value.items()}
        value = [indices.get(str(i)) for i in range(len(indices))]
    if value is None:
        value = [part.strip() for part in text.replace("\n", ",").split(",") if part.strip()]
    names = [str(v) for v in value if isinstance(v, str | int)] if isinstance(value, list | tuple) else []
    return tuple(names) if len(names) > 1 and isinstance(value, list | tuple) and len(names) == len(value) == len(set(names)) else None
