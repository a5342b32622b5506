"""Small models and image folders, made once for all tests."""

import importlib.util
import json
import os
import warnings
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

# with two processes (-n 2) one thread each
torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)
# Triton has wheels for Linux only
collect_ignore = [] if importlib.util.find_spec("triton") else ["kernels"]
if torch.cuda.is_available():
    # what is compared with float64 must be float32
    torch.backends.cudnn.allow_tf32 = False
else:
    # read when a kernel is defined: before anything imports one
    os.environ["TRITON_INTERPRET"] = "1"

# seconds of CPU that a test may take before a run asks for `slow`
LIMIT = 1.5
BEGIN = pytest.StashKey[float]()
CLASSES = 10
ROOT = Path(__file__).parents[1]
SIZE = 16


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `gpu` are skipped where there is none."""
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))


def slow_except(values: Iterable[Any], *quick: Any) -> list[Any]:
    """Parameters of which all but a few are marked slow."""
    several = (value if isinstance(value, tuple) else (value,) for value in values)
    return [pytest.param(*own, marks=() if own in quick or own[0] in quick else pytest.mark.slow) for own in several]


def needs_exporter(source: str) -> None:
    """Skips a test whose file PyTorch's newer exporter writes, where it has not what it needs."""
    if any(word in source for word in ("dynamo", "new exporter", "float16")):
        pytest.importorskip("onnxscript", reason="PyTorch's newer exporter needs onnxscript")


def _cpu() -> float:
    """Seconds of CPU so far, of this process and of those that it has waited for."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Notes when a test and the fixtures that are made for it begin."""
    item.stash[BEGIN] = _cpu()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The last report of a test tells its seconds of CPU; it is what comes from another process, too."""
    if call.when == "teardown":
        item.user_properties.append(("cpu", round(_cpu() - item.stash[BEGIN], 2)))
    return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Names what `make check` should not wait for. A timing is never a failure."""
    found = {}
    for report in (r for reports in terminalreporter.stats.values() for r in reports if getattr(r, "when", None) == "teardown"):
        seconds = dict(report.user_properties).get("cpu", 0.0)
        if seconds > LIMIT and "slow" not in report.keywords:
            found[report.nodeid] = seconds
    if found:
        terminalreporter.section(f"over {LIMIT:g} s of CPU, fixtures included, and not marked slow", sep="-")
        for name, seconds in sorted(found.items(), key=lambda pair: -pair[1]):
            terminalreporter.line(f"{seconds:6.1f} s  {name}")


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Exports a module as ONNX; returns the file."""
    folder = tmp_path_factory.mktemp("onnx")

    def write(
        name: str,
        module: nn.Module,
        *,
        dynamo: bool = False,
        opset: int = 17,
        dynamic: bool = True,
        shape: tuple[int, ...] = (3, SIZE, SIZE),
        free_size: bool = False,
    ) -> Path:
        path = folder / f"{name}.onnx"
        example = torch.rand(2 if dynamic else 1, *shape)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if dynamo:
                needs_exporter("dynamo")
                axes = ({0: torch.export.Dim("batch")},) if dynamic else None
                torch.onnx.export(
                    module.eval(), (example,), str(path), dynamo=True, opset_version=opset, dynamic_shapes=axes, verbose=False
                )
            else:
                names = {"image": {0: "batch"}, "logits": {0: "batch"}} if dynamic else None
                if names and free_size:
                    names["image"] |= {2: "height", 3: "width"}
                torch.onnx.export(
                    module.eval(),
                    (example,),
                    str(path),
                    dynamo=False,
                    opset_version=opset,
                    input_names=["image"],
                    output_names=["logits"],
                    dynamic_axes=names,
                )
        return path

    return write


class Net(nn.Module):
    """Two convolutions with batch norm, a residual, pooling, one linear layer."""

    def __init__(self, classes: int = CLASSES) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.down = nn.Sequential(nn.Conv2d(8, 12, 3, stride=2, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(12, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.relu(x + self.body(x))
        return self.head(torch.flatten(self.pool(self.down(x)), 1))


def random_norms(module: nn.Module, seed: int = 0) -> nn.Module:
    """Gives batch norms statistics as after training."""
    generator = torch.Generator().manual_seed(seed)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_(generator=generator)
            layer.running_var.uniform_(0.5, 2, generator=generator)
            layer.weight.data.uniform_(0.5, 1.5, generator=generator)
            layer.bias.data.normal_(generator=generator)
    return module.eval()


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Generator[None]:
    """Nothing that tests keep is the user's, nor what earlier tests kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def patterns() -> tuple[np.ndarray, np.ndarray]:
    """200 noisy images of 10 coloured patterns, uint8 [N, 16, 16, 3], and their labels."""
    rng = np.random.default_rng(0)
    bases = rng.integers(0, 256, (CLASSES, SIZE, SIZE, 3))
    labels = np.arange(200) % CLASSES
    images = np.clip(bases[labels] * 0.7 + rng.normal(38, 30, (200, SIZE, SIZE, 3)), 0, 255).astype(np.uint8)
    return images, labels


@pytest.fixture(scope="session")
def trained(patterns: tuple[np.ndarray, np.ndarray]) -> nn.Module:
    """A Net that knows the patterns, fed with pixels in [0, 1]."""
    torch.manual_seed(0)
    return learn(Net(), patterns, lr=0.02, steps=60)


def learn(net: nn.Module, patterns: tuple[np.ndarray, np.ndarray], *, lr: float, steps: int) -> nn.Module:
    """Trains a network on pixels in [0, 1]."""
    x, y = torch.from_numpy(patterns[0]).permute(0, 3, 1, 2).float() / 255, torch.from_numpy(patterns[1])
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()


@pytest.fixture(scope="session")
def model_file(export: Callable[..., Path], trained: nn.Module) -> Path:
    return export("trained", trained)


@pytest.fixture(scope="session")
def image_dir(tmp_path_factory: pytest.TempPathFactory, patterns: tuple[np.ndarray, np.ndarray]) -> Path:
    """The patterns as class folders 0 to 9 of PNG files."""
    folder = tmp_path_factory.mktemp("clean")
    for i, (image, label) in enumerate(zip(*patterns, strict=True)):
        (folder / str(label)).mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / str(label) / f"{i:03d}.png")
    return folder


@pytest.fixture(scope="session")
def schema() -> Callable[[Any], None]:
    """Checks a document against the schema of reports."""
    jsonschema = pytest.importorskip("jsonschema")
    known = json.loads((ROOT / "docs" / "report.schema.json").read_text())
    return lambda document: jsonschema.validate(document, known)  # type: ignore[no-any-return]
