"""Eq. 5 and 6 against the paper."""

import torch
from torch.nn import functional as F

from banscan.scanner.search import mask


def test_objective_is_equation_five() -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(4, 3)
    f, y, m = torch.rand(6, 4), torch.arange(6) % 3, torch.tensor([1.0, 0.0, 0.5, 0.25])
    expected = F.cross_entropy(head(f * m), y) - F.cross_entropy(head(f * (1 - m)), y) + 0.75 * m.mean()
    assert torch.allclose(mask.objective(head, f, y, m, 0.75), expected)


def test_mask_keeps_what_the_labels_need() -> None:
    """Two features decide the class, two are idle: the regulariser drops the idle ones, the first stay."""
    torch.manual_seed(0)
    head = torch.nn.Linear(4, 2, bias=False)
    head.weight.data = torch.tensor([[4.0, 0.0, 0.0, 0.0], [0.0, 4.0, 0.0, 0.0]])
    y = torch.arange(256) % 2
    f = torch.rand(256, 4)
    f[:, :2] = F.one_hot(y, 2) + 0.1 * torch.rand(256, 2)
    learnt = mask.learn(head, f, y, epochs=100)
    assert float(learnt.min()) >= 0
    assert float(learnt.max()) <= 1
    assert float(learnt[:2].min()) > float(learnt[2:].max()) + 0.3


def test_negative_shares_count_predictions() -> None:
    shares = mask.negative_shares(lambda f: f, torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.2, 0.9]]), torch.tensor([1.0, 0.0]), 2)
    assert torch.allclose(shares, torch.tensor([1 / 3, 2 / 3]))


def test_mask_moves_on_few_images() -> None:
    """With the default settings on few images a mask splits the features instead of keeping them all."""
    torch.manual_seed(0)
    head = torch.nn.Linear(64, 10)
    f, y = torch.rand(300, 64).relu(), torch.arange(300) % 10
    first, second = (mask.learn(head, f, y, seed=seed) for seed in (0, 1))
    assert 0.01 < float((first < 0.5).float().mean()) < 0.99
    assert not torch.equal(first, second)
    assert torch.equal(first, mask.learn(head, f, y, seed=0))
