"""The loop of all searches by gradients, on objectives whose answer is known."""

from functools import partial

import pytest
import torch
from torch import Tensor

from banscan.kernels.ball import project
from banscan.scanner.search.ascent import MOMENTUM, Drawn, climb, normed_step, uphill


def sign_step(rows: Tensor, momentum: Tensor, gradient: Tensor) -> None:
    rows.add_(0.25 * gradient.sign())


def test_every_row_climbs_to_its_own_corner() -> None:
    """Sign steps in a box; the start stays as it was."""
    slopes = torch.tensor([[1.0, -2.0], [-3.0, 0.0], [0.5, 0.1]])
    start = torch.zeros(3, 2)
    found = climb(
        start, uphill(lambda rows, own, drawn: (rows * slopes[own]).sum(), sign_step), steps=5, project=lambda rows: rows.clamp_(-1, 1)
    )
    assert torch.equal(found, slopes.sign())
    assert not start.any()


@pytest.mark.parametrize(("at_once", "groups"), [(None, [5]), (100, [5]), (7, [2, 2, 1]), (1, [1] * 5)])
def test_groups_change_nothing(at_once: int | None, groups: list[int]) -> None:
    """Rows that go one after the other arrive where they would together; progress counts their image passes."""
    torch.manual_seed(0)
    start, goal = torch.randn(5, 2, 3), torch.randn(5, 2, 3)
    told: list[int] = []
    near = uphill(lambda rows, own, drawn: -(rows - goal[own]).square().sum(), partial(normed_step, stride=0.1))
    whole = climb(start, near, steps=4)
    parts = climb(start, near, steps=4, images=3, at_once=at_once, progress=told.append)
    assert torch.allclose(whole, parts)
    assert told == [3 * rows for rows in groups] * 4


def test_images_are_drawn_once_a_step_and_rows_projected_once_all_have_moved() -> None:
    happened: list[str] = []

    def draw() -> Drawn:
        happened.append("draw")
        return (torch.tensor(happened.count("draw")),)

    def advance(rows: Tensor, momentum: Tensor, own: slice, drawn: Drawn) -> None:
        happened.append(f"advance {int(drawn[0])}")
        momentum += 1
        rows += momentum

    def bring_back(rows: Tensor) -> None:
        happened.append(f"project {len(rows)}")

    found = climb(torch.zeros(2, 1), advance, steps=2, project=bring_back, draw=draw, at_once=1)
    assert happened == ["draw", "advance 1", "advance 1", "project 2", "draw", "advance 2", "advance 2", "project 2"]
    # momentum is kept between steps, one for each row
    assert found.flatten().tolist() == [3.0, 3.0]


def test_normed_step() -> None:
    """However long the gradient, the stride is the same, and what was gained before goes on."""
    rows, momentum = torch.zeros(2, 2), torch.zeros(2, 2)
    gradient = torch.tensor([[30.0, 40.0], [0.0, 0.0]])
    normed_step(rows, momentum, gradient, stride=2.0)
    assert torch.allclose(rows, torch.tensor([[1.2, 1.6], [0.0, 0.0]]))
    normed_step(rows, momentum, -gradient, stride=2.0)
    assert torch.allclose(momentum, torch.tensor([[0.6, 0.8], [0.0, 0.0]]) * (MOMENTUM - 1))


def test_the_ball_is_not_left() -> None:
    found = climb(
        torch.zeros(1, 4),
        uphill(lambda rows, own, drawn: rows.sum(), partial(normed_step, stride=1.0)),
        steps=10,
        project=partial(project, radius=1.0),
    )
    assert torch.allclose(found, torch.full((1, 4), 0.5))
