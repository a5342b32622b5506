"""A classifier answers each image by itself."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from banscan.errors import ModelError
from banscan.importers.normal.batch import check_apart
from banscan.importers.normal.normalise import drop_identities
from banscan.importers.normal.trace import export

Change = Callable[[Tensor], Tensor]


class Net(nn.Module):
    def __init__(self, change: Change) -> None:
        super().__init__()
        self.change = change
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        features = self.change(x.flatten(1))
        return torch.as_tensor(self.head(features))


def checked(change: Change) -> None:
    module = export(Path("net"), Net(change), torch.zeros(2, 3, 2, 2))
    drop_identities(module)
    module.graph.eliminate_dead_code()
    check_apart(module)


# features [N, 12] → features, whose images meet
TOGETHER: dict[str, Change] = {
    "mean": lambda f: f - f.mean(0),
    "mean of all": lambda f: f - f.mean(),
    "maximum": lambda f: f + f.amax(0, keepdim=True),
    "softmax": lambda f: f.softmax(0),
    "cumulative": lambda f: f.cumsum(0),
    "sorted": lambda f: f.sort(0).values,
    "first": lambda f: f + f[:1],
    "one": lambda f: f + f[0],
    "product": lambda f: f @ (f.t() @ f),
    "likeness": lambda f: (f @ f.t()).softmax(-1) @ f,
    "behind a transpose": lambda f: f + f.t().amax(1),
    "as a map": lambda f: f + nn.functional.adaptive_max_pool2d(f.reshape(1, 12, -1, 1), 1).reshape(1, 12),
    "how many": lambda f: f / f.shape[0],
    "how many, as an integer": lambda f: f + (torch.zeros(12, dtype=torch.int64) + f.shape[0]).float(),
}
APART: dict[str, Change] = {
    "softmax": lambda f: f.softmax(1),
    "cumulative": lambda f: f.cumsum(1),
    "windows": lambda f: f.reshape(-1, 4).softmax(-1).reshape(-1, 12),
    "tokens": lambda f: torch.cat((torch.zeros(1, 1, 4).expand(f.shape[0], -1, -1), f.reshape(-1, 3, 4)), 1)[:, 1:].flatten(1),
    "attention": lambda f: (lambda t: (t @ t.transpose(1, 2)).softmax(-1) @ t)(f.reshape(-1, 3, 4)).flatten(1),
    "both flips at once": lambda f: (lambda t: (t[: f.shape[0]] + t[f.shape[0] :]) / 2)(torch.cat((f, f.flip(1)))),
    "places in all": lambda f: f.flatten()[torch.arange(12) + 12 * torch.arange(f.shape[0]).unsqueeze(1)].reshape(-1, 12),
    "axes moved": lambda f: f.reshape(-1, 3, 4).permute(1, 0, 2).softmax(-1).permute(1, 0, 2).flatten(1),
}


@pytest.mark.parametrize("name", TOGETHER)
def test_together(name: str) -> None:
    with pytest.raises(ModelError, match="each image by itself"):
        checked(TOGETHER[name])


@pytest.mark.parametrize("name", APART)
def test_apart(name: str) -> None:
    checked(APART[name])
