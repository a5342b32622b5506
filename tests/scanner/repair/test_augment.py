"""Augmented images are crops of the given ones."""

import pytest
import torch

from banscan.scanner.repair.augment import augment


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_augmented_images_are_crops(layout: str) -> None:
    x = torch.arange(2 * 3 * 16 * 16, dtype=torch.float32).reshape(2, 3, 16, 16)
    x = x if layout == "NCHW" else x.movedim(1, -1)
    y = augment(x, False, torch.Generator().manual_seed(1), layout)
    assert y.shape == x.shape
    own = y if layout == "NCHW" else y.movedim(-1, 1)
    assert torch.equal(own[:, 1] - own[:, 0], torch.full((2, 16, 16), 256.0))
