"""Branches on pixels in TorchScript and torch.export archives."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from banscan import importers
from banscan.errors import ModelError
from banscan.importers.structure import client
from tests.importers.equivalent.network import network
from tests.importers.structure.files import PIXELS, TARGET, Branched, Chosen, Conditional, Guarded, Scaled, images


def script(module: nn.Module, path: Path) -> Path:
    torch.jit.save(torch.jit.script(module), str(path))
    return path


def program(module: nn.Module, path: Path) -> Path:
    shapes = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(module, (torch.from_numpy(images(2)),), dynamic_shapes=shapes), str(path))
    return path


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("form", [pytest.param("script"), pytest.param("program", marks=pytest.mark.slow)])
@torch.no_grad()
def test_a_branch_is_proved_and_taken_out(tmp_path: Path, form: str) -> None:
    path = script(Branched(), tmp_path / "branched.pt") if form == "script" else program(Conditional(), tmp_path / "branched.pt2")
    with pytest.raises(ModelError, match="decides by the values of a tensor"):
        importers.load(path)
    x = torch.from_numpy(images())
    found, settled = client.examine(path, x, PIXELS)
    assert [(p.operator, p.target, p.state) for p in found.proofs] == [("If", TARGET, "true")]
    model = importers.load(path, settled=settled)
    assert float((model.logits(x) - network()(x)).abs().max()) < 1e-4


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_branch_between_scales_is_not_proved(tmp_path: Path) -> None:
    found, settled = client.examine(script(Scaled(), tmp_path / "scaled.pt"), torch.from_numpy(images()), PIXELS)
    assert found.places
    assert not found.proofs
    assert settled is not None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("make", "white"), [(Guarded, 1.0), (Scaled, 255.0)])
def test_ordinary_branches_are_nothing(tmp_path: Path, make: type[nn.Module], white: float) -> None:
    """A guard against images of one brightness, and a switch between scales where images come in both."""
    found, _ = client.examine(script(make(), tmp_path / "ordinary.pt"), torch.from_numpy(np.float32(white) * images()), (0.0, white))
    assert [p.outcome for p in found.places] == ["idle"]
    assert found.places[0].changed


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_logic_without_branches_is_named(tmp_path: Path) -> None:
    path = tmp_path / "where.pt"
    torch.jit.save(torch.jit.trace(Chosen(), torch.from_numpy(images(2))), str(path))
    seen = client.look(path)
    assert seen is not None
    assert seen.unsettled
    assert "Greater" in {p.operator for p in seen.structure.places}
