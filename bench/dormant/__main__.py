"""Hides switches in networks and asks the criterion *dormant* about them; finished rows are not computed again.

python -m bench.dormant --zoo DIR --data DIR --out bench/results/dormant.jsonl
"""

import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import click
import torch
from torch import Tensor, nn

from banscan import importers
from banscan.importers import TracedModel
from banscan.scanner import facts
from banscan.scanner.inputs import images as clean_images
from banscan.scanner.settings import Options
from bench import rows
from bench.dormant import path, trained
from bench.dormant.fitted import fitted, patterns
from bench.dormant.judge import judge, traced
from bench.dormant.plant import Switch, plant, plant_head, success
from bench.dormant.settle import settled
from bench.dormant.trained import Network
from bench.dormant.variants import DEPTHS, HEAD, ONE, PATH, SWAPPED, SWITCH, SWITCHES, TRIED, UNWRITTEN
from bench.zoo.resnet50 import ResNet50

CLASSES, LARGE = 10, 224
EXAMPLES = Path("examples")
Row = dict[str, Any]


def row(model: TracedModel, images: Tensor, labels: Tensor, *, about: Row, target: int | None, asr: float | None) -> Row:
    """One network as the criterion sees it; `about` names it and the switch."""
    seen = judge(model, images, labels)
    led, finding = seen.searched.led, seen.finding
    return {
        **about,
        "attack": "none" if target is None else SWITCH,
        "target": target,
        "asr": asr,
        "size": images.shape[-1],
        "accuracy": seen.accuracy,
        "called": finding.classes[0] if finding.exceeds else None,
        "score": finding.score,
        "of": seen.searched.neurons,
        "dormant": seen.searched.dormant,
        "tried": seen.searched.tried,
        "neurons": [] if led is None else list(led.neurons),
        "layer": None if led is None else led.layer,
        "moved": None if led is None else led.hits / led.images,
        "ratio": None if led is None or not led.living else led.push / max(max(led.living), 1e-6),
        "p_value": None if led is None else led.p_value,
        "seconds": round(seen.seconds, 2),
        "commit": rows.commit(),
        "environment": facts.environment(torch.float32, torch.device("cpu")),
    }


def planted(network: Network, variant: str, depth: str, seed: int) -> tuple[nn.Module, Switch]:
    """A copy of a network with a switch; its target is drawn.

    Raises:
        ValueError: the place does not tell the trigger from clean images, or there is none.
    """
    classes = network.classes
    target = int(torch.randint(classes, (1,), generator=torch.Generator().manual_seed(seed)))
    switch = replace(SWAPPED if variant == HEAD else SWITCHES[variant], seed=seed, target=target, depth=DEPTHS[depth])
    write = plant_head if variant == HEAD else plant
    return settled(write(network.module, network.images, switch), network.module, network.trained, switch), switch


def ways(network: Network) -> Iterator[tuple[str, str, int]]:
    """How a switch is hidden in a network, where, and the seed, which no other switch has."""
    # crc32 of the name: the same in every run
    first = zlib.crc32(network.name.encode()) % 100_000
    kinds = {**SWITCHES, **({HEAD: SWAPPED} if network.arch == "vit" else {})}
    # deep layers know nothing of the smallest trigger
    every = [(kind, depth) for kind, depth in product(kinds, DEPTHS) if depth == "early" or kinds[kind].size > Switch().size]
    yield from ((kind, depth, first + i) for i, (kind, depth) in enumerate(every))


