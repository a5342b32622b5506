"""The rows of `bench.speed` as Markdown."""

from statistics import median
from typing import Any

from banscan.scanner.settings import Settings

Row = dict[str, Any]
# image passes of one restart of one search of a scan
STEP = Settings().steps * Settings().images
INTRO = """## The search

The search for noise (Eq. 4 in the normalised form, untargeted, L2 ball, 2 steps) by four contenders, on the same network with random
weights, the same images, layers, steps and restarts. A *pass* is one image forward and backward under one restart's noise. In rows
of 473733d and later commits freed memory stays with the process for every contender ([usage.md](usage.md), `--memory`).

- (a) eager PyTorch, as one would write it: the whole network from the image at every step, the noise in plain operations behind every
  layer, one restart after the other, channels first, weights frozen, float32.
- (b) the network of (a) through `torch.compile`; the time that it compiles is not counted.
- (c) the published detection from its description (Eq. 4 to 6, Appendix B.4): batch norm in training mode, gradients of all weights, a
  random start and 30 steps for every batch of 128, a mask that is learnt through the whole network for 20 epochs.
- (d) banscan: what does not depend on the noise computed once, restarts as one batch, noise, residual and activation in one pass behind
  the convolution, no weight gradients. bfloat16 is what a scan uses where the machine multiplies it; float32 is what it reports.
- On a GPU also (e), which is (d) with tiles of its kernels measured there, and (f), which computes the noise inside the convolutions
  ([kernels.md](kernels.md#tuning)).

*Noise on the deepest quarter* of the layers is what a scan does; *all layers* is what the paper does. The share of the roofline is the
least time that the operations of the noisy part or its bytes can take at the rates that the machine reached in the same run, over the
time that it took; it can exceed 100 % in float32, where a convolution may need fewer operations than are counted (Winograd). In a
detection, (d) does with the same images, steps and restarts what (c) does: noise, mask, shares of the classes under both. A scan does
more, a search for every class and searches over pixels. The last table shows that all kernels come to the same verdict on the examples.
"""
WHO = {
    "eager": "(a) eager PyTorch",
    "compiled": "(b) torch.compile of (a)",
    "published": "(c) the published procedure",
    "ours": "(d) banscan",
    "tuned": "(e) (d) with tiles measured on the GPU",
    "fused": "(f) (e) with the noise inside the convolution",
}


def tables(rows: list[Row]) -> str:
    """Searches and detections of every machine, the last row of each kind."""
    parts = []
    for machine in dict.fromkeys(_machine(r) for r in rows):
        own = list({_key(r): r for r in rows if _machine(r) == machine}.values())
        commits = sorted({r["machine"]["commit"] for r in own})
        rates = own[-1]["machine"]["rates"]
        reached = "; ".join(f"{name} {ops / 1e12:.3g} TFLOP/s" for name, (ops, _) in rates.items())
        # scans of the examples have no width
        width = "".join(f", width {w}" for w in sorted({r["width"] for r in own if "width" in r}))
        parts.append(f"### {machine}{width}, commit {', '.join(commits)}\n")
        parts.append(f"A large matrix product reaches: {reached}; a copy {rates['float32'][1] / 1e9:.3g} GB/s.\n")
        for shown, whats in (
            (_searches, ("search",)),
            (_convolutions, ("convolution",)),
            (_classes, ("classes",)),
            (_detections, ("detection",)),
            (_scans, ("verdict", "scan")),
        ):
            those = [r for r in own if r["what"] in whats]
            parts += [shown(those)] if those else []
    return "\n".join(parts)


def _machine(row: Row) -> str:
    m = row["machine"]
    threads = f", {m['threads']} threads" if m["device"] == "cpu" else f", triton {m['triton']}"
    return f"{m['processor']}{threads}, torch {m['torch']}"


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(row[f] for f in ("what", "network", "contender", "layers", "dtype", "restarts", "images"))


