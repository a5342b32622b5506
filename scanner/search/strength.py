"""How strong the noise has to be, found by the model's own reaction to it."""

import math

import torch
from torch import Tensor

from banscan.scanner.machine.progress import Progress
from banscan.scanner.search.neuron_noise import logits_under, start
from banscan.scanner.search.neurons import Neurons
from banscan.scanner.settings import Settings

# the share of images to move, the strengths between which it is sought, in how many steps and for how many targets
REACH = 0.4
STRENGTHS = {"l2": (0.02, 2.0), "linf": (0.02, 0.95)}
BISECTIONS = 7
SAMPLE = 16


def strength(neurons: Neurons, targets: Tensor, settings: Settings, progress: Progress) -> float:
    """The eps at which noise reaches the median class on about REACH of the other classes' images, found by bisection.

    Too little noise moves nothing, too much moves everything anywhere; in between, classes can be told apart, and where that is
    depends on the model. Searches with a sample of the targets decide.
    """
    drawn = torch.randperm(len(targets), generator=torch.Generator().manual_seed(settings.seed))[:SAMPLE]
    sample = targets[drawn.sort().values]
    low, high = (math.log(eps) for eps in STRENGTHS[settings.ball])
    for tried in range(BISECTIONS):
        progress("finding the strength of the noise", tried, BISECTIONS)
        eps = math.exp((low + high) / 2)
        noise = start(neurons.fast, len(sample), eps, settings.seed, settings.ball)
        found = neurons.search(noise, sample, eps=eps, seed=settings.seed, settings=settings)
        logits, _ = logits_under(neurons.fast, neurons.prepared, found)
        enough = moved_share(logits, sample, neurons.labels).median() >= REACH
        low, high = (low, math.log(eps)) if enough else (math.log(eps), high)
    progress("finding the strength of the noise", BISECTIONS, BISECTIONS)
    return math.exp((low + high) / 2)


def moved_share(logits: Tensor, targets: Tensor, labels: Tensor) -> Tensor:
    """Share [T] of the images of other classes that are predicted as t, for logits [T, N, C]."""
    others = labels[None] != targets[:, None]
    hit = (logits.argmax(2) == targets[:, None]) & others
    return hit.sum(1) / others.sum(1)
