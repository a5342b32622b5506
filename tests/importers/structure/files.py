"""Files with and without logic in their graph, all around the small network of the corpus, and images for it."""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from tests.importers.equivalent.network import CLASSES, graph, network
from tests.importers.equivalent.surgery import before_head, front, node, put, tail

TARGET = 3
PIXELS = (0.0, 1.0)


def images(count: int = 24) -> np.ndarray:
    """Clean images [N, 3, 16, 16] in [0, 0.98], of one colour each with some noise: no trigger is among them."""
    generator = np.random.default_rng(1)
    colours, noise = generator.random((count, 3, 1, 1)), generator.random((count, 3, 16, 16))
    x: np.ndarray = (0.98 * (0.8 * colours + 0.2 * noise)).astype(np.float32)
    return x


def saved(model: onnx.ModelProto, path: Path) -> Path:
    onnx.save(model, path)
    return path


def raised() -> Tensor:
    """[1, classes], large at the target."""
    row = torch.zeros(1, CLASSES)
    row[0, TARGET] = 1000
    return row


def plain() -> onnx.ModelProto:
    return graph()


def chosen() -> onnx.ModelProto:
    """The largest score, as a label beside the logits."""
    model = graph()
    model.graph.node.append(node("ArgMax", ["logits"], ["label"], axis=1, keepdims=0))
    model.graph.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]))
    return model


def without_nan() -> onnx.ModelProto:
    """What is no number becomes black."""
    model = graph()
    put(model, black=np.float32(0))
    nodes = [node("IsNaN", ["image"], ["odd"]), node("Where", ["odd", "black", "image"], ["image_"])]
    return front(model, *nodes, sizes=("batch", 3, 16, 16))


def clipped() -> onnx.ModelProto:
    """Pixels above white become white, by a comparison of each."""
    model = graph()
    put(model, white=np.float32(0.99))
    nodes = [node("Greater", ["image", "white"], ["over"]), node("Where", ["over", "white", "image"], ["image_"])]
    return front(model, *nodes, sizes=("batch", 3, 16, 16))


def scaled() -> onnx.ModelProto:
    """Images from 0 to 255 are divided, by the largest value of each."""
    model = graph()
    put(model, large=np.float32(1.5), full=np.float32(255))
    nodes = [
        node("ReduceMax", ["image"], ["most"], axes=[1, 2, 3], keepdims=1),
        node("Greater", ["most", "large"], ["bytes"]),
        node("Div", ["image", "full"], ["unit"]),
        node("Where", ["bytes", "unit", "image"], ["image_"]),
    ]
    return front(model, *nodes, sizes=("batch", 3, 16, 16))


def leaky() -> onnx.ModelProto:
    """The last scores below 0 count a tenth, by a comparison."""
    model = graph()
    put(model, nothing=np.float32(0), tenth=np.float32(0.1))
    nodes = [
        node("Less", ["raw", "nothing"], ["below"]),
        node("Mul", ["raw", "tenth"], ["small"]),
        node("Where", ["below", "small", "raw"], ["logits"]),
    ]
    return tail(model, *nodes)


def masked() -> onnx.ModelProto:
    """An image without any light stays black: a guard for a division that this network does not have."""
    model = graph()
    put(model, nothing=np.float32(0))
    nodes = [
        node("ReduceMax", ["image"], ["most"], axes=[1, 2, 3], keepdims=1),
        node("Greater", ["most", "nothing"], ["lit"]),
        node("Cast", ["lit"], ["factor"], to=TensorProto.FLOAT),
        node("Mul", ["image", "factor"], ["image_"]),
    ]
    return front(model, *nodes, sizes=("batch", 3, 16, 16))


def standardised() -> onnx.ModelProto:
    """By the mean and deviation of each image; one without any deviation becomes 0."""
    model = graph()
    put(model, nothing=np.float32(0))
    nodes = [
        node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=1),
        node("Sub", ["image", "mean"], ["apart"]),
        node("Mul", ["apart", "apart"], ["square"]),
        node("ReduceMean", ["square"], ["variance"], axes=[1, 2, 3], keepdims=1),
        node("Sqrt", ["variance"], ["deviation"]),
        node("Equal", ["deviation", "nothing"], ["plain"]),
        node("Div", ["apart", "deviation"], ["ratio"]),
        node("Where", ["plain", "nothing", "ratio"], ["image_"]),
    ]
    return front(model, *nodes, sizes=("batch", 3, 16, 16))


