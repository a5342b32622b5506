"""The zoo's attacks: what they change, whom they relabel, and the formulas of their triggers."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.zoo import attacks, data, train
from bench.zoo.generators import generated
from bench.zoo.lists import HELD, TUNE

CLASSES = 10
COUNT = 60


@pytest.fixture(scope="module")
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(COUNT, 3, 32, 32, generator=generator)
    return images, torch.arange(COUNT) % CLASSES, torch.rand(COUNT, generator=generator)


@pytest.fixture(autouse=True)
def quick_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mask networks need no training for what is tested here."""
    monkeypatch.setattr(attacks, "generated", partial(generated, steps=1))


@pytest.fixture(params=list(attacks.RATES))
def attack(request: pytest.FixtureRequest, batch: tuple[torch.Tensor, ...]) -> attacks.Attack:
    return attacks.build(request.param, size=32, target=3, seed=1, images=batch[0], rate=0.4)


def test_poisoned_images_change_and_the_rest_do_not(attack: attacks.Attack, batch: tuple[torch.Tensor, ...]) -> None:
    images, labels, draw = batch
    with torch.no_grad():
        x, y = attack.poison(images, labels, draw, CLASSES)
    touched = (x != images).flatten(1).any(1)
    assert x.shape == images.shape
    assert 0 <= float(x.min()) <= float(x.max()) <= 1
    assert bool(touched[y != labels].all())
    assert bool((y[y != labels] == 3).all())
    assert not bool(touched[draw >= attack.rate + attack.cover_rate].any() and attack.victim is None)
    if attack.victim is None:
        assert torch.equal(y == 3, (draw < attack.rate) | (labels == 3))
    else:
        assert bool((labels[y != labels] == attack.victim).all())


def test_covered_images_keep_their_label(attack: attacks.Attack, batch: tuple[torch.Tensor, ...]) -> None:
    images, labels, draw = batch
    with torch.no_grad():
        _, y = attack.poison(images, labels, draw, CLASSES)
    covered = (draw >= attack.rate) & (draw < attack.rate + attack.cover_rate) & (labels != attack.victim)
    assert torch.equal(y[covered], labels[covered])


def test_all_to_all_moves_to_the_next_class(batch: tuple[torch.Tensor, ...]) -> None:
    attack = attacks.build("badnets", size=32, target=None, seed=1)
    assert attack.relabel(torch.tensor([0, 4, 9]), CLASSES).tolist() == [1, 5, 0]


def test_dithering_is_error_diffusion() -> None:
    """Against a plain loop over one channel, and by what it is for: the mean brightness stays."""
    image = torch.rand(1, 1, 5, 6, generator=torch.Generator().manual_seed(2))
    work = [[float(v) for v in row] for row in image[0, 0]]
    for r in range(5):
        for c in range(6):
            old = work[r][c]
            new = round(old * 7) / 7
            work[r][c] = new
            for dr, dc, share in ((0, 1, 7 / 16), (1, -1, 3 / 16), (1, 0, 5 / 16), (1, 1, 1 / 16)):
                if r + dr < 5 and 0 <= c + dc < 6:
                    work[r + dr][c + dc] += (old - new) * share
    assert torch.allclose(attacks.dither(image)[0, 0], torch.tensor(work).clamp(0, 1), atol=1e-5)
    flat = torch.full((1, 3, 32, 32), 0.4)
    assert attacks.dither(flat).mean() == pytest.approx(0.4, abs=0.01)


def test_the_generator_learns_from_the_classifier(batch: tuple[torch.Tensor, ...]) -> None:
    attack = attacks.build("iad", size=32, target=3, seed=1, images=batch[0], rate=0.4)
    assert attack.generator is not None
    x, _ = attack.poison(*batch, CLASSES)
    x.square().sum().backward()
    assert all(p.grad is not None for p in attack.generator.pattern.parameters())
    assert all(p.grad is None for p in attack.generator.mask.parameters())


def test_tune_and_held_models_are_disjoint() -> None:
    assert not set(TUNE) & set(HELD)
    assert len(set(TUNE)) == len(TUNE)
    assert len(set(HELD)) == len(HELD)


def test_several_triggers_have_their_own_targets_and_images(batch: tuple[torch.Tensor, ...]) -> None:
    images, labels, draw = batch
    part = data.Part(np.zeros((8, 32, 32, 3), np.uint8), np.arange(8))
    split = data.Split("any", tuple("abcdefghij"), part, part, part)
    recipe = train.Recipe(set="any", attack="patch", target=4, several=3, rate=0.2)
    attack = train.planned(recipe, split)
    assert isinstance(attack, attacks.Several)
    aims = train.targets(recipe, CLASSES)
    assert aims[0] == 4
    assert len(set(aims)) == 3
    x, y = attack.poison(images, labels, draw, CLASSES)
    for k, target in enumerate(aims):
        own = (draw >= 0.2 * k) & (draw < 0.2 * (k + 1))
        assert bool((y[own] == target).all())
        assert torch.equal(x[own], attack.parts[k].trigger(images[own]))
    left = draw >= 0.6
    assert torch.equal(x[left], images[left])
    assert torch.equal(y[left], labels[left])
    shown, wanted = train.triggered(attack, images, labels, CLASSES)
    assert len(shown) == len(wanted) == sum(int((labels != target).sum()) for target in aims)
    assert set(wanted.tolist()) == set(aims)
    with pytest.raises(ValueError, match="several triggers of 'wanet'"):
        train.planned(train.Recipe(set="any", attack="wanet", target=4, several=3), split)


def test_unknown_attack() -> None:
    with pytest.raises(ValueError, match="badnets"):
        attacks.build("nothing", size=32, target=3, seed=1)


def test_a_generated_trigger_is_read_back(tmp_path: Path) -> None:
    """The repairs of such models are measured with the networks that were trained beside them."""
    images = np.random.default_rng(0).integers(0, 256, (64, 16, 16, 3), dtype=np.uint8)
    part = data.Part(images, np.arange(64) % 4)
    split = data.Split("any", ("a", "b", "c", "d"), part, part, part)
    recipe = train.Recipe(set="any", attack="iad", target=2, size=16)
    attack = train.planned(recipe, split)
    assert attack.generator is not None
    with torch.no_grad():
        for parameter in attack.generator.pattern.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    attack.generator.pattern.eval()
    path = train.networks(tmp_path / "model.json")
    torch.save(attack.generator.pattern.state_dict(), path)
    x, y = train.tensors(part)
    own, again = (train.triggered(a, x, y, 4) for a in (attack, train.planned(recipe, split, path)))
    assert torch.equal(own[0], again[0])
    assert torch.equal(own[1], torch.full((48,), 2))
    assert not torch.equal(own[0], train.triggered(train.planned(recipe, split), x, y, 4)[0])
