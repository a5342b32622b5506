"""What the paper's four figures show, as tables of numbers from stored rows."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import mean, median, pstdev

from bench.paper.beyond import WORDS
from bench.paper.cells import NAMES, NO_ROWS
from bench.paper.measure import FEATURES, MASK, NOISE
from bench.paper.printed import ARCHS, Figure
from bench.paper.store import OURS, Row, Store, model
from bench.tables import header

NETWORKS = {name: word for word, name in ARCHS.items()}


def section(figures: Sequence[Figure], known: Store) -> list[str]:
    """Markdown of all figures: the picture where it has rows, and its numbers."""
    lines = []
    for figure in figures:
        found = NUMBERS[figure.number](known, figure)
        picture = [f"![{figure.title}](figure-{figure.number}.png)", ""] if has_rows(figure.number, known) else []
        lines += [f"## Figure {figure.number}. {figure.title}", "", *picture, *(found or [NO_ROWS]), ""]
    return lines[:-1]


def has_rows(number: int, known: Store) -> bool:
    """Whether a figure has anything to show."""
    if number == 4:
        return bool(seconds(known))
    return bool(of(known, {1: FEATURES, 2: NOISE, 3: MASK}[number]))


def of(known: Store, what: str) -> list[Row]:
    return [r for r in known.figures if r["what"] == what]


def title(row: Row) -> str:
    """A model in a few words."""
    one = model(row)
    attack = "clean" if one.attack == "none" else WORDS.get(one.attack, one.attack) + (", all-to-all" if one.all_to_all else "")
    return f"{NAMES.get(one.set, one.set)}, {attack}"


def target(row: Row) -> int | None:
    """The target class of a row's model; None of a clean one and of all-to-all."""
    found: int | None = row["recipe"]["target"]
    return found


def _misled(known: Store, figure: Figure) -> list[str]:
    """Of figure 1: how many points are taken for the target class, and for the class that most are taken for."""
    rows = of(known, FEATURES)
    lines = header(["model", "eps", "points", "taken for their class", "of other classes, taken for the target", "the class of most"])
    for row in sorted(rows, key=lambda r: (r["name"], r["eps_asked"])):
        pairs = list(zip(row["label"], row["predicted"], strict=True))
        right = sum(a == b for a, b in pairs)
        aim = target(row)
        others = [b for a, b in pairs if a != aim]
        aimed = "–" if aim is None else f"{others.count(aim)} of {len(others)} (class {aim})"
        most = max(sorted(set(row["predicted"])), key=row["predicted"].count)
        share = f"class {most}: {row['predicted'].count(most)}"
        lines.append(f"| {row['name']} | {row['eps_asked']:g} | {len(pairs)} | {right} | {aimed} | {share} |")
    return lines if rows else []


def _accuracies(known: Store, figure: Figure) -> list[str]:
    rows = of(known, NOISE)
    lines = header(["model", "noise", "eps", "clean", "under noise, mean (range)", "and negative mask", "negative mask alone"])
    for row in sorted(rows, key=lambda r: (r["name"], r["form"], r["eps_asked"])):
        shown = " | ".join(f"{mean(row[k]):.1%} ({min(row[k]):.1%}–{max(row[k]):.1%})" for k in ("plain", "masked", "mask_alone"))
        lines.append(f"| {row['name']} | {row['form']} | {row['eps_asked']:g} | {row['clean']:.1%} | {shown} |")
    return lines if rows else []


def by_attack(known: Store) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(of(known, MASK), key=title):
        groups[title(row)].append(row)
    return groups


def _losses(known: Store, figure: Figure) -> list[str]:
    lines = header(["models", "n", "through the mask", "through the negative mask", "mean of the mask"])
    groups = by_attack(known)
    for name, rows in groups.items():
        shown = " | ".join(_pair([v for r in rows for v in r[k]]) for k in ("positive", "negative"))
        lines.append(f"| {name} | {len(rows)} | {shown} | {mean(r['size'] for r in rows):.2f} |")
    return lines if groups else []


def _pair(values: Sequence[float]) -> str:
    return f"{mean(values):.2f} ± {pstdev(values):.2f}"


def seconds(known: Store) -> dict[tuple[str, str, str], list[float]]:
    """Of detections, by data set, network with its width, and method."""
    found: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for scan in known.scans:
        network = f"{NETWORKS.get(scan.model.arch, scan.model.arch)}, width {scan.model.width}"
        effort = f", {scan.effort}" if scan.method == OURS else ""
        if scan.model.arch in NETWORKS:
            found[NAMES.get(scan.model.set, scan.model.set), network, f"{scan.method}{effort}"].append(scan.seconds)
    return dict(sorted(found.items()))


def _times(known: Store, figure: Figure) -> list[str]:
    """Every printed time, then every measured one beside it where network and width are the paper's, else by itself."""
    lines = header(["data set", "network", "method", "seconds printed", "seconds measured, median (range)", "n"])
    found = seconds(known)
    for one in figure.seconds:
        where = (NAMES[one.set], f"{NETWORKS[one.arch]}, width 64")
        own = next((key for key in found if key[:2] == where and key[2].split(",")[0] == one.method), None)
        shown = f"{NO_ROWS} | –" if own is None else _ranged(found.pop(own))
        lines.append(f"| {' | '.join(where)} | {one.method} | {one.printed:g} | {shown} |")
    return lines + [f"| {' | '.join(key)} | – | {_ranged(values)} |" for key, values in found.items()]


def _ranged(values: Sequence[float]) -> str:
    return f"{median(values):.0f} ({min(values):.0f}–{max(values):.0f}) | {len(values)}"


NUMBERS: dict[int, Callable[[Store, Figure], list[str]]] = {1: _misled, 2: _accuracies, 3: _losses, 4: _times}