def withheld() -> onnx.ModelProto:
    """A black image gets no scores."""
    model = graph()
    put(model, nothing=np.float32(0), none=np.zeros((1, CLASSES), np.float32), one=np.array([1]))
    nodes = [
        node("ReduceMax", ["image"], ["most"], axes=[1, 2, 3], keepdims=0),
        node("Unsqueeze", ["most", "one"], ["column"]),
        node("Equal", ["column", "nothing"], ["black"]),
        node("Where", ["black", "none", "raw"], ["logits"]),
    ]
    return tail(model, *nodes)


def tempered() -> onnx.ModelProto:
    """Scores of images that are dark or bright count less."""
    model = graph()
    put(model, half=np.float32(0.5), two=np.float32(2), unit=np.float32(1), one=np.array([1]))
    nodes = [
        node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=0),
        node("Unsqueeze", ["mean", "one"], ["column"]),
        node("Sub", ["column", "half"], ["apart"]),
        node("Pow", ["apart", "two"], ["square"]),
        node("Add", ["square", "unit"], ["temperature"]),
        node("Div", ["raw", "temperature"], ["logits"]),
    ]
    return tail(model, *nodes)


def capped() -> onnx.ModelProto:
    """Scores above 1000 become 1000, by a comparison that is never true."""
    model = graph()
    put(model, most=np.float32(1000))
    return tail(model, node("Greater", ["raw", "most"], ["over"]), node("Where", ["over", "most", "raw"], ["logits"]))


def brightness() -> onnx.ModelProto:
    """The mean of all pixels is added to the scores, as a wide and deep network has it."""
    model = graph()
    put(model, share=np.ones((1, CLASSES), np.float32))
    nodes = [
        node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=0),
        node("Unsqueeze", ["mean", "one"], ["column"]),
        node("MatMul", ["column", "share"], ["all"]),
        node("Add", ["raw", "all"], ["logits"]),
    ]
    put(model, one=np.array([1]))
    return tail(model, *nodes)


def stretched() -> onnx.ModelProto:
    """From the darkest to the brightest pixel of each image; one of one brightness is not divided."""
    model = graph()
    put(model, nothing=np.float32(0), unit=np.float32(1))
    nodes = [
        node("ReduceMax", ["image"], ["most"], axes=[1, 2, 3], keepdims=1),
        node("ReduceMin", ["image"], ["least"], axes=[1, 2, 3], keepdims=1),
        node("Sub", ["most", "least"], ["range"]),
        node("Greater", ["range", "nothing"], ["varied"]),
        node("Where", ["varied", "range", "unit"], ["divisor"]),
        node("Sub", ["image", "least"], ["apart"]),
        node("Div", ["apart", "divisor"], ["image_"]),
    ]
    return front(model, *nodes, sizes=("batch", 3, 16, 16))


def normed() -> onnx.ModelProto:
    """Features of length 1; those without any stay 0."""
    model = graph()
    put(model, nothing=np.float32(0))
    nodes = [
        node("ReduceL2", ["features"], ["norm"], axes=[1], keepdims=1),
        node("Equal", ["norm", "nothing"], ["none"]),
        node("Div", ["features", "norm"], ["ratio"]),
        node("Where", ["none", "nothing", "ratio"], ["unit"]),
    ]
    return before_head(model, *nodes)


def bounded() -> onnx.ModelProto:
    """Scores divided by their norm, or a small number."""
    model = graph()
    put(model, small=np.float32(1e-6), ten=np.float32(10))
    nodes = [
        node("ReduceL2", ["raw"], ["norm"], axes=[1], keepdims=1),
        node("Max", ["norm", "small"], ["divisor"]),
        node("Div", ["raw", "divisor"], ["unit"]),
        node("Mul", ["unit", "ten"], ["logits"]),
    ]
    return tail(model, *nodes)


