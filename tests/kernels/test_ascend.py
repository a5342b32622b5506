"""The step of the search: by hand, and every backend against the reference in float64."""

import pytest
import torch

from banscan.kernels import ascent, reference


def test_by_hand() -> None:
    """One step of each ball, written out."""
    gradient = torch.tensor([[3.0, -0.1]])
    noise = torch.tensor([[0.25, 0.0]])
    reference.ascend(noise, gradient, torch.zeros(1, 2), eps=torch.tensor(0.3), steps=3, ball="linf")
    assert torch.allclose(noise, torch.tensor([[0.3, -0.1]]))
    noise, momentum = torch.zeros(1, 2), torch.zeros(1, 2)
    reference.ascend(noise, torch.tensor([[3.0, 4.0]]), momentum, eps=torch.tensor(0.5), steps=4, ball="l2")
    assert torch.allclose(noise, torch.tensor([[0.6, 0.8]]) * 0.5 * 2**0.5 * 2 / 4)
    assert torch.allclose(momentum, torch.tensor([[0.6, 0.8]]))


@pytest.mark.parametrize("ball", ["linf", "l2"])
@pytest.mark.parametrize("size", [2, 500, 2048, 4099])
def test_triton_matches_reference(ball: str, size: int, device: str) -> None:
    torch.manual_seed(size)
    noise, gradient, momentum = (torch.randn(3, size, device=device) for _ in range(3))
    noise *= 0.1
    gradient[1] = 0  # a restart whose loss does not react
    # a buffer of more restarts, of which a part is stepped
    whole = torch.cat((noise, torch.full_like(noise, torch.nan)))
    held = momentum.clone()
    eps = torch.tensor(0.1, device=device)
    truth, expected = noise.double(), momentum.double()
    for _ in range(3):
        reference.ascend(truth, gradient.double(), expected, eps=eps.double(), steps=8, ball=ball)
        ascent.ascend(whole[:3], gradient, held, eps=eps, steps=8, ball=ball)
    assert torch.allclose(whole[:3].double(), truth, atol=1e-6)
    assert torch.allclose(held.double(), expected, atol=1e-6)
    assert bool(whole[3:].isnan().all())


def test_unknown_ball() -> None:
    for ascend in (reference.ascend, ascent.ascend):
        with pytest.raises(ValueError, match="l1"):
            ascend(torch.ones(1, 2), torch.ones(1, 2), torch.ones(1, 2), eps=torch.tensor(1.0), steps=1, ball="l1")


def test_a_copy_would_be_lost() -> None:
    with pytest.raises(ValueError, match="contiguous"):
        ascent.ascend(torch.ones(4, 2).t(), torch.ones(2, 4), torch.ones(2, 4), eps=torch.tensor(1.0), steps=1, ball="l2")
