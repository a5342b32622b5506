"""Which tensors of a graph are the same for all clean images."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto, helper

from banscan.importers.structure.flow import Flow
from banscan.importers.structure.graph import Graph, Session

# their results are no tensors
OTHER = ("Sequence", "Optional", "SplitToSequence", "String", "ZipMap", "ConcatFromSequence")
# images that every tensor is watched on; those that look constant are looked at again on all
FIRST = 12

# what tensors that are equal may differ by, as a share of their largest value
SAME = 1e-4


@dataclass(frozen=True)
class Mark:
    """What is noted of a tensor: its number of values, their sum and the sum of their squares, for each image."""

    sizes: tuple[int, ...]
    sums: tuple[tuple[float, float], ...]


Marks = dict[str, Mark]
Arrays = dict[str, np.ndarray]


def marks(graph: Graph, flow: Flow, images: np.ndarray) -> Marks:
    """Those of every tensor that depends on the pixels, for each of the images [N, ...]."""
    watched = [o for s in flow.steps for o in s.makes if o in flow.depends and not s.node.op_type.startswith(OTHER)]
    nodes, shown = [], []
    for i, name in enumerate(watched):
        real, *noted = (f"watch/{i}/{kind}" for kind in ("real", "size", "sum", "squares"))
        nodes += [
            helper.make_node("Cast", [name], [real], to=TensorProto.FLOAT),
            helper.make_node("Size", [real], [noted[0]]),
            helper.make_node("ReduceSum", [real], [noted[1]], keepdims=0),
            helper.make_node("ReduceSumSquare", [real], [noted[2]], keepdims=0),
        ]
        shown.append(noted)
    rows = list(Session(graph, [n for noted in shown for n in noted], extra=nodes).answers(images))
    return {
        name: Mark(tuple(int(row[size]) for row in rows), tuple((float(row[total]), float(row[squares])) for row in rows))
        for name, (size, total, squares) in zip(watched, shown, strict=True)
    }


def constant(found: Marks) -> set[str]:
    """Tensors whose marks are the same for all images."""
    return {name for name, mark in found.items() if all(_same(row, mark.sums[0]) for row in mark.sums)}


def _same(one: Iterable[float], other: Iterable[float]) -> bool:
    return all(a == b or (a != a and b != b) for a, b in zip(one, other, strict=True))


def values(graph: Graph, same: Sequence[str], single: Sequence[str], images: np.ndarray) -> tuple[Arrays, Arrays]:
    """What tensors hold on images [N, ...]: of `same`, those that are the same for all; and those of `single` and the others, [N, ...]."""
    held: Arrays = {}
    rows: dict[str, list[np.ndarray]] = {name: [] for name in (*single, *same)}
    if rows:
        for i, row in enumerate(Session(graph, list(rows)).answers(images)):
            held = {n: np.asarray(row[n]) for n in same} if not i else {n: v for n, v in held.items() if _equal(v, np.asarray(row[n]))}
            for name, kept in rows.items():
                if row[name].size <= (graph.images.batch or 1):
                    kept.append(np.asarray(row[name]))
    living = {n: np.stack(kept) for n, kept in rows.items() if n not in held and len(kept) == len(images)}
    return held, living


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def _near(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two tensors are the same but for the rounding of what cancelled."""
    return bool(np.allclose(one, other, rtol=1e-5, atol=SAME * float(np.abs(other).max(initial=0))))


def twins(graph: Graph, pairs: Sequence[tuple[str, str]], images: np.ndarray) -> dict[str, str]:
    """Of pairs of tensors, the first one of each left that equals its right on all images: left → right."""
    if not pairs:
        return {}
    alive = list(pairs)
    for row in Session(graph, [name for pair in pairs for name in pair]).answers(images):
        alive = [(a, b) for a, b in alive if row[a].shape == row[b].shape and _near(row[a], row[b])]
    found: dict[str, str] = {}
    for a, b in alive:
        found.setdefault(a, b)
    return found
