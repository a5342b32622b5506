"""One convolution under noise, forward: in two steps, or with all that is behind it inside."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from banscan.kernels import LayerNoise, noisy_conv
from banscan.scanner.machine.cuda_graph import WARM
from bench.speed.cells import Work

# of a recording, so that one run takes longer than the wait for it
REPEATED = 20
FORMS = ("normalised", "Eq. 3")


@dataclass(frozen=True)
class Layer:
    """A convolution of a residual network on images of 224 x 224."""

    side: int
    stride: int
    features: int
    channels: int
    size: int


LAYERS = {
    f"{n.side}x{n.side}/{n.stride}, {n.features} to {n.channels}, {n.size}x{n.size}": n
    for n in (
        Layer(3, 1, 64, 64, 56),
        Layer(3, 1, 128, 128, 28),
        Layer(3, 1, 256, 256, 14),
        Layer(3, 1, 512, 512, 7),
        Layer(3, 2, 128, 256, 28),
        Layer(1, 1, 256, 64, 56),
    )
}


def forward(layer: Layer, form: str, dtype: torch.dtype, restarts: int, images: int, device: torch.device, *, small: bool) -> Work:
    """The layer with a residual and a ReLU; on a GPU recorded once and replayed, as in a scan. `small` is a sixteenth of it each way."""
    channels, features, size = (max(1, n // 16) if small else n for n in (layer.channels, layer.features, layer.size))
    torch.manual_seed(0)
    noise = torch.rand(2, restarts, channels, device=device) * 0.2 - 0.1
    x = torch.randn(restarts * images, features, size, size, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(channels, features, layer.side, layer.side, device=device, dtype=dtype) / features**0.5
    weight = weight.contiguous(memory_format=torch.channels_last)
    stats = torch.rand(2, channels, device=device) + 0.5 if form == FORMS[0] else None
    places = (size - 1) // layer.stride + 1
    added = torch.randn(restarts * images, channels, places, places, device=device, dtype=dtype).contiguous(
        memory_format=torch.channels_last
    )
    carried = LayerNoise(noise[0], noise[1], torch.zeros(channels, device=device), stats, "relu", residual=added)

    @torch.no_grad()
    def run() -> None:
        noisy_conv(x, weight, carried, stride=layer.stride, padding=layer.side // 2)

    repeated, times = _recorded(run, device)
    products = restarts * images * places**2 * channels * features * layer.side**2
    moved = dtype.itemsize * (x.numel() + 2 * added.numel())
    return Work(repeated, times * restarts * images, 2 * times * products, times * moved)


def _recorded(run: Callable[[], None], device: torch.device) -> tuple[Callable[[], object], int]:
    """As many runs at once as make it long enough to be timed, and how many they are."""
    if device.type != "cuda":
        return run, 1
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):
        for _ in range(WARM):
            run()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()

    def replayed() -> None:
        for _ in range(REPEATED):
            graph.replay()

    return replayed, REPEATED
