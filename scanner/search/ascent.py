"""Projected gradient ascent, the loop of every search by gradients: over neuron noise, changes of pixels, or the pixels themselves."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from banscan.kernels.ball import length

# of `normed_step`
MOMENTUM = 0.8

# what is drawn for a step, the same for all rows: images, or their numbers
Drawn = tuple[Tensor, ...]
# some rows and their momentum, changed in place; which rows of all they are; what is drawn
Advance = Callable[[Tensor, Tensor, slice, Drawn], None]
# the scalar to climb: some rows, which of all they are, what is drawn. Rows must not meet in it
Objective = Callable[[Tensor, slice, Drawn], Tensor]
# some rows and their momentum, changed in place; the gradient at these rows
Step = Callable[[Tensor, Tensor, Tensor], object]


def climb(
    start: Tensor,
    advance: Advance,
    *,
    steps: int,
    project: Callable[[Tensor], object] = lambda rows: None,
    draw: Callable[[], Drawn] = tuple,
    images: int = 1,
    at_once: int | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Tensor:
    """Climbs from every row of `start` [R, ...] by itself; returns where they arrive, [R, ...].

    Args:
        advance: one step of a group of rows: `uphill`, or a gradient, step and projection in one.
        project: brings all rows back to where they are allowed, in place, when every group has made a step.
        draw: called once a step.
        images: that the gradient of one row passes through the model in one step.
        at_once: images that memory has room for; as many rows make a group, one at least. None takes all rows at once.
        progress: called with the image passes that each group took.
    """
    rows = start.detach().clone()
    momentum = torch.zeros_like(rows)
    group = len(rows) if at_once is None else max(1, at_once // images)
    for _ in range(steps):
        drawn = draw()
        for first in range(0, len(rows), group):
            own = slice(first, first + group)
            advance(rows[own], momentum[own], own, drawn)
            progress(len(rows[own]) * images)
        project(rows)
    return rows


def uphill(objective: Objective, step: Step, parts: Callable[[Drawn], Iterable[Drawn]] = lambda drawn: (drawn,)) -> Advance:
    """The plain way to advance: a gradient, then a step along it.

    Args:
        parts: of what is drawn, which are looked at one after the other; the objective is a sum over them.
    """

    def advance(rows: Tensor, momentum: Tensor, own: slice, drawn: Drawn) -> None:
        def gradient(part: Drawn) -> Tensor:
            return gradient_at(lambda given: objective(given, own, part), rows)

        step(rows, momentum, torch.stack([gradient(part) for part in parts(drawn)]).sum(0))

    return advance


def gradient_at(objective: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """The gradient of a scalar at these rows, shaped like them."""
    part = rows.detach().requires_grad_()
    (found,) = torch.autograd.grad(objective(part), part)
    return found


def normed_step(rows: Tensor, momentum: Tensor, gradient: Tensor, *, stride: float) -> None:
    """A step in L2: every row goes `stride` times its momentum, to which the gradient counts with length 1."""
    momentum.mul_(MOMENTUM).add_(gradient / length(gradient))
    rows.add_(stride * momentum)
