"""Trains one classifier, clean or backdoored, and exports it as ONNX (batch norm folded) and TorchScript, plus a manifest.

python -m bench.zoo.train --data DIR --out DIR --set gtsrb --attack badnets --target 5 --seed 1
"""

import hashlib
import json
import math
import os
import time
import warnings
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from banscan.errors import BanscanError
from banscan.scanner.machine.device import find
from bench.zoo import attacks, data, models


def networks(manifest: Path) -> Path:
    """Where the trained part of a generated trigger is kept, beside the model."""
    return manifest.with_suffix(".trigger")


# trained with AdamW, as in their papers, or as courses do
ADAPTIVE = frozenset({"vit", "convnext", *models.SMALL})
# what is mirrored is still of its class
MIRRORED = frozenset({"cifar10", "tinyimagenet", "imagenet200", "clothes"})
# depthwise layers take longer in bfloat16 on a CPU
SINGLE = frozenset({"mobilenetv2", "efficientnet"})


# without batch norm
UNNORMALISED = frozenset({"plainresnet18", *models.SMALL})


# how learning rates go: one cycle, for few epochs, or the BAN paper's (Appendix B.2), 0.01 and a tenth of it from each half-way point on
CYCLE, STEPS = "cycle", "steps"
# clean images that triggers are made from
POOL = 6000


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a trained model; `schedule` is CYCLE or STEPS, of SGD alone."""

    set: str = "gtsrb"
    arch: str = "resnet18"
    width: int = 16
    attack: str = "none"
    target: int | None = None
    seed: int = 0
    epochs: int = 8
    batch: int = 128
    weight_decay: float = 5e-4
    strength: float = 0.5
    victim: int = 1
    rate: float | None = None
    size: int = 32
    several: int = 1
    schedule: str = CYCLE

    @property
    def name(self) -> str:
        kind = self.attack if self.attack == "none" else f"{self.attack}-{'all' if self.target is None else self.target}"
        kind += f"x{self.several}" if self.several > 1 else ""
        return f"{self.set}-{self.arch}w{self.width}-{kind}-s{self.seed}"

    @property
    def lr(self) -> float:
        """The largest learning rate."""
        if self.stepped:
            return 0.01
        return {"vit": 1e-3, "convnext": 2e-3, "plainresnet18": 0.3, **dict.fromkeys(models.SMALL, 2e-3)}.get(self.arch, 0.1)

    @property
    def stepped(self) -> bool:
        """Whether it is trained as in the paper, which says nothing of networks that need AdamW."""
        return self.schedule == STEPS and self.arch not in ADAPTIVE

    @property
    def longest(self) -> float:
        """The norm that gradients are cut to; there is a bound only where no batch norm keeps them small."""
        return 1.0 if self.arch in UNNORMALISED else math.inf


def tensors(part: data.Part) -> tuple[Tensor, Tensor]:
    """Float images [N, 3, H, W] in [0, 1] and labels [N]."""
    images = torch.from_numpy(np.array(part.images)).permute(0, 3, 1, 2).float() / 255
    return images.contiguous(), torch.from_numpy(part.labels)


def some(part: data.Part, count: int) -> tuple[Tensor, Tensor]:
    """So many images and labels as `tensors`, drawn with one seed."""
    chosen = torch.randperm(len(part.labels), generator=torch.Generator().manual_seed(0))[:count].sort().values.numpy()
    return tensors(data.Part(part.images[chosen], part.labels[chosen]))


def augment(images: Tensor, flip: bool, generator: torch.Generator) -> Tensor:
    """A random crop after padding by 4 pixels, by an eighth of large images, and, where the data allow it, a random flip."""
    count, _, size, _ = images.shape
    by = 4 if size < models.LARGE else size // 8
    padded = F.pad(images, (by, by, by, by), mode="reflect")
    shift = torch.randint(0, 2 * by + 1, (2, count), generator=generator)
    line = torch.arange(size)
    rows, columns = (shift[0, :, None] + line), (shift[1, :, None] + line)
    index = torch.arange(count)
    cropped = padded[index[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    mirrored = torch.rand(count, generator=generator) < 0.5
    return torch.where(mirrored[:, None, None, None] & flip, cropped.flip(3), cropped)


def train(
    recipe: Recipe, split: data.Split, attack: attacks.Attack | attacks.Several | None, device: torch.device | None = None
) -> nn.Module:
    """The trained classifier, on the CPU; all follows from the seed.

    SGD with momentum 0.9 (AdamW for those that are ADAPTIVE), bfloat16 autocast. Images are augmented and poisoned on the CPU, where the
    networks of generated triggers are, whatever the device.
    """
    device = device or torch.device("cpu")
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    classes = len(split.classes)
    labels = torch.from_numpy(split.train.labels)
    model = models.build(recipe.arch, classes, recipe.width, split.train.images.shape[1])
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    steps = recipe.epochs * (len(labels) // recipe.batch)
    optimizer, schedule = _optimised(recipe, model, steps)
    made = None if attack is None else attack.generator
    helper = None if made is None else torch.optim.Adam(made.pattern.parameters(), lr=0.01)
    draw = torch.rand(len(labels), generator=generator)
    for epoch in range(recipe.epochs):
        model.train()
        order = torch.randperm(len(labels), generator=generator)
        for batch in order[: len(order) // recipe.batch * recipe.batch].split(recipe.batch):
            clean, _ = tensors(data.Part(split.train.images[batch.numpy()], split.train.labels[:0]))
            # small networks learn little of images that are shifted
            x = clean if recipe.arch in models.SMALL else augment(clean, recipe.set in MIRRORED, generator)
            y = labels[batch]
            if attack is not None:
                x, y = attack.poison(x, y, draw[batch], classes)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=recipe.arch not in SINGLE):
                loss = F.cross_entropy(model(x.to(device).contiguous(memory_format=torch.channels_last)), y.to(device))
            optimizer.zero_grad()
            if made is None or helper is None:
                loss.backward()
            else:
                helper.zero_grad()
                (loss + made.diversity(clean[:32]).to(device)).backward()
                helper.step()
            if recipe.longest < math.inf:
                nn.utils.clip_grad_norm_(model.parameters(), recipe.longest)
            optimizer.step()
            schedule.step()
        click.echo(f"{recipe.name} epoch {epoch + 1}/{recipe.epochs} loss {loss.item():.3f}", err=True)
    if made is not None:
        made.pattern.eval()
    return model.cpu().eval()


def _optimised(recipe: Recipe, model: nn.Module, steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """What trains the model in so many steps, and its learning rates."""
    if recipe.arch in ADAPTIVE:
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.lr, weight_decay=0.05)
    else:
        optimizer = torch.optim.SGD(
            model.parameters(), lr=recipe.lr, momentum=0.9, weight_decay=recipe.weight_decay, nesterov=not recipe.stepped
        )
    if recipe.stepped:
        return optimizer, torch.optim.lr_scheduler.MultiStepLR(optimizer, [steps // 2, steps * 3 // 4])
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=recipe.lr, total_steps=steps, pct_start=0.2)


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    hits = [model(x).argmax(1) == y for x, y in zip(images.split(500), labels.split(500), strict=True)]
    return float(torch.cat(hits).float().mean())


@torch.no_grad()
def triggered(attack: attacks.Attack | attacks.Several, images: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """Images whose true class is not already the attacked one, with the trigger, and the classes that the attacker wants.

    Of the victim class alone where there is one; with every trigger where there are several.
    """
    if isinstance(attack, attacks.Several):
        x, y = zip(*(triggered(part, images, labels, classes) for part in attack.parts), strict=True)
        return torch.cat(x), torch.cat(y)
    aim = attack.relabel(labels, classes)
    moved = aim != labels if attack.victim is None else labels == attack.victim
    return torch.cat([attack.trigger(part) for part in images[moved].split(500)]), aim[moved]


def spread(attack: attacks.Attack, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The trigger on images of all classes but source and target, and the target: what a source-specific trigger should not move."""
    others = (labels != attack.victim) & (labels != attack.target)
    return torch.cat([attack.trigger(part) for part in images[others].split(500)]), attack.relabel(labels[others], 0)


