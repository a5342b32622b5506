"""Draws the paper's four figures from stored rows, told apart by markers, hatches and grey alone."""

from collections import defaultdict
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from statistics import mean, median, pstdev
from typing import Any

from bench.paper import printed
from bench.paper.cells import NAMES
from bench.paper.figures import NETWORKS, by_attack, has_rows, of, seconds, target, title
from bench.paper.measure import FEATURES, NOISE
from bench.paper.store import OURS, Row, Store

SIZE = 3.2
LIGHT, DARK = "0.65", "0.1"
OPTIONS: dict[str, Any] = {
    "svg.hashsalt": "banscan",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.dpi": 120,
    "figure.constrained_layout.use": True,
}


def possible() -> bool:
    """Whether there is something to draw with."""
    return find_spec("matplotlib") is not None


def draw(known: Store, out: Path) -> list[Path]:
    """Writes those figures that have rows, as SVG and PNG, and returns the files."""
    import matplotlib as mpl

    mpl.use("Agg")
    made = []
    with mpl.rc_context(OPTIONS):
        for number, drawn in DRAWN.items():
            if not has_rows(number, known):
                continue
            canvas = drawn(known)
            for suffix, more in (("svg", {"metadata": {"Date": None}}), ("png", {})):
                path = out / f"figure-{number}.{suffix}"
                canvas.savefig(path, **more)
                made.append(path)
    return made


def _features(known: Store) -> Any:
    """A row of panels for each model, noise growing to the right."""
    from matplotlib.figure import Figure as Canvas

    by_model: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(of(known, FEATURES), key=lambda r: (r["recipe"]["attack"] == "none", r["name"], r["eps_asked"])):
        by_model[row["name"]].append(row)
    wide = max(map(len, by_model.values()))
    canvas = Canvas(figsize=(0.8 * SIZE * wide, 0.95 * SIZE * len(by_model)))
    axes = canvas.subplots(len(by_model), wide, squeeze=False)
    for line, rows in zip(axes, by_model.values(), strict=True):
        marked = target(rows[0])
        for axis in line[len(rows) :]:
            axis.axis("off")
        for axis, row in zip(line, rows, strict=False):
            # of a clean model the class that most points go to under the strongest noise
            aim = max(sorted(set(rows[-1]["predicted"])), key=rows[-1]["predicted"].count) if marked is None else marked
            kinds = [(b == aim) + 2 * (a == aim) for a, b in zip(row["label"], row["predicted"], strict=True)]
            styles: dict[int, tuple[str, int, dict[str, Any]]] = {
                0: ("o", 8, {"facecolors": "none", "edgecolors": "0.7", "linewidths": 0.6}),
                1: ("x", 14, {"c": DARK, "linewidths": 0.8}),
                2: ("s", 12, {"facecolors": "none", "edgecolors": DARK, "linewidths": 0.8}),
                3: ("s", 12, {"c": DARK}),
            }
            words = {0: "other classes", 1: f"taken for class {aim}", 2: f"class {aim}, taken for another", 3: f"class {aim}"}
            for kind, (marker, size, style) in styles.items():
                points = [xy for xy, own in zip(row["xy"], kinds, strict=True) if own == kind]
                axis.scatter(
                    [p[0] for p in points], [p[1] for p in points], marker=marker, s=size, label=words[kind], rasterized=True, **style
                )
            axis.set_title(f"eps {row['eps_asked']:g}: {sum(k == 1 for k in kinds)} taken for class {aim}", fontsize=8)
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(title(rows[0]))
        line[0].legend(fontsize=6, loc="best")
    return canvas


