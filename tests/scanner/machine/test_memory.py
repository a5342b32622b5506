"""How many images are computed at once."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from banscan import importers
from banscan.errors import UsageError
from banscan.scanner.machine import memory
from banscan.scanner.machine.size import size
from banscan.scanner.settings import Options
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
    # of large images fewer are enough, but not one at a time
    monkeypatch.setattr(memory, "ENOUGH", 20 * 4 * LARGEST)
    assert memory.images_at_once(nodes, torch.float32, CPU) == 20
    monkeypatch.setattr(memory, "ENOUGH", 1)
    assert memory.images_at_once(nodes, torch.float32, CPU) == memory.LEAST
    small = 1 << 20
    monkeypatch.setattr(memory, "total", lambda device: small)
    assert 1 <= memory.images_at_once(nodes, torch.float32, GPU) < small / (4 * LARGEST)
    monkeypatch.setattr(memory, "total", lambda device: 0)
    assert memory.images_at_once(nodes, torch.float32, GPU) == 1


def test_a_batch_that_belongs_together(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = list(importers.load(model_file).module.graph.nodes)
    monkeypatch.setattr(memory, "WHOLE", {"cpu": 300 * 4 * LARGEST, "cuda": 1 << 40})
    assert memory.together(nodes, CPU) == 300
    assert memory.together(nodes, GPU) > 1e6
    monkeypatch.setattr(memory, "WHOLE", {"cpu": 1, "cuda": 1})
    assert memory.together(nodes, CPU) == memory.FEW


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


def test_by_what_somebody_gives(model_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that has so much; what is not there cannot be given."""
    nodes = list(importers.load(model_file).module.graph.nodes)
    monkeypatch.setattr(memory, "total", lambda device: 1 << 40)
    monkeypatch.setattr(memory, "CACHE", 1 << 40)
    small = 1 << 20
    usual = [memory.images_at_once(nodes, torch.float32, device) for device in (CPU, GPU)]
    with memory.bounded(small):
        bounded = [memory.images_at_once(nodes, torch.float32, device) for device in (CPU, GPU)]
        with memory.bounded(None):
            assert memory.images_at_once(nodes, torch.float32, CPU) == usual[0]
    assert [memory.images_at_once(nodes, torch.float32, device) for device in (CPU, GPU)] == usual
    monkeypatch.setattr(memory, "total", lambda device: small)
    assert [memory.images_at_once(nodes, torch.float32, device) for device in (CPU, GPU)] == bounded
    with memory.bounded(1 << 40):
        assert memory.images_at_once(nodes, torch.float32, CPU) == bounded[0] < usual[0]


@pytest.mark.parametrize(
    ("text", "count"), [("3GB", 3 * 10**9), ("1.5 gb", 1_500_000_000), ("4GiB", 4 << 30), ("3000M", 3 * 10**9), ("2t", 2 * 10**12)]
)
def test_sizes(text: str, count: int) -> None:
    assert size(text) == count
    assert Options(memory=text).room == count


@pytest.mark.parametrize("text", ["3", "3KB", "0.5GB", "999MB", "-3GB", "3 GB GB", "GB", "", "nan GB", "1e3GB", "٣GB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--memory .*: expected a size of at least 1GB with its unit, as 3GB or 4GiB$"):
        Options(memory=text)


def test_the_most_that_was_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = memory.most(CPU)["process"]
    held = bytearray(b"1" * (300 << 20))
    assert memory.most(CPU)["process"] >= before
    assert memory.most(CPU)["process"] > len(held)
    monkeypatch.setattr(memory, "STATUS", tmp_path / "missing")
    assert memory.most(CPU) == {}


def test_no_more_than_a_laptop_has_unless_somebody_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that large machines give the numbers of small ones; all of a GPU's is used."""
    monkeypatch.setattr(memory, "total", lambda device: 1 << 40)
    assert memory.usable(CPU) == memory.LAPTOP
    assert memory.usable(GPU) == 1 << 40
    with memory.bounded(1 << 38):
        assert memory.usable(CPU) == memory.usable(GPU) == 1 << 38
    monkeypatch.setattr(memory, "total", lambda device: 1 << 30)
    assert memory.usable(CPU) == 1 << 30
