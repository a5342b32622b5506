"""What figures 1 to 3 show of a model: features and accuracy under untargeted neuron noise (Eq. 4, 6), losses through the mask (Eq. 5).

Noise takes 30 PGD steps of 64 images: in the paper's form on every layer below the classifier, or in the scan's normalised form on the
deepest quarter of them.
"""

from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from banscan.scanner.inputs import preprocess
from banscan.scanner.search import mask
from banscan.scanner.search.neuron_noise import logits_under, start
from banscan.scanner.settings import Settings
from banscan.scanner.subject import Subject, prepare
from bench.given import read

# the paper's bounds (Appendix B.4), the shares of them that figures 1 and 2 show, and independent searches for figure 2
EPS = {"cifar10": 0.3, "gtsrb": 0.3, "tinyimagenet": 0.2, "imagenet200": 0.1}
GROWING = (0.0, 1 / 6, 1 / 3, 1.0)
STEPS, RESTARTS, MASKS = 30, 8, 4
FORMS = ("paper", "normalised")
# points of figure 1
POINTS = 300


def subject(path: Path, folder: Path, form: str) -> Subject:
    """A model with clean images [N, ...], at most 500, and room for noise of this form in float32."""
    given = read(path, folder)
    logits = preprocess.answers(given.model, given.preprocess, given.images)
    settings = Settings(noise=form, steps=STEPS, restarts=RESTARTS)
    return prepare(given.model, given.preprocess, given.x, given.labels, logits, settings, torch.float32)


def under(given: Subject, eps: float, restarts: int) -> tuple[Tensor, Tensor]:
    """Logits [K, N, C] and features [K, N, ...] under noise in the ball of size eps that raises the loss; none at eps 0."""
    neurons, settings = given.neurons, given.settings
    noise = start(neurons.exact, restarts, eps, settings.seed, settings.ball)
    found = neurons.search(noise, None, eps=eps, seed=settings.seed, settings=settings) if eps else torch.zeros_like(noise)
    with torch.no_grad():
        return logits_under(neurons.exact, neurons.prepared_exact, found)


def accuracy(given: Subject, eps: float) -> dict[str, Any]:
    """Figure 2: accuracy of every restart, and through the negative mask as well, without noise and under it."""
    _, head = given.model.split(given.model.features)
    clean_logits, clean = under(given, 0.0, 1)
    logits, features = under(given, eps, RESTARTS)
    labels = given.labels
    masks = [mask.learn(head, clean[0], labels, seed=k) for k in range(RESTARTS)]
    with torch.no_grad():
        masked = [_right(head(f * (1 - m)), labels) for f, m in zip(features, masks, strict=True)]
        alone = [_right(head(clean[0] * (1 - m)), labels) for m in masks]
    return {
        "clean": _right(clean_logits[0], labels),
        "plain": [_right(found, labels) for found in logits],
        "masked": masked,
        "mask_alone": alone,
    }


def losses(given: Subject) -> dict[str, Any]:
    """Figure 3: cross-entropy through the mask and through the negative mask, by the mask's seed, and the mask's mean."""
    _, head = given.model.split(given.model.features)
    clean = under(given, 0.0, 1)[1][0]
    masks = [mask.learn(head, clean, given.labels, seed=k) for k in range(MASKS)]
    with torch.no_grad():
        kept = [float(F.cross_entropy(head(clean * m), given.labels)) for m in masks]
        dropped = [float(F.cross_entropy(head(clean * (1 - m)), given.labels)) for m in masks]
    return {"positive": kept, "negative": dropped, "size": mean(float(m.mean()) for m in masks)}


def features(given: Subject, eps: float) -> dict[str, Any]:
    """Figure 1: t-SNE of the features of POINTS images under noise of one restart, their classes and what the model takes them for.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    from sklearn.manifold import TSNE

    logits, made = under(given, eps, 1)
    chosen = torch.linspace(0, len(given.labels) - 1, min(POINTS, len(given.labels))).long()
    flat = made[0][chosen].flatten(1).double()
    # rounding must not decide where a point lies
    placed = TSNE(init="pca", perplexity=min(30, len(chosen) // 4), random_state=0).fit_transform(flat.round(decimals=4).numpy())
    return {
        "xy": [[round(float(v), 1) for v in point] for point in placed],
        "label": given.labels[chosen].tolist(),
        "predicted": logits[0][chosen].argmax(1).tolist(),
    }


def _right(logits: Tensor, labels: Tensor) -> float:
    return float((logits.argmax(1) == labels).float().mean())
