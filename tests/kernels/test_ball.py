"""Lengths and projections of rows of any shape."""

import torch

from banscan.kernels.ball import TINY, length, project


def test_length() -> None:
    """One length for each row, shaped to divide it; nothing is divided by zero."""
    rows = torch.zeros(3, 2, 2)
    rows[0] = torch.tensor([[1.0, 2.0], [2.0, 4.0]])
    rows[1, 0, 1] = -3
    assert torch.equal(length(rows), torch.tensor([5.0, 3.0, TINY]).reshape(3, 1, 1))
    assert bool((rows / length(rows)).isfinite().all())
    assert torch.equal(length(rows.flatten(1)).flatten(), length(rows).flatten())


def test_project() -> None:
    """Only what is outside is shortened; the radius may be a number or a tensor of one value."""
    for radius in (2.0, torch.tensor(2.0)):
        rows = torch.tensor([[3.0, 4.0], [0.6, 0.8], [0.0, 0.0]])
        project(rows, radius)
        assert torch.allclose(rows, torch.tensor([[1.2, 1.6], [0.6, 0.8], [0.0, 0.0]]))
