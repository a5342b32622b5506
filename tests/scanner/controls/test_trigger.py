"""The triggers that are planted into copies."""

import numpy as np
import pytest
import torch

from banscan.scanner.controls.trigger import MIXED, PATCH, SHIFT, Trigger, carrying, triggers

NAMES = ("patch", "blend", "warp", "colour")


def drawn(channels: int = 3, height: int = 32, width: int = 32, seed: int = 0) -> dict[str, Trigger]:
    return {t.name: t for t in triggers(channels, height, width, torch.Generator().manual_seed(seed))}


@pytest.mark.parametrize(("channels", "height", "width"), [(3, 32, 32), (1, 28, 28), (3, 48, 192), (4, 9, 7), (1, 224, 224)])
def test_images_of_any_size_carry_them(channels: int, height: int, width: int) -> None:
    x = torch.rand(5, channels, height, width)
    for name, trigger in drawn(channels, height, width).items():
        changed = trigger.change(x)
        assert changed.shape == x.shape
        assert not torch.equal(changed, x), name
    assert tuple(drawn(channels, height, width)) == NAMES


def test_same_seed_same_triggers() -> None:
    x = torch.rand(2, 3, 32, 32)
    for name in NAMES:
        first, again, other = (drawn(seed=seed)[name].change(x) for seed in (0, 0, 1))
        assert torch.equal(first, again)
        assert name == "colour" or not torch.equal(first, other)  # of colours there are six


def test_a_patch_is_small_and_in_one_place() -> None:
    x = torch.full((2, 3, 32, 32), 0.5)
    moved = (drawn()["patch"].change(x) != x).any(1)
    side = round(32 * PATCH)
    assert moved.sum((1, 2)).tolist() == [side * side] * 2
    rows, columns = moved[0].any(1).nonzero()[:, 0], moved[0].any(0).nonzero()[:, 0]
    assert (len(rows), len(columns)) == (side, side)
    assert torch.equal(moved[0], moved[1])
    assert torch.equal(x, torch.full_like(x, 0.5))  # not in place


def test_how_much_the_others_change() -> None:
    x = torch.full((1, 3, 32, 32), 0.5)
    own = drawn()
    assert (own["blend"].change(x) - x).abs().max() <= MIXED / 2 + 1e-6
    shift = (own["colour"].change(x) - x)[0, :, 0, 0]
    assert torch.allclose(shift.abs(), torch.full((3,), SHIFT))
    assert len(shift.sign().unique()) == 2  # not all channels alike: that is no colour
    assert torch.allclose(own["warp"].change(x), x, atol=1e-5)  # nothing to move in a plain image


def test_a_file_of_8_bits_holds_them() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 12, 16, 3), dtype=np.uint8)
    for trigger in drawn(3, 12, 16).values():
        carried = carrying(images, trigger)
        assert (carried.dtype, carried.shape) == (np.uint8, images.shape)
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        wanted = (trigger.change(x).clamp(0, 1) * 255).permute(0, 2, 3, 1).numpy()
        assert np.abs(carried - wanted).max() <= 0.5 + 1e-4
