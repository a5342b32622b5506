"""The network and the reference numbers of `banscan selftest`.

python -m bench.selftest train       # scanner/selftest/network.npz
python -m bench.selftest reference   # scanner/selftest/reference.json, on this machine
"""

import json
from pathlib import Path
from typing import Any, cast

import click
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from banscan.scanner.selftest import network, pictures, run
from banscan.scanner.settings import Options

FOLDER = Path(network.__file__).parent
IMAGES, SEED, EPOCHS, BATCH, RATE = 6000, 100, 12, 100, 3e-3
# how far a number may be from its reference on a CPU and on a GPU: three times what lies between a search in float32 and one in bfloat16,
# on processors with AVX2 and AVX-512; twice that on a GPU, which sums in another order
TOLERANCES = {
    "relative error of the logits": (1e-5, 1e-3),
    "accuracy, clean": (0.003, 0.003),
    "accuracy, backdoored": (0.003, 0.003),
    "accuracy, repaired": (0.02, 0.03),
    "ASR, clean": (0.003, 0.003),
    "ASR, backdoored": (0.01, 0.01),
    "ASR, repaired": (0.03, 0.05),
    "score, backdoored": (0.8, 1.6),
    "noise": (0.3, 0.6),
    "logit": (0.05, 0.1),
    "margin": (0.3, 0.6),
    "perturbation": (0.3, 0.6),
    "patch": (0.8, 1.6),
    "patch share": (0.06, 0.12),
}


class Net(nn.Module):
    """The network with batch norm, as it is trained."""

    def __init__(self) -> None:
        super().__init__()
        sides = zip((3, *network.WIDTHS), network.WIDTHS, strict=False)
        self.layers = nn.ModuleList(nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b)) for a, b in sides)
        self.head = nn.Linear(network.WIDTHS[-1], pictures.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for i, layer in enumerate(self.layers):
            x = F.relu(layer(x))
            x = F.max_pool2d(x, 2) if i < network.HALVED else x
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


@torch.no_grad()
def folded(net: Net) -> network.Weights:
    """Its weights with batch norm in them."""
    weights: network.Weights = {"weight": net.head.weight, "bias": net.head.bias}
    for i, (conv, norm) in enumerate(cast(list[list[Any]], net.layers)):
        factor = norm.weight * (norm.running_var + norm.eps).rsqrt()
        weights[f"weight_{i}"] = conv.weight * factor[:, None, None, None]
        weights[f"bias_{i}"] = (conv.bias - norm.running_mean) * factor + norm.bias
    return weights


@click.group()
def main() -> None:
    """What `banscan selftest` ships."""


@main.command()
def train() -> None:
    """Trains the network on pictures that the test does not use; half a minute."""
    torch.manual_seed(0)
    images, labels = pictures.drawn(IMAGES, SEED)
    x, y = network.as_input(images).float(), torch.from_numpy(labels)
    net = Net()
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE, weight_decay=1e-5)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS * (IMAGES // BATCH))
    for _ in range(EPOCHS):
        for part in torch.randperm(IMAGES).split(BATCH):
            loss = F.cross_entropy(net(x[part]), y[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    halves: dict[str, Any] = {name: value.detach().numpy().astype(np.float16) for name, value in folded(net.eval()).items()}
    np.savez_compressed(FOLDER / network.WEIGHTS, **halves)


@main.command()
def reference() -> None:
    """Measures the numbers on this machine's CPU, searching in float32 and in bfloat16; a reference is the mean of both."""
    first, second = (run.measure(Options(device="cpu", precision=precision, threads=1))[0] for precision in ("float32", "bfloat16"))
    numbers = {name: _row(name, first[name], second[name]) for name in first}
    (FOLDER / run.REFERENCE).write_text(json.dumps({"schema": "banscan-reference/1", "numbers": numbers}, indent=1) + "\n")


def _row(name: str, first: Any, second: Any) -> dict[str, Any]:
    if name not in TOLERANCES:
        if first != second:
            raise click.ClickException(f"{name}: {first} in float32, {second} in bfloat16; the test needs a clearer trigger")
        return {"value": first}
    value = 0.0 if name.startswith("relative error") else float(f"{(first + second) / 2:.4g}")
    return {"value": value, "cpu": TOLERANCES[name][0], "cuda": TOLERANCES[name][1]}


if __name__ == "__main__":
    main()
