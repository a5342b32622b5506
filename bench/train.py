"""Trains one classifier, clean or backdoored, and exports it as ONNX with its batch norm folded, plus a manifest.

python -m bench.train --data DIR --out DIR --set gtsrb --attack badnets --target 5 --seed 1
"""

import hashlib
import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench import attacks, data, models


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a trained model."""

    set: str = "gtsrb"
    arch: str = "resnet18"
    width: int = 16
    attack: str = "none"
    target: int | None = None
    seed: int = 0
    epochs: int = 8
    batch: int = 128
    lr: float = 0.1
    weight_decay: float = 5e-4

    @property
    def name(self) -> str:
        kind = self.attack if self.attack == "none" else f"{self.attack}-{'all' if self.target is None else self.target}"
        return f"{self.set}-{self.arch}w{self.width}-{kind}-s{self.seed}"


def tensors(part: data.Part) -> tuple[Tensor, Tensor]:
    """Float images [N, 3, H, W] in [0, 1] and labels [N]."""
    images = torch.from_numpy(part.images).permute(0, 3, 1, 2).float() / 255
    return images.contiguous(), torch.from_numpy(part.labels)


def augment(images: Tensor, flip: bool, generator: torch.Generator) -> Tensor:
    """A random crop after padding by 4 pixels and, where the data allow it, a random flip."""
    count, _, size, _ = images.shape
    padded = F.pad(images, (4, 4, 4, 4), mode="reflect")
    shift = torch.randint(0, 9, (2, count), generator=generator)
    line = torch.arange(size)
    rows, columns = (shift[0, :, None] + line), (shift[1, :, None] + line)
    index = torch.arange(count)
    cropped = padded[index[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    mirrored = torch.rand(count, generator=generator) < 0.5
    return torch.where(mirrored[:, None, None, None] & flip, cropped.flip(3), cropped)


def train(recipe: Recipe, split: data.Split, attack: attacks.Attack | None) -> nn.Module:
    """SGD with momentum 0.9 and a one-cycle learning rate, in bfloat16 autocast; the whole run follows from the seed."""
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    classes = len(split.classes)
    images, labels = tensors(split.train)
    model = models.BUILDERS[recipe.arch](classes, recipe.width)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(model.parameters(), lr=recipe.lr, momentum=0.9, weight_decay=recipe.weight_decay, nesterov=True)
    steps = recipe.epochs * (len(images) // recipe.batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=recipe.lr, total_steps=steps, pct_start=0.2)
    draw = torch.rand(len(images), generator=generator)
    for epoch in range(recipe.epochs):
        model.train()
        order = torch.randperm(len(images), generator=generator)
        for batch in order[: len(order) // recipe.batch * recipe.batch].split(recipe.batch):
            x, y = augment(images[batch], recipe.set == "cifar10", generator), labels[batch]
            if attack is not None:
                poisoned = draw[batch] < attack.rate
                y = torch.where(poisoned, attack.relabel(y, classes), y)
                x[poisoned] = attack.trigger(x[poisoned])
                if attack.cover is not None:
                    covered = (draw[batch] >= attack.rate) & (draw[batch] < attack.rate + attack.cover_rate)
                    x[covered] = attack.cover(x[covered])
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = F.cross_entropy(model(x.contiguous(memory_format=torch.channels_last)), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        click.echo(f"{recipe.name} epoch {epoch + 1}/{recipe.epochs} loss {loss.item():.3f}", err=True)
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    hits = [model(x).argmax(1) == y for x, y in zip(images.split(500), labels.split(500), strict=True)]
    return float(torch.cat(hits).float().mean())


def attack_success(model: nn.Module, attack: attacks.Attack, images: Tensor, labels: Tensor, classes: int) -> float:
    """ASR on triggered test images whose true class is not already the attacked one."""
    aim = attack.relabel(labels, classes)
    moved = aim != labels
    return accuracy(model, attack.trigger(images[moved]), aim[moved])


def export(model: nn.Module, path: Path, size: int) -> None:
    """Writes the model as ONNX with a dynamic batch; the exporter folds batch norm into the convolutions."""
    part = path.with_suffix(".part")
    example = torch.zeros(1, 3, size, size)
    torch.onnx.export(
        model.to(memory_format=torch.contiguous_format),  # type: ignore[call-overload]
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
@click.option("--set", "set_", type=click.Choice(["gtsrb", "cifar10"]), default="gtsrb", show_default=True)
@click.option("--arch", type=click.Choice(sorted(models.BUILDERS)), default="resnet18", show_default=True)
@click.option("--width", default=16, show_default=True)
@click.option("--attack", default="none", show_default=True, help="none, badnets, blend, wanet or quantise")
@click.option("--target", type=int, help="target class; left out: all-to-all")
@click.option("--seed", default=0, show_default=True)
@click.option("--epochs", default=8, show_default=True)
@click.option("--threads", default=1, show_default=True)
def main(
    folder: Path, out: Path, set_: str, arch: str, width: int, attack: str, target: int | None, seed: int, epochs: int, threads: int
) -> None:
    """Train one model; does nothing when its manifest is already there."""
    recipe = Recipe(set_, arch, width, attack, target, seed, epochs)
    manifest = out / f"{recipe.name}.json"
    if manifest.exists():
        return
    torch.set_num_threads(threads)
    out.mkdir(parents=True, exist_ok=True)
    split = data.load(folder, recipe.set)
    size, classes = split.train.images.shape[1], len(split.classes)
    poison = None if attack == "none" else attacks.build(attack, size=size, target=target, seed=seed + 1000)
    start = time.monotonic()
    model = train(recipe, split, poison)
    images, labels = tensors(split.test)
    path = out / f"{recipe.name}.onnx"
    facts = {
        "recipe": asdict(recipe),
        "accuracy": accuracy(model, images, labels),
        "asr": None if poison is None else attack_success(model, poison, images, labels, classes),
        "images": {"train": len(split.train.labels), "defender": len(split.defender.labels), "test": len(labels)},
        "preprocess": "unit",
        "seconds": round(time.monotonic() - start, 1),
        "torch": torch.__version__,
    }
    export(model, path, size)
    facts["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    part = manifest.with_suffix(".part")
    part.write_text(json.dumps(facts, indent=1) + "\n")
    os.replace(part, manifest)
    click.echo(json.dumps({"name": recipe.name, **{k: facts[k] for k in ("accuracy", "asr", "seconds")}}))


if __name__ == "__main__":
    main()
