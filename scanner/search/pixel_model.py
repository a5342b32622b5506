"""The model as a function of pixels in [0, 1], whatever its preprocessing, for searches that change images instead of neurons."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, fx

from banscan.importers import TracedModel
from banscan.scanner.inputs.preprocess import Preprocess
from banscan.scanner.machine import memory
from banscan.scanner.machine.precision import convert
from banscan.scanner.search.backward import eased
from banscan.scanner.search.rounding import straighten

# the inputs that stand for black and white pixels, [1, C, 1, 1] or [1, 1, 1, C] after the layout
Limits = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class PixelModel:
    """A model with the inputs that stand for black and white pixels, [1, C, 1, 1] or [1, 1, 1, C] after its layout; `axis` is C's.

    `at_once` is the number of images that memory has room for.
    """

    module: fx.GraphModule
    low: Tensor
    high: Tensor
    classes: int
    dtype: torch.dtype
    axis: int
    at_once: int = 512

    @property
    def device(self) -> torch.device:
        return self.low.device

    def size(self, pixels: Tensor) -> tuple[int, int]:
        """Height and width of images in this model's layout."""
        height, width = (pixels.shape[d] for d in (1, 2, 3) if d != self.axis)
        return height, width

    def from_channels_first(self, pixels: Tensor) -> Tensor:
        """Images [N, C, H, W] in this model's layout."""
        return pixels if self.axis == 1 else pixels.permute(0, 2, 3, 1)

    def pixels(self, x: Tensor) -> Tensor:
        """Preprocessed images [N, ...] as pixels in [0, 1]."""
        return (x - self.low).div_(self.high - self.low).clamp_(0, 1)

    def inputs(self, pixels: Tensor) -> Tensor:
        """Pixels [N, ...] in [0, 1] as the model takes them."""
        return self.low + (self.high - self.low) * pixels

    def logits(self, pixels: Tensor) -> Tensor:
        """Logits [N, classes] in float32 of pixels [N, ...]."""
        x = self.inputs(pixels)
        if x.dim() == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        result: Tensor = self.module(x.to(self.dtype))
        return result.float()


def limits(model: TracedModel, preprocess: Preprocess) -> Limits:
    """The inputs that stand for black and white pixels, on the model's device."""
    black, white = (np.full((1, 1, 1, model.input.channels), v, dtype=np.uint8) for v in (0, 255))
    return preprocess(black, model.input.layout).to(model.device), preprocess(white, model.input.layout).to(model.device)


def pixel_model(model: TracedModel, preprocess: Preprocess, dtype: torch.dtype) -> PixelModel:
    """The model behind its preprocessing, with weights in `dtype`, on its own device."""
    low, high = limits(model, preprocess)
    graph = fx.Graph()
    graph.output(graph.graph_copy(model.module.graph, {}))
    at_once = memory.images_at_once(model.module.graph.nodes, dtype, model.device)
    axis = model.input.layout.index("C")
    module = eased(straighten(convert(fx.GraphModule(model.module, graph), dtype)))
    return PixelModel(module, low, high, model.classes, dtype, axis, at_once)


def margins(logits: Tensor, target: Tensor) -> Tensor:
    """logit(t) minus the largest other logit, [N], for logits [N, C] and targets [N]."""
    own = logits.gather(1, target[:, None])[:, 0]
    return own - logits.scatter(1, target[:, None], -torch.inf).max(1).values


def all_margins(logits: Tensor) -> Tensor:
    """`margins` for every class as target, [N, C]."""
    top = logits.topk(2, 1)
    result = logits - top.values[:, :1]
    return result.scatter(1, top.indices[:, :1], (top.values[:, 0] - top.values[:, 1])[:, None])
