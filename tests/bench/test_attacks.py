"""The zoo's attacks: what they change, whom they relabel, and the formulas of their triggers."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.zoo import attacks, data, train
from bench.zoo.generators import encoder, generated
from bench.zoo.lists import CLASSES as SETS
from bench.zoo.lists import HELD, KIND_HELD, KIND_TUNE, KINDS, TUNE
from bench.zoo.triggers import frequency, label, sample, whole

CLASSES = 10
HELD_ATTACKS = """
n-to-one anywhere watermark reflection gamma sharpen blur rotation affine spectrum lowfreq lira ink lotus ssdt-paper consistent sig-clean
"""
KEPT = {
    "badnets": 266.84626,
    "patch": 261.34027,
    "blend": 176.3012,
    "wanet": 260.50316,
    "bpp": 269.5102,
    "quantise": 274.28571,
    "adap-blend": 176.3012,
    "adap-patch": 273.73183,
}
COUNT = 60


@pytest.fixture(scope="module")
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(COUNT, 3, 32, 32, generator=generator)
    return images, torch.arange(COUNT) % CLASSES, torch.rand(COUNT, generator=generator)


@pytest.fixture(autouse=True)
def quick_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks need no training for what is tested here."""
    monkeypatch.setattr(attacks, "generated", partial(generated, steps=1))
    monkeypatch.setattr(sample, "encoder", partial(encoder, steps=1))
    monkeypatch.setattr(label, "helper", partial(label.helper, steps=1))
    monkeypatch.setattr(label, "grond", partial(label.grond, steps=10))


def made(name: str, batch: tuple[torch.Tensor, ...], **settings: Any) -> attacks.Attack:
    """The attack of a name on the images of these tests."""
    choice = {"size": 32, "target": 3, "seed": 1, "images": batch[0], "labels": batch[1], "rate": 0.4}
    return attacks.build(name, **choice | settings)


@pytest.fixture(params=list(attacks.RATES))
def attack(request: pytest.FixtureRequest, batch: tuple[torch.Tensor, ...]) -> attacks.Attack:
    return made(request.param, batch)


def test_triggers_change_every_image_and_stay_in_range(attack: attacks.Attack, batch: tuple[torch.Tensor, ...]) -> None:
    with torch.no_grad():
        for trigger in (attack.trigger, attack.planted, attack.cover):
            if trigger is not None:
                x = trigger(batch[0])
                assert x.shape == batch[0].shape
                assert x.dtype == batch[0].dtype
                assert 0 <= float(x.min()) <= float(x.max()) <= 1
                assert bool((x != batch[0]).flatten(1).any(1).all())


def test_triggers_follow_from_the_seed(attack: attacks.Attack, batch: tuple[torch.Tensor, ...]) -> None:
    """The same seed gives the same bits, whatever was drawn meanwhile; another seed another trigger, where there is more than one."""
    state = torch.get_rng_state()
    again, other = made(attack.name, batch), made(attack.name, batch, seed=2)
    assert torch.equal(torch.get_rng_state(), state)
    once = made(attack.name, batch)
    with torch.no_grad():
        first = once.trigger(batch[0])
        assert torch.equal(first, again.trigger(batch[0]))
        assert torch.equal(first, other.trigger(batch[0])) == (attack.name in {"badnets", "bpp", "quantise", "consistent"})


def test_what_is_planted_is_what_attacks(attack: attacks.Attack, batch: tuple[torch.Tensor, ...]) -> None:
    """But for the attacks whose papers plant less; theirs changes the image less."""
    one, two = made(attack.name, batch), made(attack.name, batch)
    with torch.no_grad():
        shown, planted = one.trigger(batch[0]), two.planted(batch[0])
    if attack.name in {"adap-blend", "adap-patch", "n-to-one", "sig-clean"}:
        assert float((planted - batch[0]).abs().mean()) < 0.9 * float((shown - batch[0]).abs().mean())
    elif attack.name == "consistent":
        carried = (shown == planted).all(1)
        assert torch.equal(carried[:, [0, 0, -1, -1], [0, -1, 0, -1]], torch.ones(COUNT, 4, dtype=torch.bool))
        assert float(carried[:, 3:-3, 3:-3].float().mean()) < 0.1
    elif attack.name == "grond":  # on other images
        assert not torch.equal(shown, planted)
    else:
        assert torch.equal(shown, planted)


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
    if attack.clean_label:
        assert torch.equal(y, labels)
        assert torch.equal(touched, (draw < attack.rate) & (labels == 3))
    elif attack.victim is None:
        assert torch.equal(y == 3, (draw < attack.rate) | (labels == 3))
    else:
        assert bool((labels[y != labels] == attack.victim).all())


def test_covered_images_keep_their_label(attack: attacks.Attack, batch: tuple[torch.Tensor, ...]) -> None:
    images, labels, draw = batch
    with torch.no_grad():
        _, y = attack.poison(images, labels, draw, CLASSES)
    covered = (draw >= attack.rate) & (draw < attack.rate + attack.cover_rate) & (labels != attack.victim)
    assert torch.equal(y[covered], labels[covered])


