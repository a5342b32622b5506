"""ONNX import against onnxruntime: logits, normal form, neurons, feature layer."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.nn import functional as F

from banscan import importers
from banscan.errors import EvidenceError, ModelError
from tests.conftest import CLASSES, SIZE, Net, random_norms, slow_except
from tests.importers.equivalent.network import graph
from tests.importers.equivalent.surgery import before_head, declare, node, put


class Depthwise(nn.Module):
    """Separable convolutions, ReLU6, mean pooling, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, 2, 1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU6(),
            nn.Conv2d(8, 8, 3, 1, 1, groups=8),
            nn.BatchNorm2d(8),
            nn.Conv2d(8, 12, 1),
            nn.Hardswish(),
        )
        self.head = nn.Sequential(nn.Dropout(), nn.Linear(12, CLASSES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x).mean((2, 3)))


class Dense(nn.Module):
    """Concatenation and a batch norm in front of the convolution, which cannot be folded."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.grow, self.last = nn.Conv2d(8, 4, 3, padding=1, bias=False), nn.BatchNorm2d(12)
        self.head = nn.Linear(12, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.cat((x, self.grow(torch.relu(self.norm(x)))), 1)
        return self.head(F.adaptive_avg_pool2d(torch.relu(self.last(x)), 1).flatten(1))


class Vgg(nn.Module):
    """Max pooling and a classifier of two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.classifier = nn.Sequential(nn.Linear(8 * 16, 20), nn.ReLU(), nn.Linear(20, CLASSES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.features(x).flatten(1))


class Squeeze(nn.Module):
    """A 1x1 convolution as classifier, with the pooling behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU()), nn.Conv2d(8, CLASSES, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.adaptive_avg_pool2d(torch.relu(self.head(self.body(x))), 1).flatten(1)


class Tokens(nn.Module):
    """A small attention network on patches, with sizes computed from the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.norm = nn.Conv2d(3, 16, 4, 4), nn.LayerNorm(16)
        self.qkv, self.out, self.head = nn.Linear(16, 48), nn.Linear(16, 16), nn.Linear(16, CLASSES)
        self.token = nn.Parameter(torch.randn(1, 1, 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), 1)
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, n, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        a = (q @ k.transpose(-2, -1) / 8**0.5).softmax(-1) @ v
        return self.head((x + self.out(a.transpose(1, 2).reshape(b, n, c)))[:, 0])


class Branches(nn.Module):
    """Two heads on the same features, joined."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.left, self.right = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), nn.Linear(8, 4), nn.Linear(8, CLASSES - 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body(x).mean((2, 3))
        return torch.cat((self.left(x), self.right(x)), 1)


class Probabilities(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = Net()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x).softmax(1)


# architecture → (layers of neurons, classifier layers, features shape without batch, shape of the map or tokens before pooling)
ARCHITECTURES: dict[str, tuple[Callable[[], nn.Module], int, int, tuple[int, ...], tuple[int, ...] | None]] = {
    "residual": (Net, 4, 1, (12,), (12, 8, 8)),
    "depthwise": (Depthwise, 4, 1, (12,), (12, 8, 8)),
    "dense": (Dense, 5, 1, (12,), (12, 16, 16)),
    "vgg": (Vgg, 4, 1, (20,), (8, 4, 4)),
    "squeeze": (Squeeze, 2, 1, (8, 7, 7), (8, 7, 7)),
    "tokens": (Tokens, 4, 1, (16,), (17, 16)),
    "branches": (Branches, 3, 2, (8,), (8, 14, 14)),
    "probabilities": (Probabilities, 4, 1, (12,), (12, 8, 8)),
}


def onnxruntime_logits(path: Path, x: torch.Tensor) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("exporter", slow_except(["legacy-11", "legacy-17", "dynamo-18", "dynamo-20"], "legacy-17"))
def test_import_matches_onnxruntime(export: Callable[..., Path], name: str, exporter: str) -> None:
    build, layers, heads, features, spatial = ARCHITECTURES[name]
    kind, opset = exporter.split("-")
    torch.manual_seed(1)
    module = random_norms(build())
    path = export(f"{name}-{exporter}", module, dynamo=kind == "dynamo", opset=int(opset))
    model = importers.load(path)
    x = torch.rand(5, 3, SIZE, SIZE)
    parity = importers.parity(model, x)
    assert parity.rms < 1e-5
    assert parity.images == 5
    with torch.no_grad():
        expected = module.net(x) if name == "probabilities" else module(x)
        assert torch.allclose(model.logits(x), expected, atol=1e-4)
    assert model.stripped == (("Softmax",) if name == "probabilities" else ())
    assert len(model.neurons) == layers
    assert len(model.classifier) == heads
    trunk, head = model.split(model.features)
    value = trunk(x)
    assert value.shape[1:] == features
    assert torch.allclose(head(value), model.logits(x), atol=1e-5)
    if spatial is not None:
        assert model.spatial is not None
        assert model.split(model.spatial)[0](x).shape[1:] == spatial


def test_gradients_match_torch(export: Callable[..., Path]) -> None:
    torch.manual_seed(0)
    module = random_norms(Net())
    model = importers.load(export("gradients", module))
    x = torch.rand(4, 3, SIZE, SIZE)
    ours, theirs = x.clone().requires_grad_(), x.double().clone().requires_grad_()
    model.logits(ours).sin().sum().backward()
    module.double()(theirs).sin().sum().backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    assert float((ours.grad - theirs.grad).norm() / theirs.grad.norm()) < 1e-5


@pytest.mark.slow
def test_folded_and_unfolded_batch_norm_are_one_model(export: Callable[..., Path]) -> None:
    """The new exporter keeps BatchNormalization, the old one folds it; the normal form does not tell them apart."""
    module = random_norms(Net())
    one, other = (importers.load(export(f"fold-{d}", module, dynamo=d, opset=18 if d else 17)) for d in (False, True))
    assert [n.channels for n in one.neurons] == [n.channels for n in other.neurons]
    assert [n.act for n in one.neurons] == [n.act for n in other.neurons]


def test_fixed_batch_becomes_free(export: Callable[..., Path]) -> None:
    module = random_norms(Net())
    path = export("fixed", module, dynamic=False)
    model = importers.load(path)
    assert model.source.batch == 1
    x = torch.rand(7, 3, SIZE, SIZE)
    assert model.logits(x).shape == (7, CLASSES)
    assert importers.parity(model, x).rms < 1e-5


def test_a_fixed_batch_that_would_mix_images(tmp_path: Path) -> None:
    """One image has the same order of values whichever axis is first; of several, a value of each would follow the other."""
    model = graph()
    declare(model, "input", ("image", TensorProto.FLOAT, (1, 3, SIZE, SIZE)))
    put(model, all=[-1], row=[1, -1])
    steps = (
        node("Transpose", ["features"], ["t"], perm=[1, 0]),
        node("Reshape", ["t", "all"], ["flat"]),
        node("Reshape", ["flat", "row"], ["r"]),
    )
    onnx.save(before_head(model, *steps), tmp_path / "mixed.onnx")
    with pytest.raises(ModelError, match=r"operator Reshape \(flat\): it puts the values of several images between each other"):
        importers.load(tmp_path / "mixed.onnx")


def test_nhwc(tmp_path: Path) -> None:
    """As TensorFlow writes it: NHWC input, Transpose, Conv with SAME padding, separate bias, MatMul classifier."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(size=(8, 3, 3, 3)),
        "b": rng.normal(size=(1, 8, 1, 1)),
        "m": rng.normal(size=(8, CLASSES)),
        "c": rng.normal(size=(CLASSES,)),
    }
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w"], ["z"], auto_pad="SAME_UPPER", strides=[2, 2], kernel_shape=[3, 3]),
        helper.make_node("Add", ["z", "b"], ["zb"]),
        helper.make_node("Relu", ["zb"], ["r"]),
        helper.make_node("ReduceMean", ["r"], ["p"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["p", "m"], ["y0"]),
        helper.make_node("Add", ["y0", "c"], ["y"]),
    ]
    path = write(tmp_path / "nhwc.onnx", nodes, weights, ["n", 15, 16, 3], ["n", CLASSES])
    model = importers.load(path)
    assert (model.input.layout, model.input.height, model.input.width) == ("NHWC", 15, 16)
    assert [n.act for n in model.neurons] == ["relu", None]
    x = torch.rand(3, 15, 16, 3)
    assert np.allclose(model.logits(x).numpy(), onnxruntime_logits(path, x), atol=1e-4)