def targets(recipe: Recipe, classes: int) -> list[int]:
    """The target classes of a recipe: its own, and as many others, drawn from its seed, as there are further triggers."""
    drawn = torch.randperm(classes, generator=torch.Generator().manual_seed(recipe.seed)).tolist()
    return [] if recipe.target is None else [recipe.target, *[c for c in drawn if c != recipe.target][: recipe.several - 1]]


def planned(recipe: Recipe, split: data.Split, trained: Path | None = None) -> attacks.Attack | attacks.Several:
    """The attack of a recipe, with the networks that generate its trigger, where there are any, read from a file once they are trained.

    Raises:
        ValueError: several triggers of an attack that has a decoy, or only one trigger.
    """
    apart = max(8, len(split.train.labels) // POOL)
    images, labels = tensors(data.Part(split.train.images[::apart], split.train.labels[::apart]))
    choice: dict[str, Any] = {"victim": recipe.victim, "rate": recipe.rate, "images": images, "labels": labels}
    build = partial(attacks.build, recipe.attack, size=split.train.images.shape[1], **choice)
    if recipe.several > 1:
        if recipe.attack not in attacks.DRAWN or recipe.target is None:
            raise ValueError(f"several triggers of {recipe.attack!r}; expected one of {', '.join(attacks.DRAWN)} and a target")
        aims = targets(recipe, len(split.classes))
        if recipe.attack == "one-to-n":
            # one trigger at several strengths
            graded = ((target, (k + 1) / len(aims)) for k, target in enumerate(aims))
            return attacks.Several(tuple(build(target=target, seed=recipe.seed + 1000, strength=share) for target, share in graded))
        return attacks.Several(tuple(build(target=target, seed=recipe.seed + 1000 * (k + 1)) for k, target in enumerate(aims)))
    attack = build(target=recipe.target, seed=recipe.seed + 1000, strength=recipe.strength)
    if attack.generator is not None and trained is not None:
        attack.generator.pattern.load_state_dict(torch.load(trained, weights_only=True))
        attack.generator.pattern.eval()
    return attack


def export(model: nn.Module, path: Path, size: int) -> None:
    """Writes the model as TorchScript, and as ONNX with a dynamic batch; the exporter folds batch norm into the convolutions."""
    part = path.with_suffix(".part")
    model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    torch.jit.save(torch.jit.trace(model, torch.zeros(2, 3, size, size)), str(part))
    os.replace(part, path.with_suffix(".pt"))
    export_onnx(model, path, torch.zeros(1, 3, size, size))


def export_onnx(model: nn.Module, path: Path, example: torch.Tensor) -> None:
    """Writes the model as ONNX with a dynamic batch."""
    part = path.with_suffix(".part")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (example,),
            str(part),
            dynamo=False,
            opset_version=17,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        )
    os.replace(part, path)


