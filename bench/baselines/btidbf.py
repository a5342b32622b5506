"""BTI-DBF (Xu et al., ICLR 2024) and BTI-DBF* (BAN, Section 3.4): a generator of triggers, trained through decoupled features.

A mask on the features is to keep what is benign (Eq. 7; with the regulariser of Eq. 5 in BTI-DBF*); a generator then changes images so that
the benign features stay and the others move as far as they can. The class that most generated images fall into is taken for the target.
The papers do not say when a model counts as backdoored; here, when more than half of the images of other classes fall into it.

What differs from the published code: a smaller generator, which starts near the identity instead of being trained to it; bounds in units
of pixels and of the features' own mean square, since models of any preprocessing are compared.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.scanner.search import mask
from bench.baselines.generator import VARIANCE, Generator
from bench.baselines.subject import Finding, Subject, most

EPOCHS, BATCH, LR = 60, 64, 1e-3
# mean squares: of the change of pixels (0.3 in units of CIFAR-10's variance), of the change of benign features
PIXELS_BOUND, FEATURES_BOUND = 0.3 * VARIANCE, 0.3


def find(subject: Subject, seed: int, *, lambda1: float) -> Finding:
    """Trains mask and generator; lambda1 is the weight of the mask's norm, 0 for the original."""
    model, images, labels = subject.pixel_model, subject.pixels, subject.labels
    trunk, head = subject.model.split(subject.model.spatial or subject.model.features)

    def features(pixels: Tensor) -> Tensor:
        result: Tensor = trunk(model.inputs(pixels))
        return result

    with torch.no_grad():
        clean = torch.cat([features(part) for part in images.split(250)])
    benign = mask.learn(head, clean, labels, seed=seed, lambda1=lambda1)
    scale = clean.square().mean()
    torch.manual_seed(seed)
    channels = images.shape[model.axis]
    generator = Generator(channels, model.axis)
    optimizer = torch.optim.Adam(generator.parameters(), lr=LR)
    for _ in range(EPOCHS):
        for drawn in torch.randperm(len(images)).split(BATCH):
            x, f = images[drawn], clean[drawn]
            made = generator(x)
            changed = features(made)
            kept, moved = (F.mse_loss(part * changed, part * f) / scale for part in (benign, 1 - benign))
            change = F.mse_loss(made, x)
            loss = change if change > PIXELS_BOUND or kept > FEATURES_BOUND else 0.01 * kept - moved
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    generator.eval()
    with torch.no_grad():
        predicted = torch.cat([model.logits(generator(part)) for part in images.split(250)]).argmax(1)
    return most(predicted, labels, model.classes)