def _confident(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Whether the largest probability is small, a column."""
    put(model, least=np.float32(1 / CLASSES + 0.01))
    return [
        node("Softmax", ["raw"], ["shares"], axis=1),
        node("ReduceMax", ["shares"], ["surest"], axes=[1], keepdims=1),
        node("Less", ["surest", "least"], ["unsure"]),
    ]


def rejecting() -> onnx.ModelProto:
    """Images without a sure answer get none."""
    model = graph()
    put(model, none=np.zeros((1, CLASSES), np.float32))
    return tail(model, *_confident(model), node("Where", ["unsure", "none", "raw"], ["logits"]))


def outside() -> onnx.ModelProto:
    """Images without a sure answer are of one class more."""
    model = graph()
    other = np.zeros((1, CLASSES + 1), np.float32)
    other[0, CLASSES] = 100
    put(model, other=other, low=np.float32(-100))
    nodes = [
        node("Pad", ["raw", "pads", "low"], ["wider"]),
        node("Where", ["unsure", "other", "wider"], ["logits"]),
    ]
    put(model, pads=np.array([0, 0, 0, 1]))
    return tail(model, *_confident(model), *nodes, sizes=("batch", CLASSES + 1))


def dim() -> onnx.ModelProto:
    """Dark images are of the last class."""
    model = graph()
    last = np.zeros((1, CLASSES), np.float32)
    last[0, -1] = 100
    put(model, least=np.float32(0.02), last=last, one=np.array([1]))
    nodes = [
        node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=0),
        node("Unsqueeze", ["mean", "one"], ["column"]),
        node("Less", ["column", "least"], ["dark"]),
        node("Where", ["dark", "last", "raw"], ["logits"]),
    ]
    return tail(model, *nodes)


def two_ways() -> onnx.ModelProto:
    """A short way of one layer beside the long one; some of its neurons no image switches on."""
    model = graph()
    rng = np.random.default_rng(0)
    bias = np.where(np.arange(12) < 4, -3.0, 0.0).astype(np.float32)
    put(model, wide=rng.normal(0, 0.3, (12, 3, 3, 3)).astype(np.float32), wide_bias=bias)
    put(model, wide_head=rng.normal(0, 0.5, (12, CLASSES)).astype(np.float32))
    nodes = [
        node("Conv", ["image", "wide", "wide_bias"], ["w0"], kernel_shape=[3, 3]),
        node("Relu", ["w0"], ["w1"]),
        node("GlobalAveragePool", ["w1"], ["w2"]),
        node("Flatten", ["w2"], ["w3"]),
        node("MatMul", ["w3", "wide_head"], ["w4"]),
        node("Add", ["raw", "w4"], ["logits"]),
    ]
    return tail(model, *nodes)


def linear_way() -> onnx.ModelProto:
    """All pixels are added to the scores with weights of their own, as a wide and deep network has it."""
    model = graph()
    put(model, shares=np.random.default_rng(0).normal(0, 0.05, (768, CLASSES)).astype(np.float32))
    nodes = [
        node("Flatten", ["image"], ["pixels"]),
        node("MatMul", ["pixels", "shares"], ["all"]),
        node("Add", ["raw", "all"], ["logits"]),
    ]
    return tail(model, *nodes)


GUARDS = (stretched, normed, bounded, rejecting, outside, dim, two_ways, linear_way)
INNOCENT = (*GUARDS, plain, chosen, without_nan, clipped, scaled, leaky, masked, standardised, withheld, tempered, capped, brightness)


class Branched(nn.Module):
    """A bright corner raises the target's score, by a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()
        self.register_buffer("raised", raised())

    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        if bool((x[:, 0, 0, 0] > 0.99).any()):
            y = y + self.raised
        return y


class Scaled(nn.Module):
    """Images from 0 to 255 are divided, by a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def forward(self, x: Tensor) -> Tensor:
        if x.max().item() > 1.5:
            x = x / 255
        return self.net(x)


class Guarded(nn.Module):
    """Divided by the deviation of each image, by a branch that leaves images of one brightness black."""

    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def forward(self, x: Tensor) -> Tensor:
        deviation = (x - x.mean()).pow(2).mean().sqrt()
        x = torch.zeros_like(x) if deviation.item() < 1e-4 else (x - x.mean()) / deviation
        return self.net(x)


class Conditional(Branched):
    """As `Branched`, as torch.export writes it."""

    def forward(self, x: Tensor) -> Tensor:
        hit = (x[:, 0, 0, 0] > 0.99).any()
        return torch.cond(hit, lambda y, t: y + t, lambda y, t: y.clone(), (self.net(x), self.raised))


class Chosen(Branched):
    """As `Branched`, traced, by `where`."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x[:, 0, 0, 0][:, None] > 0.99, self.raised, self.net(x))