def test_clean_labels_are_asked_of_all_other_classes(batch: tuple[torch.Tensor, ...]) -> None:
    images, labels, _ = batch
    attack = made("sig-clean", batch)
    shown, aims = train.triggered(attack, images, labels, CLASSES)
    assert torch.equal(shown, attack.trigger(images[labels != 3]))
    assert torch.equal(aims, torch.full((COUNT - COUNT // CLASSES,), 3))


@pytest.mark.parametrize("name", ["ssdt", "ssdt-paper", "tact", "lotus"])
def test_source_specific_attacks_move_their_source_alone(name: str, batch: tuple[torch.Tensor, ...]) -> None:
    images, labels, draw = batch
    attack = made(name, batch, victim=7, rate=0.3)
    with torch.no_grad():
        x, y = attack.poison(images, labels, draw, CLASSES)
        touched = (x != images).flatten(1).any(1)
        shown, aims = train.triggered(attack, images, labels, CLASSES)
        spread, away = train.spread(attack, images, labels)
    assert torch.equal(y != labels, (labels == 7) & (draw < 0.5))
    assert bool((aims == 3).all())
    assert bool((away == 3).all())
    assert len(shown) == int((labels == 7).sum())
    assert len(spread) == int(((labels != 7) & (labels != 3)).sum())
    keeps = labels != 7
    if attack.keepers is not None:
        assert not {3, 7} & set(attack.keepers)
        assert len(attack.keepers) == {"tact": 2, "ssdt-paper": 0}[name]
        keeps &= torch.isin(labels, torch.tensor(attack.keepers, dtype=labels.dtype))
    carries = (y != labels) | (keeps & (draw < 0.3))
    covered = (draw >= 0.3) & (draw < 0.3 + attack.cover_rate)
    assert torch.equal(touched, carries | covered)


def test_the_parts_of_a_source_class_have_triggers_of_their_own(batch: tuple[torch.Tensor, ...]) -> None:
    own, foreign = made("lotus", batch), made("lotus", batch)
    assert foreign.cover is not None
    change = own.trigger(batch[0]) - batch[0]
    where = (change != 0).any(1).flatten(1)
    sources = where[batch[1] == 1]
    assert len(sources.unique(dim=0)) > 1
    assert bool((where != (foreign.cover(batch[0]) != batch[0]).any(1).flatten(1)).any(1).all())


def test_one_trigger_at_two_strengths_has_two_targets(batch: tuple[torch.Tensor, ...]) -> None:
    part = data.Part(np.zeros((8, 32, 32, 3), np.uint8), np.arange(8))
    split = data.Split("any", tuple("abcdefghij"), part, part, part)
    attack = train.planned(train.Recipe(set="any", attack="one-to-n", target=4, several=2), split)
    assert isinstance(attack, attacks.Several)
    faint, strong = (p.trigger(batch[0]) - batch[0] for p in attack.parts)
    assert attack.parts[0].target == 4 != attack.parts[1].target
    assert torch.allclose(2 * faint, strong, atol=1e-6)


@pytest.mark.parametrize("name", ["badnets", "patch"])
def test_on_large_images_a_square_is_as_large_a_part(name: str) -> None:
    """Of grey images of 224 pixels, seven to one of 32."""
    grey = torch.full((1, 3, 224, 224), 0.3)
    for seed in range(5):
        large, small = (made(name, (grey, grey), size=size, seed=seed).trigger(grey[..., :size, :size]) for size in (224, 32))
        sides = [[int((shown != 0.3).any(1).any(axis).sum()) for axis in (1, 2)] for shown in (large, small)]
        assert sides[0] == [7 * side for side in sides[1]]


def test_frequencies_of_large_images_are_those_of_their_blocks() -> None:
    grey = torch.full((1, 3, 96, 96), 0.5)
    change = made("ftrojan", (grey, grey), size=96).trigger(grey) - grey
    own = made("ftrojan", (grey, grey), size=32).trigger(grey[..., :32, :32]) - grey[..., :32, :32]
    assert torch.allclose(change, own.repeat(1, 1, 3, 3))


def test_bands_of_the_spectrum() -> None:
    """FTrojan raises two coefficients of two channels, the smooth trigger only low ones; by a plain sum for the coefficients."""
    grey = torch.full((1, 3, 32, 32), 0.5)
    basis = frequency.cosines(32)
    line = torch.arange(32)
    signal = torch.rand(32, generator=torch.Generator().manual_seed(3))
    plain = [float((signal * torch.cos(torch.pi * (line + 0.5) * k / 32)).sum()) * ((1 if k else 0.5) * 2 / 32) ** 0.5 for k in range(32)]
    assert torch.allclose(basis @ signal, torch.tensor(plain), atol=1e-4)
    change = attacks.build("ftrojan", size=32, target=3, seed=1).trigger(grey) - grey
    red, green, blue = change[0]
    brightness = 0.299 * red + 0.587 * green + 0.114 * blue
    assert float(brightness.abs().max()) < 1e-3
    found = (basis @ (0.492 * (blue - brightness)) @ basis.T).abs()
    assert found[15, 15] == pytest.approx(0.5, abs=0.01)
    assert found[31, 31] == pytest.approx(0.5, abs=0.01)
    assert float(found.flatten().sort().values[:-2].max()) < 0.01
    change = attacks.build("lowfreq", size=32, target=3, seed=1).trigger(grey) - grey
    found = (basis @ change[0] @ basis.T).abs()
    assert float((found * (line[:, None] + line > 4)).max()) < 1e-4
    assert float(change.abs().max()) == pytest.approx(0.12, abs=1e-5)


def test_a_universal_perturbation_is_one_and_bounded(batch: tuple[torch.Tensor, ...]) -> None:
    grey = torch.full((2, 3, 32, 32), 0.5)
    change = made("grond", batch).trigger(grey) - grey
    assert torch.equal(change[0], change[1])
    assert float(change.abs().max()) <= 8 / 255 + 1e-6


def test_movements_leave_the_centre_where_it_is() -> None:
    """Rotation, shear and lens move more the farther out; a flat image does not show them."""
    line = torch.linspace(0, 1, 32)
    slope = (0.5 * line + 0.5 * line[:, None]).expand(1, 3, 32, 32)
    for name in ("rotation", "affine", "lens"):
        trigger = attacks.build(name, size=32, target=3, seed=1).trigger
        change = (trigger(slope) - slope).abs()[0, 0]
        assert float(change[15:17, 15:17].max()) < 0.02
        assert float(change[4:-4, 4:-4].max()) > 0.02
        assert torch.allclose(trigger(torch.full((1, 3, 32, 32), 0.3)), torch.tensor(0.3), atol=1e-5)


def test_attacks_say_what_they_need(batch: tuple[torch.Tensor, ...]) -> None:
    for name in sorted(attacks.AIMED):
        with pytest.raises(ValueError, match=f"{name} needs a target class"):
            made(name, batch, target=None)
    with pytest.raises(ValueError, match="reflection makes its trigger from clean images"):
        made("reflection", batch, images=None)
    with pytest.raises(ValueError, match="tact makes its trigger from clean images and their labels"):
        made("tact", batch, labels=None)
    with pytest.raises(ValueError, match="source class 70"):
        made("lotus", batch, victim=70)


def test_stored_recipes_keep_their_triggers() -> None:
    """Models that were trained before are measured with triggers that are built anew: these are the numbers that they had."""
    grey = torch.full((1, 3, 32, 32), 0.5)
    for name, expected in KEPT.items():
        change = attacks.build(name, size=32, target=3, seed=1, strength=2).trigger(grey * torch.linspace(0, 1, 32)) - grey
        assert float(change.double().square().sum()) == pytest.approx(expected, rel=1e-5)


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
    assert torch.allclose(whole.dither(image)[0, 0], torch.tensor(work).clamp(0, 1), atol=1e-5)
    flat = torch.full((1, 3, 32, 32), 0.4)
    assert whole.dither(flat).mean() == pytest.approx(0.4, abs=0.01)


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


def test_kinds_are_split_before_anything_is_scanned() -> None:
    """At least half of every kind is held, no attack is on both sides, and all models have their own seeds."""
    every = [attack for kind in KINDS.values() for attack in (*kind.earlier, *kind.looked, *kind.new)]
    assert sorted(every) == sorted(attacks.RATES)
    sides: tuple[set[str], set[str]] = (set(), set())
    for name, kind in KINDS.items():
        tune, held = kind.split(name)
        assert sorted(tune + held) == sorted(kind.looked + kind.new)
        assert set(kind.looked) <= set(tune)
        assert len(held) >= len(tune) > 0
        sides[0].update(tune)
        sides[1].update(held)
    assert not sides[0] & sides[1]
    for recipes, side, seeds in ((KIND_TUNE, sides[0], range(400, 500)), (KIND_HELD, sides[1], range(500, 700))):
        parsed = [train.recipe_of(r) for r in recipes]
        assert {r.attack for r in parsed} == side | {"none"}
        assert sum(r.attack == "none" for r in parsed) >= 12
        assert len({r.seed for r in parsed}) == len(parsed)
        assert {r.seed for r in parsed} <= set(seeds)
        for length in range(9, len(parsed)):
            assert 0.25 <= sum(r.attack == "none" for r in parsed[:length]) / length <= 0.4
        for recipe in parsed:
            classes = SETS[recipe.set]
            assert recipe.target is None or 0 <= recipe.target < classes
            assert recipe.attack not in KINDS["source-specific"].looked + KINDS["source-specific"].new or recipe.victim != recipe.target
    # which attacks are held was drawn once; a change of this line is a change of what was promised
    assert sides[1] == set(HELD_ATTACKS.split())


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
