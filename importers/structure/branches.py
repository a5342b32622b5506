"""Branches of an ONNX graph written out: the one that is taken, in the place of its If."""

from collections.abc import Callable

import onnx
from onnx import helper

from banscan.importers.structure.flow import attributes, graphs_of

# branches within branches that are followed
DEEPEST = 20


def written_out(model: onnx.ModelProto, taken: Callable[[str], bool | None]) -> int:
    """Puts the nodes of taken branches in the place of their If, in place; `taken` knows a condition by its tensor's name.

    Returns:
        How many there were.
    """
    count = 0
    for _ in range(DEEPEST):
        nodes, found = [], 0
        for node in model.graph.node:
            which = taken(node.input[0]) if node.op_type == "If" and node.input else None
            if which is None:
                nodes.append(node)
                continue
            found += 1
            branch = next((a.g for a in node.attribute if a.name == ("then_branch" if which else "else_branch")), None)
            if branch is not None:
                nodes += _moved(model, node, branch, f"branch_{count + found}_")
        if not found:
            break
        copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
        del model.graph.node[:]
        model.graph.node.extend(copies)
        count += found
    return count


def constants(model: onnx.ModelProto) -> dict[str, bool]:
    """Conditions that the file itself answers."""
    known = {t.name: t for t in model.graph.initializer if _one(t)}
    for node in model.graph.node:
        if node.op_type == "Constant" and (value := attributes(node).get("value")) is not None and _one(value):
            known[node.output[0]] = value
    return {name: bool(onnx.numpy_helper.to_array(t).reshape(-1)[0]) for name, t in known.items()}


def _one(tensor: onnx.TensorProto) -> bool:
    size = 1
    for d in tensor.dims:
        size *= d
    return bool(tensor.data_type == onnx.TensorProto.BOOL and size == 1 and tensor.data_location != onnx.TensorProto.EXTERNAL)


def _moved(model: onnx.ModelProto, node: onnx.NodeProto, branch: onnx.GraphProto, mark: str) -> list[onnx.NodeProto]:
    """The nodes of a branch under names of their own; its constants become the model's."""
    own = {o for n in branch.node for o in n.output if o} | {t.name for t in branch.initializer}
    names = {name: mark + name for name in own}
    for tensor in branch.initializer:
        copy = onnx.TensorProto.FromString(tensor.SerializeToString())
        copy.name = names[tensor.name]
        model.graph.initializer.append(copy)
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in branch.node]
    for inner in nodes:
        _renamed(inner, names, 0)
    ends = [(names.get(o.name, o.name), made) for o, made in zip(branch.output, node.output, strict=False) if made]
    return [*nodes, *(helper.make_node("Identity", [end], [made]) for end, made in ends)]


def _renamed(node: onnx.NodeProto, names: dict[str, str], depth: int) -> None:
    for side in (node.input, node.output):
        for i, name in enumerate(side):
            side[i] = names.get(name, name)
    node.name = ""
    if depth > DEEPEST:
        return
    for graph in graphs_of(node):
        hidden = {i.name for i in graph.input} | {t.name for t in graph.initializer} | {o for n in graph.node for o in n.output}
        outer = {old: new for old, new in names.items() if old not in hidden}
        for inner in graph.node:
            _renamed(inner, outer, depth + 1)
        for output in graph.output:
            output.name = outer.get(output.name, output.name)
