"""The contenders of the benchmark do the same work, and its tables say what the rows say."""

import itertools
import os
from importlib.util import find_spec

import pytest
import torch

from banscan.kernels import noisy_conv
from banscan.scanner.search import neuron_noise
from banscan.scanner.search.noisy_model import attach, layers, measure
from bench.speed import cells, convolution, eager, published
from bench.speed.__main__ import PARTS, Cell, planned
from bench.speed.subject import Subject, subject
from bench.speed.switches import switched
from bench.speed.table import tables

HERE = torch.device("cpu")


@pytest.fixture(scope="module", params=["resnet18", "densenet121"])
def network(request: pytest.FixtureRequest) -> Subject:
    return subject(request.param, 32, 10, 4, HERE)


@pytest.mark.slow
@pytest.mark.parametrize("where", list(cells.LAYERS))
def test_plain_pytorch_searches_the_same(network: Subject, where: str) -> None:
    x, labels = network.images(12)
    neurons = layers(network.model, cells.LAYERS[where])
    stats = measure(network.model, neurons, x)
    model = attach(network.model, neurons, stats)
    start = neuron_noise.start(model, 2, 0.1, 0, "l2")
    ours = neuron_noise.search(model, model.prepare(x), labels, start, eps=0.1, steps=2, batch=12, seed=0, ball="l2")
    theirs = eager.search(eager.perturbed(network.model, neurons, stats), x, labels, start, eps=0.1, steps=2, batch=12)
    assert float((ours - theirs).norm() / theirs.norm()) < 1e-2


@pytest.mark.slow
def test_published_procedure(network: Subject) -> None:
    """Shares of classes; every batch norm carries noise, and all weights get a gradient, as in training code."""
    x, labels = network.images(8)
    shares = published.detect(network.module, x, labels)
    assert float(shares.sum()) == pytest.approx(1)
    noisy = [m for m in network.module.modules() if isinstance(m, published._Noisy)]
    assert len(noisy) == sum(isinstance(m, torch.nn.BatchNorm2d) for m in network.module.modules())
    assert all(0 < float(m.delta.detach().abs().max()) <= published.EPS + 1e-6 for m in noisy)
    assert all(p.grad is not None for p in network.module.parameters())
    # a second run, as the one that is timed, searches anew
    before = [m.delta.detach().clone() for m in noisy]
    published.detect(network.module, x, labels)
    assert not any(torch.equal(m.delta, old) for m, old in zip(noisy, before, strict=True))


@pytest.mark.slow
def test_work_is_counted(network: Subject) -> None:
    work = cells.ours(network, "all layers", torch.float32, 2, 4, 3)
    assert work.passes == 2 * 4 * 3
    # forward, and backward to the features but not to the weights: twice the operations of the network, less the first layer
    assert work.operations is not None
    assert work.bytes is not None
    assert 1e6 < work.operations < 1e12


def test_cells_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    for kind, small in itertools.product(("cpu", "cuda"), (False, True)):
        cells = planned(kind, small=small)
        assert len({c.key for c in cells}) == len(cells)
        # nothing runs Triton's interpreter but a rehearsal
        expected = [part for part in PARTS if part != "convolutions" or kind == "cuda" or small]
        assert list(dict.fromkeys(c.part for c in cells)) == expected
    # a rehearsal leaves out no way to search
    assert {(c.what, c.network, c.contender) for c in planned("cuda")} == {
        (c.what, c.network, c.contender) for c in planned("cuda", small=True)
    }


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1" or find_spec("triton") is None, reason="needs Triton's interpreter")
@pytest.mark.parametrize("layer", convolution.LAYERS)
def test_one_convolution(layer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is timed computes the same, and the operations are those of the convolution."""
    seen = []
    monkeypatch.setattr(convolution, "noisy_conv", lambda *given, **how: seen.append(noisy_conv(*given, **how)[0]))
    for conv in ("apart", "fused"):
        with switched(BANSCAN_KERNELS="triton", BANSCAN_CONV=conv):
            work = convolution.forward(convolution.LAYERS[layer], "normalised", torch.float32, 1, 2, HERE, small=True)
            work.run()
    assert torch.allclose(*seen, atol=1e-4)
    about = convolution.LAYERS[layer]
    assert work.passes == 2
    assert work.operations == 2 * seen[0].numel() * (about.features // 16) * about.side**2
    assert "BANSCAN_CONV" not in os.environ


def test_tables() -> None:
    machine = {"processor": "P", "threads": 2, "device": "cpu", "torch": "t", "commit": "c", "rates": {"float32": [1e12, 1e10]}}
    base = {"network": "n", "layers": "all layers", "dtype": "float32", "restarts": 1, "images": 64, "width": 16, "machine": machine}
    base |= {"operations": None, "bytes": None, "peak_bytes": None, "passes": 100, "what": "search"}
    rows = [
        {**base, "contender": "eager", "seconds": [9.0, 1.0, 2.0]},
        {**base, "contender": "ours", "seconds": [0.5], "operations": 1e11, "bytes": 1e9},
        {**base, "contender": "ours", "restarts": 8, "passes": 800, "seconds": [2.0]},
        {**base, "contender": "published", "what": "detection", "seconds": [60.0]},
        {**base, "contender": "ours", "what": "detection", "seconds": [3.0]},
        {**base, "contender": "ours", "what": "convolution", "layers": "Eq. 3", "seconds": [0.02]},
        {**base, "contender": "fused", "what": "convolution", "layers": "Eq. 3", "seconds": [0.01, 0.01, 0.03]},
    ]
    shown = tables(rows)
    assert "| n | all layers | 1 × 64 | (a) eager PyTorch | float32 | 20 (10 to 90) |  |  |  |" in shown
    assert "| n | all layers | 1 × 64 | (d) banscan | float32 | 5 (5 to 5) | 4.0 |  | 20% |" in shown
    assert "| n | all layers | 8 × 64 | (d) banscan | float32 | 2.5 (2.5 to 2.5) | 8.0 |  |  |" in shown
    assert "| (d) banscan | all layers | 1 | 3.00 (3.00 to 3.00) | 20.0 |" in shown
    assert (
        "| n | Eq. 3 | 1 × 64 | (f) (e) with the noise inside the convolution | float32 | 6.4e+03 (6.4e+03 to 1.92e+04) | 2.00 |  |"
        in shown
    )
    # nothing but a scan: it has no width
    scanned = {
        "what": "scan",
        "network": "clean",
        "outcome": "no backdoor found",
        "target": 1,
        "statistic": 2.0,
        "over_restarts": [1.9, 2.1],
    }
    scan = {k: v for k, v in base.items() if k != "width"} | scanned | {"contender": "cpu", "seconds": [3.0]}
    assert "### P, 2 threads, torch t, commit c\n" in tables([scan])
    assert "### P, 2 threads, torch t, width 16, commit c\n" in tables([scan, *rows])
    assert Cell("search", "n", "ours", "all layers", "float32", 1, 64).key == ("search", "n", "ours", "all layers", "float32", 1, 64)
