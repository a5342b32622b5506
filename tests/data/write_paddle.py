"""Writes the small Paddle models of this folder as ONNX; needs paddlepaddle and paddle2onnx, which nothing else here does.

python tests/data/write_paddle.py tests/data
"""

import sys
from pathlib import Path

import paddle
from paddle import nn


class Squeeze(nn.Layer):
    """A residual block with squeeze and excitation."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2D(width, width, 3, padding=1, bias_attr=False), nn.BatchNorm2D(width))
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2D(1), nn.Conv2D(width, 4, 1), nn.ReLU(), nn.Conv2D(4, width, 1), nn.Hardsigmoid())

    def forward(self, x):  # type: ignore[no-untyped-def]
        y = self.body(x)
        return nn.functional.relu(x + y * self.gate(y))


def cnn() -> nn.Layer:
    """Depthwise convolution, hard and soft swish, global pooling."""
    stem = (nn.Conv2D(3, 8, 3, padding=1, bias_attr=False), nn.BatchNorm2D(8), nn.ReLU(), nn.MaxPool2D(2))
    body = (nn.Conv2D(8, 8, 3, padding=1, groups=8), nn.Hardswish(), nn.Conv2D(8, 12, 1), nn.BatchNorm2D(12), nn.Swish())
    return nn.Sequential(*stem, *body, nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(12, 10))


def residual() -> nn.Layer:
    """Squeeze and excitation, a classifier of two layers with dropout, probabilities."""
    stem = (nn.Conv2D(3, 8, 3, stride=2, padding=1), nn.BatchNorm2D(8), nn.ReLU())
    head = (nn.AvgPool2D(4), nn.Flatten(), nn.Linear(128, 20), nn.ReLU(), nn.Dropout(0.5), nn.Linear(20, 10), nn.Softmax())
    return nn.Sequential(*stem, Squeeze(8), *head)


def main(out: Path) -> None:
    paddle.seed(0)
    for build in (cnn, residual):
        model = build()
        model.eval()
        spec = [paddle.static.InputSpec([None, 3, 32, 32], "float32", "image")]
        paddle.onnx.export(model, str(out / f"paddle-{build.__name__}"), input_spec=spec, opset_version=17)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