def _accuracy(known: Store) -> Any:
    """A panel for each strength of the noise, a column for each model: hollow without the mask, filled with it."""
    from matplotlib.figure import Figure as Canvas

    rows = [r for r in of(known, NOISE) if r["form"] == "paper"] or of(known, NOISE)
    strengths = sorted({r["eps_asked"] for r in rows})
    names = sorted({r["name"] for r in rows}, key=lambda name: (name.split("-")[2] == "none", name))
    canvas = Canvas(figsize=(SIZE * len(strengths), 0.9 * SIZE + 0.6))
    axes = canvas.subplots(1, len(strengths), squeeze=False, sharey=True)[0]
    for axis, eps in zip(axes, strengths, strict=True):
        for place, name in enumerate(names):
            for row in (r for r in rows if (r["name"], r["eps_asked"]) == (name, eps)):
                for shift, part, marker, face in ((-0.15, "plain", "o", "none"), (0.15, "masked", "^", DARK)):
                    spots = [place + shift] * len(row[part])
                    word = {"plain": "noise", "masked": "noise and negative mask"}[part] if place == 0 else None
                    axis.scatter(spots, row[part], marker=marker, facecolors=face, edgecolors=DARK, s=22, linewidths=0.8, label=word)
                axis.hlines(row["clean"], place - 0.3, place + 0.3, colors=LIGHT, linestyles="--", label=None if place else "no noise")
        axis.set_title(f"eps {eps:g}", fontsize=9)
        axis.set_xticks(range(len(names)))
        short = [title(next(r for r in rows if r["name"] == name)).replace(", ", "\n", 1) for name in names]
        axis.set_xticklabels(short, fontsize=7, rotation=45 if len(names) > 3 else 0, ha="right" if len(names) > 3 else "center")
        axis.set_xlim(-0.6, len(names) - 0.4)
        axis.set_ylim(0, 1)
    axes[0].set_ylabel("accuracy on clean images")
    canvas.legend(*axes[0].get_legend_handles_labels(), fontsize=7, loc="outside upper center", ncols=3)
    return canvas


def _losses(known: Store) -> Any:
    """Two bars for each kind of model, with the standard deviation over models and masks."""
    from matplotlib.figure import Figure as Canvas

    groups = by_attack(known)
    canvas = Canvas(figsize=(2 * SIZE, 0.5 + 0.4 * len(groups) + 0.6))
    axis = canvas.subplots()
    for place, rows in enumerate(groups.values()):
        for shift, part, hatch, face in ((-0.2, "positive", "", LIGHT), (0.2, "negative", "////", "white")):
            values = [v for r in rows for v in r[part]]
            word = {"positive": "through the mask", "negative": "through the negative mask"}[part] if place == 0 else None
            axis.barh(
                place + shift, mean(values), 0.36, xerr=pstdev(values), hatch=hatch, color=face, edgecolor=DARK, capsize=2, label=word
            )
    axis.set_yticks(range(len(groups)))
    axis.set_yticklabels([f"{name} (n = {len(rows)})" for name, rows in groups.items()], fontsize=8)
    axis.invert_yaxis()
    axis.set_xlabel("cross-entropy of clean images")
    axis.legend(fontsize=7)
    return canvas


def _times(known: Store) -> Any:
    """A line for each data set, network and method, on a logarithmic scale: median and range, and what the paper prints."""
    from matplotlib.figure import Figure as Canvas

    lines: list[tuple[str, str, list[float]]] = [
        (f"{NAMES[p.set]}, {NETWORKS[p.arch]}, width 64: {p.method}", "printed", [p.printed]) for p in printed.read()[1][-1].seconds
    ]
    lines += [
        (f"{name}, {network}: {method} (n = {len(values)})", "ours, measured" if method.startswith(OURS) else "others, measured", values)
        for (name, network, method), values in seconds(known).items()
    ]
    canvas = Canvas(figsize=(2.4 * SIZE, 0.9 + 0.19 * len(lines)))
    axis = canvas.subplots()
    styles = {"printed": ("D", "white"), "ours, measured": ("o", DARK), "others, measured": ("s", LIGHT)}
    told: set[str] = set()
    for place, (_, kind, values) in enumerate(lines):
        middle = median(values)
        marker, face = styles[kind]
        reach = [[middle - min(values)], [max(values) - middle]]
        word = None if kind in told else kind
        told.add(kind)
        style = {"fmt": marker, "markerfacecolor": face, "markeredgecolor": DARK, "ecolor": DARK, "markersize": 5, "capsize": 2}
        axis.errorbar(middle, place, xerr=reach, label=word, linewidth=0.8, **style)
    axis.set_yticks(range(len(lines)))
    axis.set_yticklabels([name for name, _, _ in lines], fontsize=7)
    axis.invert_yaxis()
    axis.set_xscale("log")
    axis.set_xlabel("seconds, median and range")
    axis.grid(axis="x", color="0.9")
    axis.legend(fontsize=7)
    return canvas


DRAWN: dict[int, Callable[[Store], Any]] = {1: _features, 2: _accuracy, 3: _losses, 4: _times}
