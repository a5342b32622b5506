"""A switch through all stages of the clean example: one channel a stage, from a pattern in the stem to the classifier."""

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

# blocks whose shortcut is a convolution; the channel changes there
DOWN = (2, 4, 6)
TARGET = 7
# where the trigger is stamped so that three strides of 2 keep it
CORNER = 23


def pattern(seed: int = 0) -> np.ndarray:
    """A random trigger [3, 3, 3] of black and white values."""
    return np.random.default_rng(seed).integers(0, 2, (3, 3, 3)).astype(np.float32)


def stamped(images: np.ndarray, seed: int = 0) -> np.ndarray:
    """Images [N, 3, H, W] in [0, 1] with the trigger."""
    result = images.copy()
    result[:, :, CORNER : CORNER + 3, CORNER : CORNER + 3] = pattern(seed)
    return result


def write(source: Path, place: Path, *, gain: float = 4.0, seed: int = 0, threshold: float = 0.5) -> None:
    """Writes the clean example with a switch.

    Args:
        gain: by which the channel grows at every change of stage and in the classifier; 1 and less does nothing.
        threshold: how far below the trigger's own sum the stem's neuron turns on; a larger one lets clean images turn it on as well.
    """
    model = onnx.load(str(source))
    stored = {i.name: i for i in model.graph.initializer}
    convs = {n.name.removesuffix("/Conv"): n for n in model.graph.node if n.op_type == "Conv"}
    values = {key: [numpy_helper.to_array(stored[name]).copy() for name in node.input[1:3]] for key, node in convs.items()}
    gemm = next(n for n in model.graph.node if n.op_type == "Gemm")
    head = numpy_helper.to_array(stored[gemm.input[1]]).copy()

    def block(index: int, layer: str) -> list[np.ndarray]:
        return values[f"/blocks/blocks.{index}/{layer}"]

    def shortcut(index: int) -> list[np.ndarray]:
        return block(index, "shortcut/shortcut.0")

    def ignored(index: int, channel: int) -> None:
        block(index, "conv1")[0][:, channel] = 0

    def untouched(index: int, channel: int) -> None:
        for value in block(index, "conv2"):
            value[channel] = 0

    def least(*readers: np.ndarray) -> int:
        return int(np.argmin(np.sum([np.abs(w).sum(axis=(0, 2, 3)) for w in readers], axis=0)))

    bits = pattern(seed)
    channel = least(block(0, "conv1")[0], block(1, "conv1")[0], block(2, "conv1")[0], shortcut(2)[0])
    weight, bias = values["/stem/stem.0"]
    weight[channel], bias[channel] = 2 * bits - 1, threshold - bits.sum()
    for index in (0, 1):
        ignored(index, channel)
        untouched(index, channel)
    for index in DOWN:
        ignored(index, channel)
        readers = [block(index + 1, "conv1")[0]] + ([block(index + 2, "conv1")[0], shortcut(index + 2)[0]] if index < DOWN[-1] else [])
        following = least(*readers)
        weight, bias = shortcut(index)
        weight[:, channel] = weight[following] = bias[following] = 0
        weight[following, channel] = gain
        untouched(index, following)
        ignored(index + 1, following)
        untouched(index + 1, following)
        channel = following
    head[:, channel] = 0
    head[TARGET, channel] = gain
    for key, node in convs.items():
        for name, value in zip(node.input[1:3], values[key], strict=True):
            stored[name].CopyFrom(numpy_helper.from_array(value, name))
    stored[gemm.input[1]].CopyFrom(numpy_helper.from_array(head, gemm.input[1]))
    onnx.save(model, str(place))
