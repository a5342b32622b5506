"""The one function that every form of the corpus computes: a small residual classifier, as an ONNX graph and as a torch module."""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

CLASSES, CHANNELS, FEATURES, SIZE = 7, 3, 12, 16
# neuron layers, the classifier's among them
LAYERS = 5


class Network(nn.Module):
    """Images [N, 3, 16, 16] → logits [N, 7]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(CHANNELS, 8, 3, 1, 1)
        self.first, self.second = nn.Conv2d(8, FEATURES, 3, 2, 1), nn.Conv2d(FEATURES, FEATURES, 3, 1, 1)
        self.shortcut = nn.Conv2d(8, FEATURES, 1, 2)
        self.head = nn.Linear(FEATURES, CLASSES)

    def features(self, x: Tensor) -> Tensor:
        """Images [N, 3, 16, 16] → penultimate features [N, 12]."""
        x = torch.relu(self.stem(x))
        x = torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))
        return x.mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def network() -> Network:
    """With weights drawn by a seed; the logits spread over several units, so that a softmax is neither flat nor sure."""
    generator = torch.Generator().manual_seed(3)
    module = Network()
    with torch.no_grad():
        for parameter in module.parameters():
            fan = parameter[0].numel() if parameter.dim() > 1 else 40
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * (2 / fan) ** 0.5)
        module.head.weight.mul_(2)
    return module.eval().requires_grad_(False)


def graph() -> onnx.ModelProto:
    """The network as torch's exporter writes it: input "image", output "logits", opset 17, free batch."""
    module = network()
    weights = {name: value.numpy() for name, value in module.state_dict().items()}

    def conv(name: str, source: str, target: str, stride: int, pad: int) -> onnx.NodeProto:
        kernel = list(weights[f"{name}.weight"].shape[2:])
        return helper.make_node(
            "Conv", [source, f"{name}.weight", f"{name}.bias"], [target], name, kernel_shape=kernel, strides=[stride] * 2, pads=[pad] * 4
        )

    nodes = [
        conv("stem", "image", "stem", 1, 1),
        helper.make_node("Relu", ["stem"], ["a"], "relu_0"),
        conv("first", "a", "first", 2, 1),
        helper.make_node("Relu", ["first"], ["b"], "relu_1"),
        conv("second", "b", "second", 1, 1),
        conv("shortcut", "a", "shortcut", 2, 0),
        helper.make_node("Add", ["second", "shortcut"], ["sum"], "add"),
        helper.make_node("Relu", ["sum"], ["map"], "relu_2"),
        helper.make_node("GlobalAveragePool", ["map"], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["features"], "flatten", axis=1),
        helper.make_node("Gemm", ["features", "head.weight", "head.bias"], ["logits"], "head", transB=1),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", CHANNELS, SIZE, SIZE])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])
    tensors = [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in weights.items()]
    return helper.make_model(
        helper.make_graph(nodes, "main", [image], [logits], tensors), ir_version=8, opset_imports=[helper.make_opsetid("", 17)]
    )


def pictures(count: int = 6) -> np.ndarray:
    """uint8 [N, 16, 16, 3]."""
    return np.random.default_rng(0).integers(0, 256, (count, SIZE, SIZE, CHANNELS), dtype=np.uint8)
