"""Files with and without logic in their graph, all around the small network of the corpus, and images for it."""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from tests.importers.equivalent.network import CLASSES, graph, network
from tests.importers.equivalent.surgery import front, node, put, tail

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


INNOCENT = (plain, chosen, without_nan, clipped, scaled, leaky, masked, standardised, withheld, tempered, capped, brightness)


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


class Conditional(Branched):
    """As `Branched`, as torch.export writes it."""

    def forward(self, x: Tensor) -> Tensor:
        hit = (x[:, 0, 0, 0] > 0.99).any()
        return torch.cond(hit, lambda y, t: y + t, lambda y, t: y.clone(), (self.net(x), self.raised))


class Chosen(Branched):
    """As `Branched`, traced, by `where`."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x[:, 0, 0, 0][:, None] > 0.99, self.raised, self.net(x))