def of_zoo(network: Network, done: set[tuple[str, str, str]], only: str) -> Iterator[Row]:
    """A trained network without a switch, and with each in turn."""
    about: Row = {"network": network.name, "arch": network.arch, "held": network.arch not in TRIED}
    images, labels = network.images, network.labels
    if (network.name, "none", "") not in done:
        here = about | {"variant": "none", "depth": ""}
        yield row(traced(network.module, images), images, labels, about=here, target=None, asr=0.0)
    for variant, depth, seed in ways(network):
        if (network.name, variant, depth) in done or only not in variant:
            continue
        here = about | {"variant": variant, "depth": depth, "seed": seed}
        try:
            model, switch = planted(network, variant, depth, seed)
        except ValueError:
            yield here | {"attack": UNWRITTEN, "commit": rows.commit()}
            continue
        yield row(traced(model, images), images, labels, about=here, target=switch.target, asr=success(model, network.tested, switch))


def example(done: set[tuple[str, str, str]]) -> Iterator[Row]:
    """The clean example without and with a switch through all its stages, and the backdoored one, which has none."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "switch.onnx"
        path.write(EXAMPLES / "clean.onnx", written, gain=8.0)
        cases = [("example", PATH, written), ("example", "none", EXAMPLES / "clean.onnx")]
        for network, variant, file in [*cases, ("backdoored example", "none", EXAMPLES / "backdoored.onnx")]:
            if (network, variant, "") in done:
                continue
            model = importers.load(file)
            clean = clean_images.load(EXAMPLES / "clean", model.input, model.classes, Options())
            assert clean.labels is not None
            images = torch.from_numpy(clean.images).permute(0, 3, 1, 2).float() / 255
            target, asr = None, 0.0
            if variant == PATH:
                target = path.TARGET
                with torch.no_grad():
                    marked = model.logits(torch.from_numpy(path.stamped(images.numpy()))).argmax(1)
                asr = float((marked[clean.labels != target] == target).float().mean())
            about = {"network": network, "arch": "resnet18", "held": False, "variant": variant, "depth": ""}
            yield row(model, images, clean.labels, about=about, target=target, asr=asr)


def large(done: set[tuple[str, str, str]]) -> Iterator[Row]:
    """ResNet50 for 224x224 images, with random weights, without a switch and with one."""
    if ("resnet50", ONE, "early") in done:
        return
    torch.manual_seed(0)
    small_images, labels = patterns(CLASSES, each=6)
    images = nn.functional.interpolate(small_images, size=LARGE)
    plain = fitted(ResNet50(CLASSES, 64), images, labels, CLASSES)
    about = {"network": "resnet50", "arch": "resnet50", "held": False}
    if ("resnet50", "none", "") not in done:
        yield row(traced(plain, images), images, labels, about=about | {"variant": "none", "depth": ""}, target=None, asr=0.0)
    switch = Switch(size=15, middle=160)
    model = plant(plain, images, switch)
    asr = success(model, images, switch)
    yield row(traced(model, images), images, labels, about=about | {"variant": ONE, "depth": "early"}, target=switch.target, asr=asr)


@click.command()
@click.option("--zoo", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True, help="Trained clean networks.")
@click.option("--data", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True, help="Their data sets.")
@click.option("--only", default="*", show_default=True, help="Names of the networks, with wildcards.")
@click.option("--variant", default="", help="Only hiding places whose name contains this.")
@click.option("--tried/--all", default=False, help="Only networks on which the criterion may be tried.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
def main(zoo: Path, data: Path, only: str, variant: str, tried: bool, out: Path) -> None:
    """Write one row a network and switch."""
    torch.set_num_threads(1)
    done = {(r["network"], r["variant"], r["depth"]) for r in rows.read(out)}
    parts = [example(done), large(done)] if only == "*" and not variant else []
    for manifest in sorted(zoo.glob(f"{only}.json")):
        network = trained.load(manifest, data)
        parts += [of_zoo(network, done, variant)] if network.arch in TRIED or not tried else []
    for part in parts:
        for made in part:
            rows.append(out, made)
            seen = ("attack", "asr", "accuracy", "called", "target", "seconds")
            told = {k: made[k] for k in seen if k in made}
            click.echo(f"{made['network']} {made['variant']} {made['depth']} {told}", err=True)


if __name__ == "__main__":
    main()
