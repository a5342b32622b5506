"""What is chosen where a GPU was measured, where not, and what a broken cache does. The GPU and its times are made up."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from banscan import UsageError, cache
from banscan.kernels import tuning
from banscan.kernels.tiles import CHUNK, convolved, depth, levels, mapped, summed
from banscan.kernels.tuning import best

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
CHOICES = ("slow", "fast", "too large", "fastest on another shape")


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """A GPU that is told how long things take; what was launched there to be measured."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("BANSCAN_TUNE", raising=False)
    monkeypatch.setattr(tuning, "_known", {})
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda where: "Some GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda where: (9, 0))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    seen: list[str] = []

    def microseconds(run: Callable[[], object], where: torch.device) -> float:
        run()
        return {"slow": 20.0, "fast": 10.0}.get(seen[-1], 15.0)

    monkeypatch.setattr(tuning, "microseconds", microseconds)
    return seen


def asked(seen: list[str], shape: int = 1, where: torch.device = GPU, **how: Any) -> str:
    def launch(choice: str) -> None:
        seen.append(choice)
        if choice == "too large":
            raise torch.OutOfMemoryError

    return best("kernel", (shape, torch.float32), CHOICES, launch, where, **how)


def another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_known", {})


def test_nothing_is_measured_unless_asked(launched: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert asked(launched) == "slow"
    assert asked(launched, where=CPU, measure=True) == "slow"
    assert launched == []
    assert list(tmp_path.rglob("*")) == []
    another_process(monkeypatch)
    monkeypatch.setenv("BANSCAN_TUNE", "maybe")
    with pytest.raises(UsageError, match="BANSCAN_TUNE is 'maybe'; expected one of off, on"):
        asked(launched)


def test_measured_once(launched: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Once for a shape, not again in the next process, which need not ask for it."""
    monkeypatch.setenv("BANSCAN_TUNE", "on")
    assert asked(launched) == asked(launched) == "fast"
    assert launched == list(CHOICES)
    another_process(monkeypatch)
    monkeypatch.delenv("BANSCAN_TUNE")
    assert asked(launched) == "fast"
    assert asked(launched, shape=2) == "slow"
    assert launched == list(CHOICES)
    (file,) = tmp_path.rglob("*.*")
    kept = json.loads(file.read_text())
    assert kept["answer"] == "fast"
    assert kept["question"]["shape"] == ["1", "torch.float32"]
    assert kept["why"] == {"microseconds": {"slow": 20.0, "fast": 10.0, "fastest on another shape": 15.0}}


def test_asked_once_for_a_shape(launched: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A launch whose answer is known reads neither the environment nor the cache."""
    asked_for: list[str] = []
    for name in ("switch", "question"):
        original = getattr(tuning, name)
        monkeypatch.setattr(tuning, name, lambda *given, name=name, original=original: (asked_for.append(name), original(*given))[1])
    monkeypatch.setenv("BANSCAN_TUNE", "on")
    assert [asked(launched) for _ in range(5)] == ["fast"] * 5
    assert asked_for == ["switch", "question"]
    assert asked(launched, shape=2) == "fast"
    assert asked_for == ["switch", "question"] * 2


@pytest.mark.parametrize("changed", ["device", "capability", "triton", "torch"])
def test_holds_for_one_gpu_and_version(changed: str, launched: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(launched, measure=True) == "fast"
    another_process(monkeypatch)
    if changed == "device":
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda where: "Another GPU")
    elif changed == "capability":
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda where: (10, 0))
    elif changed == "triton":
        monkeypatch.setattr(tuning, "triton", SimpleNamespace(__version__="0", runtime=tuning.triton.runtime))
    else:
        monkeypatch.setattr(torch, "__version__", "0")
    assert asked(launched) == "slow"


BROKEN: dict[str, Callable[[dict[str, Any]], str]] = {
    "empty": lambda kept: "",
    "cut off": lambda kept: json.dumps(kept)[:-20],
    "no object": lambda kept: "[1]",
    "nested": lambda kept: "[" * 60000,
    "too long": lambda kept: json.dumps(kept) + " " * cache.MOST,
    "of another question": lambda kept: json.dumps({**kept, "question": {}}),
    "no such choice": lambda kept: json.dumps({**kept, "answer": "__import__('os')"}),
    "no text": lambda kept: json.dumps({**kept, "answer": ["fast"]}),
    "no UTF-8": lambda kept: "\udcff",
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_file_is_written_anew(how: str, launched: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked(launched, measure=True)
    (file,) = tmp_path.rglob("*.json")
    good = file.read_text()
    file.write_bytes(BROKEN[how](json.loads(good)).encode(errors="surrogateescape"))
    another_process(monkeypatch)
    assert asked(launched) == "slow"
    another_process(monkeypatch)
    assert asked(launched, measure=True) == "fast"
    assert file.read_text() == good
    assert list(file.parent.iterdir()) == [file]


def test_a_folder_that_cannot_be_written_to(launched: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Measured in every process, and nothing is left behind."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert asked(launched, measure=True) == "fast"
    another_process(monkeypatch)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError))
    assert asked(launched, measure=True) == "fast"
    assert [p for p in (tmp_path / "banscan").rglob("*") if p.is_file()] == []


def test_whose_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert cache.folder("kernels") == Path("/home/somebody/.cache/banscan/kernels")

    def nobody() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", nobody)
    assert cache.folder("kernels") is None
    assert cache.read("kernels", {}) is None
    cache.write("kernels", {}, "a", {})


def test_nothing_is_measured_while_a_graph_is_recorded(launched: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert asked(launched, measure=True) == "slow"
    assert launched == []
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    assert asked(launched, measure=True) == "fast"
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert asked(launched, measure=True) == "fast"


def test_nothing_has_room(launched: list[str], tmp_path: Path) -> None:
    def launch(choice: str) -> None:
        raise torch.OutOfMemoryError

    assert best("kernel", (), CHOICES, launch, GPU, measure=True) == "slow"
    assert list(tmp_path.rglob("*.json")) == []


@pytest.mark.gpu
def test_measured_on_a_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With real times: the work of a hundredth is chosen."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tuning, "_known", {})
    large, small = torch.randn(4096, 4096, device=GPU), torch.randn(64, 64, device=GPU)
    work = {"large": lambda: large @ large, "small": lambda: small @ small}
    assert best("product", (), tuple(work), lambda choice: work[choice](), GPU, measure=True) == "small"
    assert len(list(tmp_path.rglob("*.json"))) == 1


@pytest.mark.parametrize("channels", [1, 10, 16, 17, 64, 70, 128, 2048])
def test_tiles(channels: int) -> None:
    """Powers of two, none twice, and no wider than the channels; those that sum have the same rows."""
    kinds = {
        "mapped": mapped(channels),
        "summed": summed(channels),
        **{f"convolved, {dtype}": convolved(channels, dtype) for dtype in (torch.float32, torch.bfloat16)},
    }
    for kind, tiles in kinds.items():
        assert len(set(tiles)) == len({str(t) for t in tiles}) == len(tiles) > 1, kind
        for tile in tiles:
            assert tile.rows & (tile.rows - 1) == tile.wide & (tile.wide - 1) == 0, kind
            assert 16 <= tile.wide <= max(16, 2 * channels - 1), kind
            assert kind in ("mapped", "summed") or tile.rows % CHUNK == 0
    assert len({t.rows for t in kinds["summed"]}) == 1
    assert depth(channels, torch.bfloat16) <= 64
    assert 2 ** levels(summed(channels)[0].rows) == summed(channels)[0].rows