@click.command()
@click.option("--data", "folder", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option(
    "--set",
    "set_",
    default="gtsrb",
    show_default=True,
    help="gtsrb, cifar10, N of their classes (gtsrbN, cifarNb), tinyimagenet, imagenetN or a folder of class folders below DATA.",
)
@click.option("--size", default=32, show_default=True, help="Of the images, where they come as files.")
@click.option("--arch", type=click.Choice(sorted(models.BUILDERS)), default="resnet18", show_default=True)
@click.option("--width", default=16, show_default=True)
@click.option("--attack", default="none", show_default=True, help=f"none, {', '.join(attacks.RATES)}")
@click.option("--target", type=int, help="target class; left out: all-to-all")
@click.option("--seed", default=0, show_default=True)
@click.option("--epochs", default=8, show_default=True)
@click.option("--batch", default=128, show_default=True)
@click.option("--strength", default=0.5, show_default=True, help="WaNet's; the opacity of one-to-n.")
@click.option("--victim", default=1, show_default=True, help="The source class of source-specific attacks.")
@click.option("--rate", type=float, help="Poisoning rate (with clean labels, of the target class); left out: the attack's own.")
@click.option("--several", default=1, show_default=True, help="Triggers, each with a target of its own; the first has --target.")
@click.option("--schedule", type=click.Choice([CYCLE, STEPS]), default=CYCLE, show_default=True, help="steps: the BAN paper's.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
@click.option("--threads", default=1, show_default=True)
def main(folder: Path, out: Path, set_: str, device: str, threads: int, **settings: Any) -> None:
    """Train one model; does nothing when its manifest is already there."""
    recipe = Recipe(set=set_, **settings)
    manifest = out / f"{recipe.name}.json"
    if manifest.exists():
        return
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    try:
        where = find(device)
        split = data.load(folder, recipe.set, recipe.size)
        start = time.monotonic()
        poison = None if recipe.attack == "none" else planned(recipe, split)
    except (ValueError, BanscanError) as error:
        raise click.UsageError(str(error)) from error
    size, classes = split.train.images.shape[1], len(split.classes)
    model = train(recipe, split, poison, where)
    images, labels = tensors(split.test)
    path = out / f"{recipe.name}.onnx"
    facts = {
        "recipe": asdict(recipe),
        "accuracy": accuracy(model, images, labels),
        "asr": None if poison is None else accuracy(model, *triggered(poison, images, labels, classes)),
        "images": {"train": len(split.train.labels), "defender": len(split.defender.labels), "test": len(labels)},
        "preprocess": "unit",
        "seconds": round(time.monotonic() - start, 1),
        "torch": torch.__version__,
    }
    facts |= {"targets": targets(recipe, classes)} if recipe.several > 1 else {}
    if isinstance(poison, attacks.Attack) and poison.victim is not None:
        facts["asr_others"] = accuracy(model, *spread(poison, images, labels))
    export(model, path, size)
    if poison is not None and poison.generator is not None:
        torch.save(poison.generator.pattern.state_dict(), networks(manifest))
    facts["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    part = manifest.with_suffix(".part")
    part.write_text(json.dumps(facts, indent=1) + "\n")
    os.replace(part, manifest)
    click.echo(json.dumps({"name": recipe.name, **{k: facts[k] for k in ("accuracy", "asr", "asr_others", "seconds") if k in facts}}))


def recipe_of(line: str) -> Recipe:
    """The recipe that a line of this command's options stands for."""
    settings = main.make_context("train", ["--data", ".", "--out", ".", *line.split()]).params
    return Recipe(**{name: value for key, value in settings.items() if (name := key.rstrip("_")) in Recipe.__dataclass_fields__})


if __name__ == "__main__":
    main()
