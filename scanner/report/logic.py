"""What decides by the pixels in a graph, as a table."""

from typing import TYPE_CHECKING

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from banscan.text import NAME, plain, shown

if TYPE_CHECKING:
    from banscan.importers.structure.finding import Logic, Structure

# places that are shown one by one
SHOWN = 12
STYLES = {"proved": "red", "suspicious": "yellow"}
KINDS = {"decision": "a value", "branch": "a part of the graph", "bypass": "leads past the network"}
HELD = {None: "–", True: "never changes", False: "changes"}
RAN = ("on clean images", "set to", "sends to class", "share")
NUMBERS = frozenset({"weights before", "behind", "sends to class", "share"})


def show(name: str, structure: "Structure", on: Console) -> None:
    """Prints the structure of a file of this name."""
    on.print(Text(plain(name)))
    on.print(table(shown(structure)))
    if structure.places and structure.images == 0 and structure.not_done is None:
        on.print(Text("What comes of it when it decides otherwise is seen on images alone: add --clean-dir DIR.", style="yellow"))


def table(structure: "Structure") -> Group:
    """The places that decide by the pixels, the gravest first, and what is to be known beside."""
    lines: list[RenderableType] = []
    if structure.places:
        lines.append(_places(structure))
        if len(structure.places) > SHOWN:
            lines.append(Text(f"and {len(structure.places) - SHOWN} more", style="dim"))
    else:
        lines.append(Text("Nothing in the graph decides by the pixels beside the network."))
    if structure.shortest is not None:
        ways = f"{structure.shortest} on the shortest way, {structure.longest} on the longest"
        lines.append(Text(f"Operators with weights between pixels and logits: {ways}.", style="dim"))
    if structure.apart:
        lines.append(Text("The network was read and scanned without what is proved here.", style="dim"))
    if structure.not_done is not None:
        lines.append(Text(f"Not tried: {structure.not_done}", style="yellow"))
    return Group(*lines)


def _places(structure: "Structure") -> Table:
    """A row for each; what was tried on images only where there were any."""
    result = Table(title="What in the graph decides by the pixels", title_justify="left", box=None, pad_edge=False)
    ran = structure.images > 0
    for name in ("operator", "tensor", "decides on", "weights before", "behind", *(RAN if ran else ())):
        result.add_column(name, justify="right" if name in NUMBERS else "left", max_width=24)
    for place in structure.places[:SHOWN]:
        # of branches in PyTorch's own graphs no way was followed
        ways = ("–", "–") if structure.shortest is None else (str(place.before), str(place.after))
        what = (place.operator, plain(place.tensor, NAME), KINDS[place.kind], *ways)
        result.add_row(*what, *(_tried(place) if ran else ()), style=STYLES.get(place.outcome, ""))
    return result


def _tried(place: "Logic") -> tuple[str, ...]:
    effect = ("–", "–") if place.target is None or place.moved is None else (str(place.target), f"{place.moved:.0%}")
    return HELD[place.constant], place.state or "–", *effect
