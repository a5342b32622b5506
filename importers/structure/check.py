"""The structure of an ONNX file: looked at without images, and run on them with its switches the other way."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from banscan.errors import BanscanError
from banscan.importers.structure import branches, watch
from banscan.importers.structure.bounds import bounds, by_part
from banscan.importers.structure.finding import BYPASS, DECISION, PROVED, SEEN, SUSPICIOUS, Logic, Look, Structure
from banscan.importers.structure.flow import Flow
from banscan.importers.structure.forcing import Clean, forced, scores
from banscan.importers.structure.graph import Graph, Session, copied, opened, runnable
from banscan.importers.structure.parts import parted
from banscan.importers.structure.settle import Fixed, Settled, fixed
from banscan.importers.structure.suspects import place, suspects, unsettled
from banscan.importers.structure.without import led_past, same_as_before, with_numbers

# rounds of writing branches out, for what decides within them
ROUNDS = 4
# places that are told one by one
MOST = 200
ORDER = (PROVED, SUSPICIOUS, "idle", SEEN)


def look(path: Path, logits: str | None) -> Look:
    """Looks at a file without images.

    Raises:
        ModelError: it is damaged or refused, or has no single input for images.
    """
    graph = opened(path, logits)
    flow = graph.flow()
    found = suspects(flow)
    doubtful = unsettled(flow, found)
    extra = [p for p in doubtful if p not in found]
    structure = Structure(places=(*extra, *found)[:MOST], shortest=flow.shortest, longest=flow.longest)
    return Look(structure, bool(doubtful), graph.images.spec, _classes(graph) if doubtful else 0)


def _classes(graph: Graph) -> int:
    """How many scores it answers for an image; 0 where its runtime cannot run it."""
    try:
        row = Session(runnable(graph), [graph.output]).ask(graph.images.spec.example().numpy()[:1])
    except Exception:  # a runtime's own errors
        return 0
    return int(row[graph.output].size // (graph.images.batch or 1))


def examine(path: Path, logits: str | None, images: np.ndarray, pixels: tuple[float, float], seconds: float) -> tuple[Structure, Settled]:
    """Runs a file on preprocessed images [N, ...], whose values lie within `pixels`, with what is constant on them set to other states.

    Raises:
        ModelError: as of `look`.
    """
    until = time.process_time() + seconds
    graph = runnable(opened(path, logits))
    flow = graph.flow()
    found = suspects(flow)
    base = Structure(places=found[:MOST], shortest=flow.shortest, longest=flow.longest)
    try:
        return _examined(graph, flow, base, images, pixels, until)
    except BanscanError:
        raise
    except Exception as error:  # a runtime's own errors
        lines = str(error).strip().splitlines()
        return replace(base, not_done=f"onnxruntime cannot run it ({(lines[-1] if lines else type(error).__name__)[:200]})"), Settled()


def _examined(
    graph: Graph, flow: Flow, base: Structure, images: np.ndarray, pixels: tuple[float, float], until: float
) -> tuple[Structure, Settled]:
    clean, marks = _clean(graph, flow, images, pixels)
    if clean is None:
        return replace(base, not_done="it gives all of the images the same answer, so that none can be moved"), Settled()
    places, whole = _round(clean, base.places, until)
    if not any(p.outcome == PROVED for p in places):
        found, complete = parted(clean, marks, until)
        proved = {p.tensor for p in found}
        places, whole = (*found, *(p for p in places if p.tensor not in proved)), whole and complete
    taken = _taken(clean, places)
    rest = _settled(clean, places, pixels)
    for _ in range(ROUNDS - 1):
        inner = copied(graph)
        if not branches.written_out(inner.model, taken.get) or any(p.outcome == PROVED for p in places):
            break
        graph, flow = inner, inner.flow()
        clean, _ = _clean(graph, flow, images, pixels)
        if clean is None:
            break
        more, complete = _round(clean, suspects(flow), until)
        known = {p.tensor for p in places}
        places, whole = (*places, *(p for p in more if p.tensor not in known)), whole and complete
        taken |= _taken(clean, more)
    order = sorted(places, key=lambda p: ORDER.index(p.outcome))
    not_done = None if whole else "not every switch could be tried in the time that there is"
    return replace(base, places=tuple(order)[:MOST], images=len(images), not_done=not_done), rest


def _taken(clean: Clean, places: tuple[Logic, ...]) -> dict[str, bool]:
    """The conditions of one value that are the same for all images."""
    held = {p.tensor: clean.values[p.tensor] for p in places if p.tensor in clean.values}
    return {name: bool(value.reshape(-1)[0]) for name, value in held.items() if value.dtype == np.bool_ and value.size == 1}


def _settled(clean: Clean, places: tuple[Logic, ...], pixels: tuple[float, float]) -> Settled:
    """What takes the switches out: each stands as it does on clean images, or, where some of these set it, as it does on the others."""
    numbers: dict[str, Fixed] = {}
    vectors = {p.tensor for p in places if p.outcome == PROVED and p.tensor not in clean.values and p.tensor not in clean.living}
    for p in places:
        own = _calm(clean, p) if p.outcome == PROVED else None
        if own is not None and (number := fixed(own)) is not None:
            numbers[p.tensor] = number
    beside = {t for t, v in clean.values.items() if clean.flow.beside(t) and (v.dtype == np.bool_ or v.size == clean.batch)}
    if not numbers and not beside and not vectors:
        return Settled()
    graph = with_numbers(clean.graph, numbers)
    calm, found = _clean(graph, graph.flow(), clean.images, pixels)
    if calm is None:
        return Settled(numbers=numbers)
    same = same_as_before(calm, found, set(numbers) | beside, vectors)
    # what is proved by a constant or a single number is taken out by itself
    return Settled(same or (led_past(calm, found, vectors) if vectors and not numbers else {}), numbers)


def _calm(clean: Clean, switch: Logic) -> np.ndarray | None:
    """What a switch is where it does nothing; None where that is not one value."""
    if switch.tensor in clean.values:
        return clean.values[switch.tensor]
    if switch.tensor not in clean.living:
        return None
    seen = clean.living[switch.tensor]
    if seen.dtype == np.bool_:
        calm: np.ndarray = np.full_like(seen[0], switch.state == "false")
        return calm
    others = seen[clean.classes != switch.target]
    return np.full_like(seen[0], np.median(others)) if len(others) else None


def _clean(graph: Graph, flow: Flow, images: np.ndarray, pixels: tuple[float, float]) -> tuple[Clean | None, watch.Marks]:
    """The graph on clean images; None where these are all of one class."""
    classes = scores(graph, Session(graph, [graph.output]).answers(images))
    if classes is None or len(np.unique(classes)) < 2:
        return None, {}
    picked = np.unique(np.linspace(0, len(images) - 1, watch.FIRST).astype(int))
    found = watch.marks(graph, flow, images[picked])
    same = watch.constant(found) - {graph.output}
    single = [t for t, mark in found.items() if t not in same and set(mark.sizes) == {graph.images.batch or 1}]
    held, living = watch.values(graph, sorted(same), single, images)
    known = bounds(flow, pixels, graph.constants(), graph.images.name)
    return Clean(graph, flow, images, set(held), held, living, known, by_part(flow, known, graph.constants()), classes), found


def _round(clean: Clean, listed: tuple[Logic, ...], until: float) -> tuple[tuple[Logic, ...], bool]:
    """Every place of a graph with what came of forcing it, and of constant tensors that are no decisions by their operator."""
    known = {p.tensor: p for p in listed}
    for tensor in clean.values:
        known.setdefault(tensor, place(clean.flow, tensor, BYPASS if clean.flow.beside(tensor) else DECISION))
    for tensor in clean.living:
        known.setdefault(tensor, place(clean.flow, tensor, BYPASS if clean.flow.beside(tensor) else DECISION))
    listed_tensors = {p.tensor for p in listed}
    results, whole = forced(clean, known, until)
    places = []
    for tensor, own in known.items():
        if tensor in results:
            places.append(results[tensor])
        elif tensor in listed_tensors:
            places.append(replace(own, constant=tensor in clean.constant))
    # what does nothing and decides nothing is no news
    kept = [p for p in places if p.outcome in (PROVED, SUSPICIOUS) or p.tensor in listed_tensors or (p.constant and p.kind == BYPASS)]
    return tuple(kept), whole
