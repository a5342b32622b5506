"""The given model as a teacher, in all but what it says of the attacked class."""

from dataclasses import replace

import torch

from banscan.importers import TracedModel
from banscan.scanner.repair import teacher, trainable
from tests.scanner.repair.conftest import QUICK, tuned


def test_the_given_model_is_the_teacher(model: TracedModel, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    """T^2 times the divergence of the softened probabilities, in float64; and what follows it stays nearer to the given model."""
    x = data[0]
    own, given = (t.double() / teacher.TEMPERATURE for t in (torch.randn(len(x), 10), model.logits(x)))
    theirs = given.softmax(1)
    expected = teacher.TEMPERATURE**2 * (theirs * (theirs.log() - own.log_softmax(1))).sum(1).mean()
    answers = (own * teacher.TEMPERATURE).float().requires_grad_()
    found = teacher.distance(model, x, answers)
    assert torch.allclose(found.double(), expected, rtol=1e-4)
    (gradient,) = torch.autograd.grad(found, answers)
    reference = teacher.TEMPERATURE * (own.softmax(1) - theirs) / len(x)
    assert torch.allclose(gradient.double(), reference, atol=1e-6)

    def away(share: float) -> float:
        state = tuned(model, data, replace(QUICK, epochs=4, teacher=share))
        with torch.no_grad():
            return float(teacher.distance(model, x, trainable.Pass(model, state.values).run(x)))

    assert away(0.9) < 0.8 * away(0.0)


def test_the_teacher_is_not_asked_about_the_attacked_class(model: TracedModel, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    """The divergence is that among the other classes and does not pull at the attacked one; images of that class keep all of theirs."""
    x, y = data[0], torch.arange(len(data[0])) % 10
    goal = torch.full_like(y, 3)
    hidden = teacher.attacked(goal, y, 10)
    assert torch.equal(hidden, (y != 3)[:, None] & (torch.arange(10) == 3))
    answers = torch.randn(len(x), 10, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = teacher.distance(model, x, answers, hidden)
    terms = []
    for own, given, left in zip(answers.detach().double(), model.logits(x).double(), ~hidden, strict=True):
        theirs = (given[left] / teacher.TEMPERATURE).softmax(0)
        terms.append(teacher.TEMPERATURE**2 * (theirs * (theirs.log() - (own[left] / teacher.TEMPERATURE).log_softmax(0))).sum())
    assert torch.allclose(found.double(), torch.stack(terms).mean(), rtol=1e-4)
    (gradient,) = torch.autograd.grad(found, answers)
    assert gradient.isfinite().all()
    assert not gradient[hidden].any()
    assert gradient[y == 3, 3].all()
