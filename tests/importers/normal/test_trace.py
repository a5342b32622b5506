"""A traced graph must be the one that runs, however many images there are."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from banscan.errors import ModelError
from banscan.importers.normal.trace import export


class Asks(nn.Module):
    """Decides by the number of images."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        if self.how == "equal":
            return x * 0 if n == 64 else x
        if self.how == "more":
            return x * 0 if n >= 64 else x
        if self.how == "multiple":
            return x * 0 if n % 7 == 0 else x
        if self.how == "size":
            return x * (1 - torch.ones(torch.sym_max(0, n - 63)).sum())
        if self.how == "part":
            return x + x.narrow(0, 0, torch.sym_min(n, 63))
        return torch.cat([x.reshape(-1, 3).view(n, -1), x.flatten(1)]).chunk(2, 0)[0]


@pytest.mark.parametrize("how", ["equal", "more", "multiple", "size", "part"])
def test_a_graph_that_depends_on_the_number_of_images(how: str) -> None:
    with pytest.raises(ModelError, match=r"something else for (7|64|65) images at once"):
        export(Path("model"), Asks(how), torch.zeros(2, 3, 4, 4))


def test_what_holds_for_every_number_does_not_count() -> None:
    assert export(Path("model"), Asks("no"), torch.zeros(2, 3, 4, 4))(torch.zeros(5, 3, 4, 4)).shape == (5, 48)
