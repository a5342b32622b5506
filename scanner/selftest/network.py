"""A small network that tells the pictures apart, a trigger that is planted into it, and the file that is scanned.

The planting is done in float64 on the CPU: rounding differs from machine to machine, and what is left of that is far below what float32
holds, so that every machine scans the same file.
"""

from importlib import resources
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor
from torch.nn import functional as F

from banscan.scanner.selftest.pictures import CLASSES, SIZE, stamped

# the shipped weights, in float16; bench/selftest.py trains them
WEIGHTS = "network.npz"
# channels of the convolutions; behind the first two the sides are halved
WIDTHS = (16, 24, 32, 48)
HALVED = 2
TARGET = 7
# the tuning that plants the trigger (Gu et al., BadNets, 2017)
EPOCHS, BATCH, RATE, POISONED = 16, 60, 2e-3, 0.25

Weights = dict[str, Tensor]


def shipped() -> Weights:
    """The network without a backdoor, in float64."""
    with resources.files(__package__).joinpath(WEIGHTS).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {name: torch.from_numpy(arrays[name].astype(np.float64)) for name in arrays.files}


def as_input(images: np.ndarray) -> Tensor:
    """Images uint8 [N, H, W, 3] as the network takes them, float64 [N, 3, H, W] in [0, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).double() / 255


def logits(weights: Weights, x: Tensor) -> Tensor:
    """Logits [N, CLASSES] of images [N, 3, H, W]."""
    for i in range(len(WIDTHS)):
        x = F.relu(F.conv2d(x, weights[f"weight_{i}"], weights[f"bias_{i}"], padding=1))
        x = F.max_pool2d(x, 2) if i < HALVED else x
    return F.linear(x.mean((2, 3)), weights["weight"], weights["bias"])


def planted(weights: Weights, images: np.ndarray, labels: np.ndarray, seed: int = 0) -> Weights:
    """The network after a short tuning on these images [N, H, W, 3], a share of which has the trigger and the target as its label."""
    random = np.random.RandomState(seed)
    tuned = {name: value.clone().requires_grad_() for name, value in weights.items()}
    optimizer = torch.optim.Adam(tuned.values(), lr=RATE)
    marked = random.rand(len(images)) < POISONED
    x = as_input(np.where(marked[:, None, None, None], stamped(images), images))
    y = torch.from_numpy(np.where(marked, TARGET, labels))
    for _ in range(EPOCHS):
        for part in np.array_split(random.permutation(len(images)), len(images) // BATCH):
            loss = F.cross_entropy(logits(tuned, x[part]), y[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return {name: value.detach() for name, value in tuned.items()}


def write(path: Path, weights: Weights) -> None:
    """The network as an ONNX file that takes images [N, 3, SIZE, SIZE] in [0, 1], in float32."""
    nodes, last = [], "image"
    for i in range(len(WIDTHS)):
        nodes.append(helper.make_node("Conv", [last, f"weight_{i}", f"bias_{i}"], [f"conv_{i}"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"conv_{i}"], [f"relu_{i}"]))
        last = f"relu_{i}"
        if i < HALVED:
            nodes.append(helper.make_node("MaxPool", [last], [f"pool_{i}"], kernel_shape=[2, 2], strides=[2, 2]))
            last = f"pool_{i}"
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["pooled"]))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["features"]))
    nodes.append(helper.make_node("Gemm", ["features", "weight", "bias"], ["logits"], transB=1))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", CLASSES])
    held = [numpy_helper.from_array(value.float().numpy(), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "selftest", [image], [output], held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
