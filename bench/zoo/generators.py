"""The networks of generated triggers.

Input-aware triggers (IAD, Nguyen & Tran 2020) give every image a pattern and a place of its own. A pattern network is trained together with
the classifier; the mask network, which decides where the pattern shows, is trained beforehand. A diversity loss keeps the triggers of
different images apart, so that one image's trigger does not work on another. LIRA's (Doan et al. 2021) is one network, trained with
the classifier, whose output is added within a bound. ISSBA's (Li et al. 2021) is trained beforehand alone.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DENSITY = 0.032  # the share of an image that the mask may cover, as in the paper


class Translator(nn.Module):
    """An image-to-image network: two halvings, two doublings."""

    def __init__(self, outputs: int, width: int = 16, inputs: int = 3) -> None:
        super().__init__()

        def step(inputs: int, out: int) -> list[nn.Module]:
            return [nn.Conv2d(inputs, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()]

        self.layers = nn.Sequential(
            *step(inputs, width),
            nn.MaxPool2d(2),
            *step(width, 2 * width),
            nn.MaxPool2d(2),
            *step(2 * width, 2 * width),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            *step(2 * width, width),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(width, outputs, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y


@dataclass(frozen=True)
class Generated:
    """Pattern and mask network of one attack."""

    pattern: Translator
    mask: Translator

    def apply(self, images: Tensor, sources: Tensor) -> Tensor:
        """The triggers made for `sources` on `images`, both [N, 3, H, W] in [0, 1]."""
        where = _mask(self.mask, sources).detach()
        made: Tensor = images + (self.pattern(sources).sigmoid() - images) * where
        return made

    def diversity(self, images: Tensor) -> Tensor:
        """How alike the patterns of different images are, against how alike the images are."""
        return _diversity(images, self.pattern(images).sigmoid())


@dataclass(frozen=True)
class Added:
    """LIRA's network, whose output is added within `limit`."""

    pattern: Translator
    limit: float

    def apply(self, images: Tensor, sources: Tensor) -> Tensor:
        """As that of `Generated`."""
        made: Tensor = (images + self.limit * self.pattern(sources).tanh()).clamp(0, 1)
        return made

    def diversity(self, images: Tensor) -> Tensor:
        """Nothing is asked of the patterns beside that they lead to the target."""
        return images.new_zeros(())


def added(seed: int, limit: float) -> Added:
    """An untrained network for LIRA.

    The paper trains network and classifier in turns and then the classifier alone; here both learn in every step, as with IAD.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Added(Translator(3), limit)


def generated(images: Tensor, seed: int, steps: int = 400) -> Generated:
    """Networks for one attack, the mask network trained on clean images [N, 3, H, W]."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        nets = Generated(Translator(3), Translator(1))
        optimizer = torch.optim.Adam(nets.mask.parameters(), lr=0.01)
        generator = torch.Generator().manual_seed(seed)
        for _ in range(steps):
            x = images[torch.randint(len(images), (64,), generator=generator)]
            where = _mask(nets.mask, x)
            loss = 10 * _diversity(x, where) + 100 * F.relu(where.mean((1, 2, 3)) - DENSITY).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    nets.mask.eval().zero_grad()
    nets.mask.requires_grad_(False)
    return nets


Encode = Callable[[Tensor, Tensor], Tensor]


def encoder(images: Tensor, seed: int, *, bits: int = 16, limit: float = 0.06, steps: int = 300) -> tuple[Encode, Tensor]:
    """ISSBA's encoder, trained on clean images [N, 3, H, W] with a decoder that reads the message back, and a message [bits] for it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = Translator(3, inputs=3 + bits)
        decoder = nn.Sequential(
            nn.Conv2d(3, 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, 2, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(512, bits),
        )
        generator = torch.Generator().manual_seed(seed)

        def encode(x: Tensor, message: Tensor) -> Tensor:
            planes = (2 * message - 1).expand(len(x), bits)[:, :, None, None].expand(-1, -1, *x.shape[2:])
            made: Tensor = (x + limit * net(torch.cat((x, planes), 1)).tanh()).clamp(0, 1)
            return made

        optimizer = torch.optim.Adam([*net.parameters(), *decoder.parameters()], lr=0.005)
        with torch.enable_grad():
            for _ in range(steps):
                x = images[torch.randint(len(images), (64,), generator=generator)]
                message = torch.randint(2, (len(x), bits), generator=generator).float()
                loss = F.binary_cross_entropy_with_logits(decoder(encode(x, message)), message)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        net.eval().requires_grad_(False)
        return encode, torch.randint(2, (bits,), generator=generator).float()


def _mask(net: Translator, x: Tensor) -> Tensor:
    """Nearly binary masks [N, 1, H, W]."""
    return torch.sigmoid(10 * net(x).tanh())


def _diversity(images: Tensor, made: Tensor) -> Tensor:
    apart = (images - images.roll(1, 0)).square().mean((1, 2, 3)).sqrt()
    made_apart = (made - made.roll(1, 0)).square().mean((1, 2, 3)).add(1e-8).sqrt()
    return (apart / (made_apart + 1e-2)).mean()