@pytest.mark.parametrize("height", [8, 9])
def test_branches_on_a_shape(tmp_path: Path, height: int) -> None:
    """Both branches call their tensors alike, one has a weight of its own, both read the graph around them."""

    def branch(nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray]) -> onnx.GraphProto:
        initializers = [onnx.numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()]
        return helper.make_graph(nodes, "b", [], [helper.make_tensor_value_info("t", TensorProto.FLOAT, None)], initializers)

    rng = np.random.default_rng(0)
    square = branch(
        [helper.make_node("Mul", ["x", "k"], ["u"]), helper.make_node("Sigmoid", ["u"], ["t"])], {"k": rng.normal(size=(3, 1, 1))}
    )
    other = branch([helper.make_node("Neg", ["x"], ["u"]), helper.make_node("Tanh", ["u"], ["t"])], {})
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "two"], ["h"], axis=0),
        helper.make_node("Equal", ["h", "eight"], ["q"]),
        helper.make_node("If", ["q"], ["z"], then_branch=square, else_branch=other),
        helper.make_node("GlobalAveragePool", ["z"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["y"]),
    ]
    path = write(tmp_path / "if.onnx", nodes, {"w": rng.normal(size=(3, CLASSES))}, ["n", 3, height, 8], ["n", CLASSES])
    model = onnx.load(path)
    for name, value in (("two", 2), ("eight", 8)):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([value], np.int64), name))
    onnx.save(model, path)
    x = torch.rand(3, 3, height, 8)
    assert np.allclose(importers.load(path).logits(x).numpy(), onnxruntime_logits(path, x), atol=1e-5)


