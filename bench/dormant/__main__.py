"""Hides switches in networks and asks the criterion *dormant* about them; finished rows are not computed again.

python -m bench.dormant --seeds 2 --out bench/results/dormant.jsonl
"""

import copy
import tempfile
from collections.abc import Iterator
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
from bench.dormant import path
from bench.dormant.fitted import fitted, patterns
from bench.dormant.judge import judge, traced
from bench.dormant.networks import NETWORKS, WIDTHS, ResNet50
from bench.dormant.plant import Switch, plant, plant_head
from bench.dormant.variants import HEAD, PATH, SWITCHES, held

CLASSES, LARGE = 10, 224
EXAMPLES = Path("examples")
Row = dict[str, Any]


def row(
    model: TracedModel, images: Tensor, labels: Tensor, *, network: str, seed: int, variant: str, target: int | None, asr: float | None
) -> Row:
    """One network as the criterion sees it."""
    seen = judge(model, images, labels)
    led, finding = seen.searched.led, seen.finding
    return {
        "network": network,
        "seed": seed,
        "variant": variant,
        "attack": "none" if target is None else "switch",
        "target": target,
        "held": asr is not None and held(network, variant),
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


def small(name: str, seed: int, done: set[tuple[str, int, str]]) -> Iterator[Row]:
    """A small network without a switch, and with each in turn."""
    torch.manual_seed(seed)
    images, labels = patterns(CLASSES, each=20)
    plain = fitted(NETWORKS[name](CLASSES, WIDTHS[name]), images, labels, CLASSES)
    about: Any = {"network": name, "seed": seed}
    if (name, seed, "none") not in done:
        yield row(traced(plain, images), images, labels, variant="none", target=None, asr=0.0, **about)
    for variant, switch in (*SWITCHES.items(), *(((HEAD, Switch()),) if name == "vit" else ())):
        if (name, seed, variant) in done:
            continue
        model: Any = copy.deepcopy(plain)
        switch = Switch(**{**vars(switch), "seed": seed})
        try:
            asr = plant_head(model, model.layers[0], images, switch) if variant == HEAD else plant(model, model.hidden(), images, switch)
        except ValueError as error:
            click.echo(f"{name} {seed} {variant}: {error}", err=True)
            continue
        yield row(traced(model, images), images, labels, variant=variant, target=switch.target, asr=asr, **about)


def example(seed: int, done: set[tuple[str, int, str]]) -> Iterator[Row]:
    """The clean example without and with a switch through all its stages, and the backdoored one, which has none."""
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "switch.onnx"
        path.write(EXAMPLES / "clean.onnx", written, gain=8.0, seed=seed)
        cases = [("example", PATH, written)]
        cases += [("example", "none", EXAMPLES / "clean.onnx"), ("backdoored example", "none", EXAMPLES / "backdoored.onnx")] * (seed == 0)
        for network, variant, file in cases:
            if (network, seed, variant) in done:
                continue
            model = importers.load(file)
            clean = clean_images.load(EXAMPLES / "clean", model.input, model.classes, Options())
            assert clean.labels is not None
            images = torch.from_numpy(clean.images).permute(0, 3, 1, 2).float() / 255
            target, asr = None, 0.0
            if variant == PATH:
                target = path.TARGET
                with torch.no_grad():
                    marked = model.logits(torch.from_numpy(path.stamped(images.numpy(), seed))).argmax(1)
                asr = float((marked[clean.labels != target] == target).float().mean())
            yield row(model, images, clean.labels, network=network, seed=seed, variant=variant, target=target, asr=asr)


def large(seed: int, done: set[tuple[str, int, str]]) -> Iterator[Row]:
    """ResNet50 for 224x224 images, without a switch, and with a dormant neuron in its last block that leads to a class."""
    if ("resnet50", seed, "last block") in done:
        return
    torch.manual_seed(seed)
    small_images, labels = patterns(CLASSES, each=6)
    images = nn.functional.interpolate(small_images, size=LARGE)
    model: Any = fitted(ResNet50(CLASSES), images, labels, CLASSES)
    yield row(traced(model, images), images, labels, network="resnet50", seed=seed, variant="none", target=None, asr=0.0)
    body = model.blocks[-1].body
    away = model.head.weight - model.head.weight.mean(0)
    body[2][1].weight[0], body[2][1].bias[0] = 0.01, -1
    body[4][0].weight[:, 0, 0, 0] = 20 * away[7] / away[7].norm()
    yield row(traced(model, images), images, labels, network="resnet50", seed=seed, variant="last block", target=7, asr=None)


@click.command()
@click.option("--seeds", default=2, show_default=True)
@click.option("--large/--small", "with_large", default=True, help="With the network for 224x224 images.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
def main(seeds: int, with_large: bool, out: Path) -> None:
    """Write one row a network and switch."""
    torch.set_num_threads(1)
    done = {(r["network"], r["seed"], r["variant"]) for r in rows.read(out)}
    for seed in range(seeds):
        parts = [example(seed, done), *(small(name, seed, done) for name in NETWORKS)]
        parts += [large(seed, done)] if with_large and seed == 0 else []
        for part in parts:
            for made in part:
                rows.append(out, made)
                click.echo(
                    f"{made['network']} {seed} {made['variant']}: ASR {made['asr']:.2f}, class {made['called']}, {made['seconds']} s",
                    err=True,
                )


if __name__ == "__main__":
    main()
