"""A classifier as a column: image, map before pooling, penultimate features, logits, and what lies between them."""

from collections import Counter
from typing import Any, cast

from rich.table import Table
from rich.text import Text
from torch import fx

from banscan.importers import TracedModel
from banscan.importers.normal import penultimate

# operators that only rearrange or look up, of which a reader learns nothing
SILENT = frozenset({"sym_size", "lift_fresh_copy", "to", "expand", "contiguous"})
SHAPES = frozenset({"permute", "transpose", "reshape", "view", "flatten", "unsqueeze", "squeeze"})
LISTED = 4


def draw(model: TracedModel) -> Table:
    """The drawing; sizes are those of one image."""
    graph = model.module.graph
    nodes = {n.name: n for n in graph.nodes}
    image = next(n for n in graph.nodes if n.op == "placeholder")
    logits = cast(fx.Node, next(n for n in reversed(graph.nodes) if n.op == "output").args[0])
    points = [("image", image)]
    if model.spatial not in (None, model.features):
        points.append(("map before pooling", nodes[model.spatial]))
    points += [("penultimate features", nodes[model.features]), ("logits", logits)]
    data = penultimate.depends_on(graph, image)
    table = Table(title="From image to logits", title_justify="left", box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for i, (name, node) in enumerate(points):
        if i:
            passed = penultimate.between(points[i - 1][1], node, data)
            table.add_row(Text("  │", style="dim"), "", Text(_passed([n for n in graph.nodes if n in passed], model), style="dim"))
        shown = "×".join(str(s) for s in penultimate.shape(node)[1:])
        table.add_row(name, shown, Text("" if node is image else node.name, style="cyan" if node.name == model.features else ""))
    if model.stripped:
        table.add_row(Text("  │", style="dim"), "", Text(f"{', '.join(reversed(model.stripped))}: taken off", style="dim"))
    return table


def _passed(nodes: list[fx.Node], model: TracedModel) -> str:
    """Few operators one by one with their neurons, many as counts."""
    neurons = {n.node: n for n in model.neurons}
    told = [n for n in nodes if _operator(n) not in SILENT]
    if len(told) <= LISTED:
        return " → ".join(f"{_operator(n)} ({neurons[n.name].channels})" if n.name in neurons else _operator(n) for n in told)
    counts = Counter(_operator(n) for n in told if _operator(n) not in SHAPES)
    layers = sum(n.name in neurons for n in told)
    listed = ", ".join(f"{count} {name}" for name, count in counts.most_common(LISTED))
    return f"{layers} layer{'' if layers == 1 else 's'} of neurons: {listed}{', …' if len(counts) > LISTED else ''}"


def _operator(node: fx.Node) -> str:
    target: Any = node.target
    return str(getattr(target, "__name__", target)).partition(".")[0].strip("_")