def test_a_file_that_its_runtime_cannot_run(tmp_path: Path) -> None:
    """Read here, unknown there: no verdict can be built on it."""
    nodes = [
        helper.make_node("Cast", ["x"], ["b"], to=TensorProto.BFLOAT16),
        helper.make_node("Sigmoid", ["b"], ["c"]),
        helper.make_node("Cast", ["c"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["f"], ["g"]),
        helper.make_node("Gemm", ["g", "m"], ["y"]),
    ]
    path = write(tmp_path / "mixed.onnx", nodes, {"m": np.ones((192, CLASSES))}, ["n", 3, 8, 8], ["n", CLASSES])
    with pytest.raises(EvidenceError, match="cannot be checked"):
        importers.parity(importers.load(path), torch.rand(2, 3, 8, 8))


def write(
    path: Path, nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], shape: list[int | str], out: list[int | str], opset: int = 13
) -> Path:
    initializers = [onnx.numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in weights.items()]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        initializers,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), path)
    return path


@pytest.mark.parametrize(("ratio", "training", "reads"), [(0.5, True, False), (None, True, False), (0.0, True, True), (0.5, False, True)])
def test_dropout_in_training_mode_is_refused(model_file: Path, tmp_path: Path, ratio: float | None, training: bool, *, reads: bool) -> None:
    """onnxruntime draws random numbers there, of constants above all: a weight may hide in what is dropped."""
    model = onnx.load(model_file)
    weight = model.graph.initializer[0].name
    for reader in model.graph.node:
        reader.input[:] = ["dropped" if name == weight else name for name in reader.input]
    known = [numpy_helper.from_array(np.array(training), "training")]
    known += [] if ratio is None else [numpy_helper.from_array(np.array(ratio, np.float32), "ratio")]
    model.graph.initializer.extend(known)
    model.graph.node.insert(0, helper.make_node("Dropout", [weight, "" if ratio is None else "ratio", "training"], ["dropped"]))
    onnx.save(model, tmp_path / "dropped.onnx")
    if reads:
        assert importers.parity(importers.load(tmp_path / "dropped.onnx"), torch.rand(3, 3, SIZE, SIZE)).rms < 1e-5
    else:
        with pytest.raises(ModelError, match="training mode"):
            importers.load(tmp_path / "dropped.onnx")
