"""A traced graph run node by node, with a stop at every one, from where it can go on with another value."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, fx

from banscan.importers import attribute_named
from banscan.importers.model import output_node


class Program:
    """The nodes of a graph in order, and after which of them each value is needed no more."""

    def __init__(self, module: fx.GraphModule) -> None:
        self.module = module
        self.end = cast(fx.Node, output_node(module.graph).args[0])
        self.nodes = [n for n in module.graph.nodes if n.op != "output"]
        last = {source: node for node in self.nodes for source in node.all_input_nodes}
        self.over: dict[fx.Node, list[fx.Node]] = defaultdict(list)
        for source, node in last.items():
            if source is not self.end:
                self.over[node].append(source)

    def compute(self, node: fx.Node, values: dict[fx.Node, Any]) -> None:
        """Puts a node's value into `values`, and takes out what is needed no more."""
        if node.op == "get_attr":
            values[node] = attribute_named(self.module, str(node.target))
            return
        if _mutates(node):
            changed = cast(fx.Node, node.args[0])
            values[changed] = values[changed].clone()
        args: Any = fx.map_arg(node.args, values.__getitem__)
        kwargs: Any = fx.map_arg(node.kwargs, values.__getitem__)
        values[node] = cast(Any, node.target)(*args, **kwargs)
        for source in self.over[node]:
            values.pop(source, None)


def _mutates(node: fx.Node) -> bool:
    """Whether an operation writes into what it reads, which other runs read as well."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable and isinstance(node.args[0], fx.Node)


@dataclass(frozen=True)
class Step:
    """A stop of a walk: the node, its value, and what is known so far."""

    node: fx.Node
    value: Any
    program: Program
    place: int
    values: dict[fx.Node, Any]

    def forced(self, value: Tensor) -> Tensor:
        """What the graph answers where the node has this value."""
        values = {**self.values, self.node: value}
        for node in self.program.nodes[self.place + 1 :]:
            self.program.compute(node, values)
        answer: Tensor = values[self.program.end]
        return answer


@torch.no_grad()
def walk(module: fx.GraphModule, images: Tensor) -> Iterator[Step]:
    """Runs a graph on images [N, ...], with a stop behind every node."""
    program, values = Program(module), dict[fx.Node, Any]()
    for place, node in enumerate(program.nodes):
        if node.op == "placeholder":
            values[node] = images
        else:
            program.compute(node, values)
        yield Step(node, values[node], program, place, values)
