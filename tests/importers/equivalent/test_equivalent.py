"""One function, many files: each must give the plain file's features, classifier and logits."""

from pathlib import Path

import numpy as np
import pytest
import torch

from banscan import importers
from tests.importers.equivalent import graphs, heads, inputs, scripts, tails
from tests.importers.equivalent.form import Form
from tests.importers.equivalent.network import CLASSES, network, pictures

MODULES = (tails, heads, inputs, graphs, scripts)
FORMS: dict[str, Form] = {f"{m.__name__.rpartition('.')[2]}-{name}": form for m in MODULES for name, form in m.FORMS.items()}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n.startswith("scripts-") else ()) for n in FORMS])
@torch.no_grad()
def test_the_form_is_read_as_the_plain_file(name: str, tmp_path: Path) -> None:
    form = FORMS[name]
    seen = pictures()
    if form.same:
        seen = seen[..., :1].repeat(3, -1)
    plain = torch.from_numpy((seen.astype(np.float32) / 255).transpose(0, 3, 1, 2).copy())
    x = torch.from_numpy(form.images(seen))
    model = importers.load(form.write(tmp_path / name), size=seen.shape[1:3])
    assert model.classes == CLASSES
    assert len(model.neurons) == form.layers
    if form.stripped is not None:
        assert model.stripped == form.stripped
    logits, expected = model.logits(x), network()(plain)
    if form.shifted:
        logits, expected = (y - y.mean(1, keepdim=True) for y in (logits, expected))
    close(logits, expected, form.exact)
    if form.features:
        front, back = model.split(model.features)
        features = front(x)
        close(features.flatten(1), network().features(plain), form.exact)
        close(back(features), model.logits(x), 1e-5)
    if form.runtime and (found := importers.parity(model, x)) is not None:
        assert found.rms < form.exact


def close(ours: torch.Tensor, theirs: torch.Tensor, relative: float) -> None:
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) <= relative * float(theirs.abs().max())
