"""Maps of classes: the assignment by itself, and the search for noise along one on a model whose answer is known."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from banscan import importers
from banscan.errors import EvidenceError
from banscan.scanner.search.changes import Changes
from banscan.scanner.search.class_map import Mapped, best_map, search_map, sources
from banscan.scanner.search.neurons import Neurons
from banscan.scanner.search.noisy_model import attach, layers, measure

CLASSES = 8


class Planted(nn.Module):
    """Neuron s tells class s by pixel s; neuron C + s hardly fires on clean images, and counts for class s + 1."""

    def __init__(self, push: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(3 * 8 * 8, 2 * CLASSES)
        self.head = nn.Linear(2 * CLASSES, CLASSES)
        own = torch.eye(CLASSES)
        with torch.no_grad():
            self.hidden.weight.zero_()[:, :CLASSES] = 10 * torch.cat((own, own))
            self.hidden.bias.zero_()[CLASSES:] = -7.4
            self.head.weight.copy_(torch.cat((own, push * own.roll(1, 0)), 1))
            self.head.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.hidden(x.flatten(1)).relu())
        return logits


def planted(export: Callable[..., Path], push: float, radius: float) -> tuple[Changes, Tensor]:
    """Noise of this strength on a planted model, and the labels of the images."""
    labels = torch.arange(160) % CLASSES
    images = torch.rand(160, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.3 + 0.3
    images[torch.arange(160), 0, 0, labels] = 0.75
    model = importers.load(export(f"planted-{push:.0f}", Planted(push), shape=(3, 8, 8)))
    assert torch.equal(model.logits(images).argmax(1), labels)
    neurons = layers(model, 0.0)
    noisy = attach(model, neurons, measure(model, neurons, images))
    prepared = noisy.prepare(images)
    return Neurons(noisy, noisy, prepared, prepared, labels).changes(radius), labels


@pytest.mark.parametrize("push", [10.0, 0.0])
def test_noise_along_a_map(export: Callable[..., Path], push: float) -> None:
    changes, labels = planted(export, push, 0.5)
    found = search_map(changes, labels, CLASSES, softness=2.0, seed=0)
    if push:
        assert found == Mapped(tuple((c + 1) % CLASSES for c in range(CLASSES)), found.moved)
        assert found.moved > 0.9
    else:
        assert found.moved < 0.4


def test_overflow_does_not_pass_for_images_that_stay(export: Callable[..., Path]) -> None:
    changes, labels = planted(export, 10.0, 1e38)
    with pytest.raises(EvidenceError, match="NaN or infinite"):
        search_map(changes, labels, CLASSES, softness=2.0, seed=0)


def table(shift: float, mutual: bool, seed: int = 0, classes: int = 20) -> Tensor:
    """Margins with a bonus from every class to the next, or to its partner, under row and column offsets."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(classes, classes, generator=generator)
    for c in range(classes):
        values[c ^ 1 if mutual else (c + 1) % classes, c] += shift
    values += 5 * torch.randn(classes, 1, generator=generator) + 5 * torch.randn(1, classes, generator=generator)
    return values.fill_diagonal_(torch.nan)


@pytest.mark.parametrize("mutual", [False, True])
def test_best_map(mutual: bool) -> None:
    attacked, score = best_map(table(4.0, mutual), torch.arange(20))
    assert attacked.tolist() == [c ^ 1 if mutual else (c + 1) % 20 for c in range(20)]
    assert bool((score > 1).all())


def test_best_map_never_stays() -> None:
    attacked, _ = best_map(table(0.0, mutual=False, seed=3), torch.arange(20))
    assert sorted(attacked.tolist()) == list(range(20))
    assert all(a != c for c, a in enumerate(attacked.tolist()))


def test_classes_without_images_are_moved_nowhere_but_may_be_moved_to() -> None:
    """The map of the others is still found; 18 goes to 19, of which there is no image."""
    whole = table(4.0, mutual=False)
    whole[:, [0, 19]] = torch.nan
    own = torch.arange(1, 19)
    attacked, score = best_map(whole, own)
    assert attacked[own].tolist() == list(range(2, 20))
    assert attacked[[0, 19]].tolist() == [-1, -1]
    assert bool((score[own] > 1).all())
    assert bool(score[[0, 19]].isneginf().all())


def test_sources_have_an_image_to_search_on_and_one_to_measure_on() -> None:
    assert sources(torch.tensor([0, 0, 1, 3, 3, 3]), 5).tolist() == [0, 3]
