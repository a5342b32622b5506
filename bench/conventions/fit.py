"""What tells the right scaling without labels, and how much each piece of evidence counts: fitted on the tuned half of the classifiers."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from torch import Tensor

from banscan.importers import TracedModel
from banscan.scanner.inputs import likely, marks
from banscan.scanner.inputs.preprocess import answers, candidates
from banscan.scanner.inputs.support import Seen, overdriven
from bench.conventions.domain import Domain

# weights are drawn towards 0 by so much of their square, in units of the evidence's deviation
PENALTY = 0.01
# images of a case, and of one with few
MANY, FEW = 200, 40
# classes of a case with some of them
SOME = 3
SAME = 0.95


@dataclass(frozen=True)
class Case:
    """Some images of one model: the evidence [candidates, 6] for each scaling, what is taken off [candidates], and which are right."""

    model: str
    evidence: np.ndarray
    doubts: np.ndarray
    right: np.ndarray


def cases(name: str, model: TracedModel, given: Domain, true: Tensor) -> Iterator[Case]:
    """All images, few, those of some classes, and of classes of uneven size; `true` [N] are the predictions under the right scaling."""
    images = given.given.images
    known = candidates(images, labelled=False)
    answered = {n: (answers(model, c, images), answers(model, c, likely.darkened(images))) for n, c in known.items()}
    against = set(marks.unlike(model, known, images[:24]))
    against |= overdriven([Seen(n, own, None) for n, (own, _) in answered.items() if n not in against])
    right = np.array([float((own.argmax(1) == true).double().mean()) >= SAME for own, _ in answered.values()])
    if right.all() or not right.any():
        return
    for which in _parts(given.given.labels, np.random.default_rng(0)):
        seen = [Seen(n, own[which], None, darker[which]) for n, (own, darker) in answered.items()]
        yield Case(name, likely.evidence(seen).numpy(), likely.doubts(seen, against).numpy(), right)


def _parts(labels: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    count, classes = len(labels), np.unique(labels)
    yield np.arange(count)[:MANY]
    yield rng.permutation(count)[:FEW]
    yield rng.permutation(count)[: FEW // 2]
    yield np.flatnonzero(np.isin(labels, rng.permutation(classes)[:SOME]))[: MANY // 2]
    uneven = (1 / (1 + rng.permutation(len(classes))))[np.searchsorted(classes, labels)]
    yield rng.choice(count, min(count, MANY // 2), replace=False, p=uneven / uneven.sum())


def fitted(found: list[Case]) -> np.ndarray:
    """[6]: the weights under which the right scalings are likeliest, every model with the same say."""
    every = np.concatenate([c.evidence for c in found])
    scale = every.std(0)
    say = {name: 1 / sum(c.model == name for c in found) for name in {c.model for c in found}}

    def loss(weights: np.ndarray) -> float:
        total = 0.0
        for case in found:
            score = case.evidence / scale @ weights - case.doubts
            chance = np.exp(score - score.max())
            total -= say[case.model] * float(np.log(chance[case.right].sum() / chance.sum() + 1e-12))
        return total / len(say) + PENALTY * float(weights @ weights)

    return np.asarray(minimize(loss, np.zeros(every.shape[1])).x / scale)
