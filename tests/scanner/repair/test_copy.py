"""A tuned copy beside the model, and the form that it is tuned in."""

import pytest
import torch

from banscan.importers import TracedModel
from banscan.scanner import twin
from banscan.scanner.repair import trainable


@pytest.mark.slow
def test_evened_weights_are_the_same_function(model: TracedModel, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, _ = data
    state = trainable.start(model, x)
    both = [trainable.Pass(model, s.values).run(x[:64]) for s in (state, trainable.evened(model, state))]
    torch.testing.assert_close(*both, rtol=1e-2, atol=1e-2)


@pytest.mark.slow
def test_a_copy_leaves_the_model_alone(model: TracedModel, data: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, _ = data
    before = model.logits(x[:8])
    weights = {name: value + 1 for name, value in trainable.finished(model, trainable.start(model, x), x).items()}
    other = twin.with_weights(model, weights)
    torch.testing.assert_close(model.logits(x[:8]), before)
    assert float((other.logits(x[:8]) - before).abs().max()) > 1e-3
