"""What `banscan inspect` prints of a model file: input, layers of neurons, feature layer."""

from dataclasses import replace

from rich.console import Console
from rich.table import Table

from banscan.importers import TracedModel
from banscan.scanner import facts
from banscan.scanner.report.drawing import draw
from banscan.scanner.report.pieces import add_notes, anatomy, pairs, source
from banscan.text import counted, shown


def show(model: TracedModel, console: Console, origin: str | None = None) -> None:
    """Prints what was read, and where it is from."""
    model_facts = shown(replace(facts.of_model(model), origin=origin))
    table = pairs(model_facts.path.name)
    table.add_row("model", source(model_facts))
    table.add_row("SHA-256", model_facts.sha256)
    if model_facts.origin is not None:
        table.add_row("from", model_facts.origin)
    table.add_row("features", anatomy(model_facts))
    add_notes(table, model_facts)
    console.print(table)
    console.print(draw(model))
    title = f"{counted(model_facts.layers, 'layer')}, {counted(model_facts.neurons, 'neuron')}"
    layers = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("layer", "kind", "neurons", "activation", "weights", "role"):
        layers.add_column(name, justify="right" if name in ("neurons", "weights") else "left")
    nodes = {n.name: n for n in model.module.graph.nodes}
    shapes = {name: tuple(value.shape) for name, value in [*model.module.named_parameters(), *model.module.named_buffers()]}
    for neuron in model.neurons:
        constants = [str(a.target) for a in nodes[neuron.node].all_input_nodes if a.op == "get_attr"]
        weight = shapes.get(constants[0], ()) if constants else ()
        role = "classifier" if neuron.node in model.classifier else ""
        layers.add_row(neuron.node, neuron.kind, str(neuron.channels), neuron.act or "", "×".join(map(str, weight)), role)
    console.print(layers)