def _searches(rows: list[Row]) -> str:
    lines = [
        "| network | noise on | restarts × images | | | ms a pass (range) | against (a) | peak memory | share of the roofline | commit |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in sorted(rows, key=_place):
        alike = [r for r in rows if (r["network"], r["layers"], r["contender"]) == (row["network"], row["layers"], "eager")]
        # (a) does its restarts one after the other: a pass of one costs what a pass of many does
        base = next((r for r in alike if r["restarts"] == row["restarts"]), alike[0] if alike else None)
        ratio = "" if base is None or base is row else f"{_each(base) / _each(row):.1f}"
        low, high = (1e3 * f(row["seconds"]) / row["passes"] for f in (min, max))
        peak = "" if row["peak_bytes"] is None else f"{row['peak_bytes'] / 1e6:.0f} MB"
        cells = (
            row["network"],
            row["layers"],
            f"{row['restarts']} × {row['images']}",
            WHO[row["contender"]],
            row["dtype"],
            f"{_each(row) * 1e3:.3g} ({low:.3g} to {high:.3g})",
            ratio,
            peak,
            _share(row),
            row["machine"]["commit"],
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _place(row: Row) -> tuple[Any, ...]:
    return (*(row[f] for f in ("network", "layers", "restarts", "images")), list(WHO).index(row["contender"]), row["dtype"])


def _each(row: Row) -> float:
    seconds: float = median(row["seconds"])
    return seconds / float(row["passes"])


def _share(row: Row) -> str:
    """The least time that operations or bytes take at the machine's own rates, over the time that it took."""
    if row["operations"] is None:
        return ""
    product, copy = row["machine"]["rates"][row["dtype"]]
    return f"{max(row['operations'] / product, row['bytes'] / copy) / median(row['seconds']):.0%}"


def _convolutions(rows: list[Row]) -> str:
    lines = [
        "| one convolution, forward | noise | restarts × images | | | µs (range) | against (d) | share of the roofline |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        alike = [r for r in rows if all(r[f] == row[f] for f in ("network", "layers", "dtype")) and r["contender"] == "ours"]
        times = 1e6 * row["restarts"] * row["images"] / row["passes"]
        ratio = f"{_each(alike[0]) / _each(row):.2f}" if alike and alike[0] is not row else ""
        low, high = (times * f(row["seconds"]) for f in (min, max))
        spread = f"{times * median(row['seconds']):.3g} ({low:.3g} to {high:.3g})"
        many = f"{row['restarts']} × {row['images']}"
        shown = (row["network"], row["layers"], many, WHO[row["contender"]], row["dtype"], spread, ratio, _share(row))
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def _classes(rows: list[Row]) -> str:
    lines = ["| all noise searches of a scan | classes searched for | median s (range) |", "| --- | --- | --- |"]
    for row in rows:
        searched = row["passes"] // (row["restarts"] * STEP) - 1
        spread = f"{median(row['seconds']):.2f} ({min(row['seconds']):.2f} to {max(row['seconds']):.2f})"
        lines.append(f"| {row['network']}, {row['restarts']} restarts, {row['images']} images | {searched} | {spread} |")
    return "\n".join(lines) + "\n"


def _scans(rows: list[Row]) -> str:
    lines = [
        "| example | searches | kernels | | verdict | test of the noise | over restarts | s, start-up not counted |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        searches = "noise alone" if row["what"] == "verdict" else "all"
        spread = f"{min(row['over_restarts']):.2f} to {max(row['over_restarts']):.2f}"
        statistic = f"{row['statistic']:.2f}, class {row['target']}"
        cells = (row["network"], searches, row["contender"], row["dtype"], row["outcome"], statistic, spread, f"{row['seconds'][0]:.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _detections(rows: list[Row]) -> str:
    lines = ["| detection, images to shares | noise on | restarts | median s (range) | against (c) |", "| --- | --- | --- | --- | --- |"]
    base = next((r for r in rows if r["contender"] == "published"), None)
    for row in rows:
        ratio = "" if base is None or row is base else f"{median(base['seconds']) / median(row['seconds']):.1f}"
        spread = f"{median(row['seconds']):.2f} ({min(row['seconds']):.2f} to {max(row['seconds']):.2f})"
        lines.append(f"| {WHO[row['contender']]} | {row['layers']} | {row['restarts']} | {spread} | {ratio} |")
    return "\n".join(lines) + "\n"
