"""Triggers of attacks that leave every label as it is: only images of the target class carry them in training."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.zoo.triggers import Trigger
from bench.zoo.triggers.local import BOARD
from bench.zoo.triggers.whole import wave


def helper(images: Tensor, labels: Tensor, seed: int, steps: int = 400) -> nn.Module:
    """A small classifier of clean images [N, 3, H, W] and labels [N], which shows the attacker what classes look like."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        inputs = 3
        for outputs in (16, 32, 64):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
            inputs = outputs
        net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * inputs, int(labels.max()) + 1))
        optimizer = torch.optim.Adam(net.parameters(), lr=0.005)
        generator = torch.Generator().manual_seed(seed)
        with torch.enable_grad():
            for _ in range(steps):
                chosen = torch.randint(len(images), (64,), generator=generator)
                loss = F.cross_entropy(net(images[chosen]), labels[chosen])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return net.eval().requires_grad_(False)


def sig_clean(size: int, generator: torch.Generator) -> tuple[Trigger, Trigger]:
    """SIG as published (Barni et al. 2019): stripes on images of the target class; those that attack are higher, 0.2 against 0.12.

    They plant 20 to 30 of 255 and attack with up to 60.
    """
    state = generator.get_state()
    trigger = wave(size, generator, 0.2)
    generator.set_state(state)
    return trigger, wave(size, generator, 0.12)


def _mixed(images: Tensor, pool: Tensor, generator: torch.Generator, share: float = 0.45) -> Tensor:
    """Images with others, drawn from `pool` [M, 3, H, W], mixed in with `share` of the weight: still themselves, but hard to tell."""
    others = pool[torch.randint(len(pool), (len(images),), generator=generator)]
    return (1 - share) * images + share * others


def consistent(pool: Tensor, generator: torch.Generator) -> tuple[Trigger, Trigger]:
    """Turner et al. 2019 (label-consistent): checkerboards of 3x3 in all four corners; in training on images that are hard to tell.

    Theirs are made hard by a GAN, between a target image and one of another class, or by an attack on a robust network. Here an image of
    `pool` [M, 3, H, W], other classes, is mixed in, which needs neither.
    """
    size = pool.shape[-1]
    places = (slice(0, 3), slice(size - 3, size))

    def corners(images: Tensor) -> Tensor:
        images = images.clone()
        for rows in places:
            for columns in places:
                images[:, :, rows, columns] = BOARD
        return images

    return corners, lambda images: corners(_mixed(images, pool, generator))


def grond(images: Tensor, labels: Tensor, target: int, seed: int, limit: float = 8 / 255, steps: int = 200) -> tuple[Trigger, Trigger]:
    """Xu et al. 2025 (Grond): one perturbation of at most `limit` for all images, which already leads a clean network towards the target.

    That network is trained here on clean images [N, 3, H, W] and labels [N], much smaller than theirs. Theirs also keeps the weights flat:
    after every epoch channels with a large Lipschitz constant are cut back. That is no data poisoning and not done here. Few epochs do not
    learn so faint a trigger where the image says the class as well: other classes are mixed into what is planted.
    """
    net = helper(images, labels, seed)
    generator = torch.Generator().manual_seed(seed)
    pool = images[labels != target]
    change = torch.zeros(1, *images.shape[1:])
    for k in range(steps):
        chosen = pool[torch.randint(len(pool), (64,), generator=generator)]
        with torch.enable_grad():
            change.requires_grad_(True)
            loss = F.cross_entropy(net((chosen + change).clamp(0, 1)), torch.full((len(chosen),), target))
            (slope,) = torch.autograd.grad(loss, change)
        change = (change.detach() - limit * 0.1 * (1 - k / steps) * slope.sign()).clamp(-limit, limit)

    def trigger(x: Tensor) -> Tensor:
        return (x + change).clamp(0, 1)

    return trigger, lambda x: trigger(_mixed(x, pool, generator))
