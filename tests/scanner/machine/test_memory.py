"""How many images are computed at once."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from banscan import importers
from banscan.scanner.machine import memory
from tests.conftest import Net

CPU, GPU = torch.device("cpu"), torch.device("cuda")
# of Net on 16x16 images: convolution, sum, ReLU and pooling outputs
LARGEST = 8 * 16 * 16


def test_by_the_memory_of_the_machine(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = list(importers.load(model_file).module.graph.nodes)
    monkeypatch.setattr(memory, "total", lambda device: 1 << 40)
    assert memory.images_at_once(nodes, torch.float32, GPU) == memory.MOST["cuda"]
    assert memory.images_at_once(nodes, torch.float32, CPU) == memory.MOST["cpu"]
    monkeypatch.setattr(memory, "CACHE", 100 * 4 * LARGEST)
    assert memory.images_at_once(nodes, torch.float32, CPU) == 100
    assert memory.images_at_once(nodes, torch.bfloat16, CPU) == 200
    monkeypatch.setattr(memory, "CACHE", 1)
    assert memory.images_at_once(nodes, torch.float32, CPU) == memory.FEW
    small = 1 << 20
    monkeypatch.setattr(memory, "total", lambda device: small)
    assert 1 <= memory.images_at_once(nodes, torch.float32, GPU) < small / (4 * LARGEST)
    monkeypatch.setattr(memory, "total", lambda device: 0)
    assert memory.images_at_once(nodes, torch.float32, GPU) == 1


def test_a_free_batch_stays_free(export: Callable[..., Path]) -> None:
    model = importers.load(export("free-memory", Net().eval()))
    assert memory.images_at_once(model.module.graph.nodes, torch.float32, CPU) > 1
    for count in (1, 3, 5):
        assert len(model.logits(torch.rand(count, 3, 16, 16))) == count


def test_a_container_may_have_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text("123456\n")
    monkeypatch.setattr(memory, "LIMIT", limit)
    assert memory.total(CPU) == 123456
    limit.write_text("max\n")
    assert memory.total(CPU) > 123456
