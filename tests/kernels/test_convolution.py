"""The convolution with its noise inside against the reference in float64: values and gradients, and the same numbers by every tile."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from banscan import UsageError
from banscan.kernels import LayerNoise, Twice, convolution, described, epilogue, noisy_conv, reference
from banscan.kernels.convolution import Geometry, suited
from banscan.kernels.tiles import convolved, mapped, summed

HERE = torch.device("cpu")
NAMES = ("y", "grad x", "grad delta", "grad xi", "grad residual")
# restarts, images, features, channels, height, width
SHAPES = [(1, 3, 5, 9, 7, 5), (3, 2, 20, 33, 6, 6)]
LIMITS = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 4e-2}
Values = dict[str, Any]


def case(shape: tuple[int, ...], geometry: Geometry, normalised: bool, residual: bool) -> Values:
    restarts, images, features, channels, *size = shape
    torch.manual_seed(sum(shape))
    stats = torch.stack((torch.randn(channels), torch.rand(channels) + 0.1)).double() if normalised else None
    behind = [geometry.size(side) for side in size]
    delta, xi = (torch.rand(restarts, channels).double() - 0.5 for _ in range(2))
    return {
        "x": torch.randn(restarts * images, features, *size).double() + 0.5,
        "weight": torch.randn(channels, features, geometry.side, geometry.side).double() / (features * geometry.side**2) ** 0.5,
        "delta": delta,
        "xi": xi,
        "bias": torch.randn(channels).double(),
        "stats": stats,
        "residual": torch.randn(restarts * images, channels, *behind).double() if residual else None,
    }


def run(
    function: Callable[..., Twice],
    values: Values,
    act: str | None,
    narrow: torch.dtype,
    wide: torch.dtype,
    device: str = "cpu",
    read: tuple[int, ...] = (0,),
) -> dict[str, Tensor]:
    """Values and gradients; x, weight and residual in `narrow`, the noise in `wide`; `read` are the results that somebody reads."""
    kinds = {name: narrow if name in ("x", "weight", "residual") else wide for name in values}
    leaves = {name: None if value is None else value.to(device, kinds[name]).detach() for name, value in values.items()}
    wanted = [name for name in ("x", "delta", "xi", "residual") if leaves[name] is not None]
    for name in wanted:
        leaves[name] = leaves[name].requires_grad_()
    noise = LayerNoise(**{name: value for name, value in leaves.items() if name not in ("x", "weight")}, act=act)
    given = function(leaves["x"], leaves["weight"], noise)
    weight = torch.tensor([1.0, -0.5, 0.25], device=device)
    places = torch.arange(given[0].numel(), device=device).reshape(given[0].shape)
    loss = sum((given[i] * weight[(places // (1 + i)) % 3].to(given[i].dtype)).sum() for i in read)
    grads = torch.autograd.grad(loss, [leaves[name] for name in wanted])  # type: ignore[arg-type]
    return dict(zip(NAMES, (given[0].detach().cpu(), *(g.cpu() for g in grads)), strict=False))


def truth(values: Values, geometry: Geometry, act: str | None, narrow: torch.dtype, device: str, **read: Any) -> dict[str, Tensor]:
    """In float64; but pre-activations that are stored in `narrow` are rounded, so that ReLU takes away the same values."""

    def apart(x: Tensor, weight: Tensor, noise: LayerNoise) -> Twice:
        z = F.conv2d(x, weight, None, geometry.stride, geometry.padding)
        if noise.stats is not None and narrow != torch.float32:
            z = z + (_rounded(z.detach(), narrow, device) - z.detach())
        return reference.perturb(z, noise)

    return run(apart, values, act, torch.float64, torch.float64, **read)


def _rounded(z: Tensor, narrow: torch.dtype, device: str) -> Tensor:
    """Triton's interpreter truncates to bfloat16."""
    if device == "cpu" and narrow == torch.bfloat16:
        return (z.float().view(torch.int32) & -(1 << 16)).view(torch.float32).double()
    return z.to(narrow).double()


def ours(values: Values, geometry: Geometry, act: str | None, narrow: torch.dtype, device: str, **read: Any) -> dict[str, Tensor]:
    def one(x: Tensor, weight: Tensor, noise: LayerNoise) -> Twice:
        how: dict[str, Any] = {"stride": geometry.stride, "padding": [geometry.padding] * 2, "dilation": 1, "groups": 1}
        given = convolution.fused(x, weight, noise, **how)
        assert given is not None
        return given

    return run(one, values, act, narrow, torch.float32, device, **read)


def relative(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm().clamp(min=1e-9))


def geometries() -> Iterator[Geometry]:
    for side, stride, padding in itertools.product((1, 3), (1, 2), (0, 1)):
        yield Geometry(side, stride, padding)


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that is not written shows."""
    empty, like = torch.empty, torch.empty_like
    monkeypatch.setattr(torch, "empty", lambda *a, **k: empty(*a, **k).fill_(torch.nan))
    monkeypatch.setattr(torch, "empty_like", lambda *a, **k: like(*a, **k).fill_(torch.nan))


def cases() -> Iterator[Any]:
    """Every geometry and shape in float32; in the narrow types, which have other tiles, those of the layers of a ResNet."""
    few = (Geometry(3, 1, 1), Geometry(1, 2, 0))
    resnet = (*few, Geometry(3, 2, 1))
    for narrow, shape, geometry in itertools.product((torch.float32, torch.float16, torch.bfloat16), SHAPES, geometries()):
        if narrow == torch.float32 or geometry in resnet:
            quick = narrow == torch.float32 and shape == SHAPES[0] and geometry in few
            yield pytest.param(geometry, shape, narrow, marks=() if quick else pytest.mark.slow)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(("geometry", "shape", "narrow"), list(cases()))
def test_matches_reference(geometry: Geometry, shape: tuple[int, ...], narrow: torch.dtype, device: str) -> None:
    for normalised, residual, act, read in itertools.product((False, True), (False, True), (None, "relu"), ((0,), (0, 1))):
        values = case(shape, geometry, normalised, residual)
        for name in ("x", "weight", "residual"):
            values[name] = None if values[name] is None else values[name].to(narrow).double()
        expected = truth(values, geometry, act, narrow, device, read=read)
        for name, found in ours(values, geometry, act, narrow, device, read=read).items():
            assert relative(found, expected[name]) < LIMITS[narrow], (name, normalised, residual, act, read)


@pytest.mark.slow
def test_moments_of_many_rows(device: str) -> None:
    """More chunks of rows than are put together at once, the last one not full; a spread of one around a thousand."""
    geometry = Geometry(1, 1, 0)
    values = case((2, 1, 1, 3, 70, 71), geometry, True, False)
    values["x"] = torch.randn_like(values["x"]) + 1000
    values["weight"] = torch.ones_like(values["weight"])
    expected = truth(values, geometry, None, torch.float32, device)
    assert relative(ours(values, geometry, None, torch.float32, device)["y"], expected["y"]) < 1e-3


@pytest.mark.parametrize(("restarts", "count"), [(2, 64 * 64), (1, 64 * 130 + 1), (2, 30)])
def test_moments_are_put_together(restarts: int, count: int, device: str) -> None:
    """Mean and squares of all rows from those of chunks."""
    torch.manual_seed(0)
    z = torch.randn(restarts, count, 3, device=device, dtype=torch.float64) + 5
    part = torch.empty(restarts, -(-count // 64), 2, 3, device=device)
    for place, chunk in enumerate(z.split(64, 1)):
        part[:, place, 0], part[:, place, 1] = chunk.mean(1), (chunk - chunk.mean(1, keepdim=True)).square().sum(1)
    merged, rows, each = convolution._merged(part, count)
    assert rows == count
    assert merged.shape[1] == -(-count // each) <= 64
    weight = torch.tensor([min(each, count - i * each) for i in range(merged.shape[1])], device=device)[:, None]
    mean = (merged[:, :, 0] * weight).sum(1) / count
    squares = (merged[:, :, 1] + weight * (merged[:, :, 0] - mean[:, None]).square()).sum(1)
    assert torch.allclose(mean.double(), z.mean(1), rtol=1e-6)
    assert torch.allclose(squares.double() / count, z.var(1, correction=0), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("narrow", [torch.float32, torch.bfloat16])
def test_every_tile_gives_the_same_numbers(normalised: bool, narrow: torch.dtype, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    """To the last bit, so that what was measured on a GPU changes nothing but the time."""
    geometry = Geometry(1, 1, 0)
    values = case((2, 8, 16, 70, 7, 6), geometry, normalised, True)
    # so that those that stay have several tiles, on a GPU as well
    monkeypatch.setattr(convolution, "processors", lambda _: 1)
    if device == "cpu":
        # the interpreter multiplies matrices by a library whose order goes by their size: whole numbers have one sum
        values["x"], values["weight"] = (values[name].mul(2).round() for name in ("x", "weight"))
    number, taken = 0, set()

    def best(name: str, shape: Any, choices: tuple[Any, ...], launch: Any, where: Any, **_: Any) -> Any:
        found = choices[min(number, len(choices) - 1)]
        taken.add((name, found))
        return found

    monkeypatch.setattr(epilogue, "best", best)
    monkeypatch.setattr(convolution, "best", best)
    first = None
    for number in range(9):
        found = ours(values, geometry, "relu", narrow, device, read=(0, 1))
        first = found if first is None else first
        for name, value in found.items():
            if name != "grad x":
                assert torch.equal(value, first[name]), (name, number)
    tiles = {"convolve": convolved(70, narrow), "gather": summed(70)}
    tiles |= {"apply": mapped(70), "spread": mapped(70)} if normalised else {}
    assert taken == {(name, tile) for name, own in tiles.items() for tile in own}


def test_moments_by_every_tile(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    """Those of pre-activations that are there already."""
    torch.manual_seed(0)
    z = torch.randn(700, 70, device=device)
    found = []
    for tile in summed(70):
        monkeypatch.setattr(epilogue, "best", lambda *_, tile=tile: tile)
        found.append(epilogue._moments(z, 1, 700, 70)[0])
    assert len(found) > 3
    assert all(torch.equal(part, found[0]) for part in found)


def test_what_is_left_to_two_steps() -> None:
    delta = torch.zeros(2, 4)
    noise = LayerNoise(delta, delta)
    x, w = torch.zeros(4, 3, 5, 5), torch.zeros(4, 3, 3, 3)
    plain: dict[str, Any] = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1}
    assert suited(x, w, noise, **plain) == Geometry(3, 1, 0)
    assert suited(x, w, noise, **{**plain, "stride": [2, 2], "padding": [1, 1]}) == Geometry(3, 2, 1)
    for how in ({"stride": 3}, {"stride": [1, 2]}, {"padding": "same"}, {"padding": [0, 1]}, {"dilation": [2, 2]}, {"groups": 3}):
        assert suited(x, w, noise, **{**plain, **how}) is None, how
    assert suited(x, torch.zeros(4, 3, 5, 5), noise, **plain) is None
    assert suited(x, torch.zeros(4, 3, 1, 3), noise, **plain) is None
    assert suited(x[..., :2], w, noise, **plain) is None
    assert suited(x[..., 0], w[..., 0], noise, **plain) is None
    assert suited(x.double(), w.double(), noise, **plain) is None
    assert suited(x, torch.nn.Parameter(w), noise, **plain) is None
    assert suited(x, w, LayerNoise(delta, delta, shared=True), **plain) is None
    # more values of a restart than 32 bits count
    assert suited(torch.zeros(1).expand(2, 2**15, 256, 256), torch.zeros(1).expand(4, 2**15, 1, 1), noise, **plain) is None


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> list[Geometry | None]:
    """What was computed in one step, where it is asked for."""
    monkeypatch.setenv("BANSCAN_KERNELS", "triton")
    monkeypatch.setenv("BANSCAN_CONV", "fused")
    seen: list[Geometry | None] = []

    def look(*given: Any, **how: Any) -> Geometry | None:
        seen.append(suited(*given, **how))
        return seen[-1]

    monkeypatch.setattr(convolution, "suited", look)
    return seen


def test_the_switch(fused: list[Geometry | None], monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    torch.manual_seed(0)
    x, w = torch.randn(4, 4, 6, 6, device=device), torch.randn(4, 4, 3, 3, device=device)
    delta = torch.rand(2, 4, device=device) * 0.1
    noise = LayerNoise(delta, delta, act="relu")
    found, _ = noisy_conv(x, w, noise, stride=2, padding=1)
    # two groups are not computed in one step, and right all the same
    assert noisy_conv(x, w[:, :2], noise, groups=2)[0].shape == (4, 4, 4, 4)
    assert fused == [Geometry(3, 2, 1), None]
    # nothing can be measured in the interpreter
    monkeypatch.setenv("BANSCAN_CONV", "auto")
    if device == "cpu":
        assert torch.allclose(noisy_conv(x, w, noise, stride=2, padding=1)[0], found, atol=1e-5)
        assert fused[2:] == [Geometry(3, 2, 1)]
    monkeypatch.delenv("BANSCAN_CONV")
    assert torch.allclose(noisy_conv(x, w, noise, stride=2, padding=1)[0], found, atol=1e-5)
    assert len(fused) == 3


def test_words_of_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANSCAN_KERNELS", "triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    for value, told in (("apart", "triton"), ("fused", "triton, convolutions fused"), ("auto", "triton, convolutions auto")):
        monkeypatch.setenv("BANSCAN_CONV", value)
        assert described(HERE) == told
    monkeypatch.setenv("BANSCAN_KERNELS", "cpu")
    assert described(HERE) == "cpu"
    monkeypatch.setenv("BANSCAN_CONV", "fused")
    with pytest.raises(UsageError, match="cannot run: the kernels here are 'cpu'"):
        described(HERE)
    monkeypatch.setenv("BANSCAN_CONV", "together")
    with pytest.raises(UsageError, match="BANSCAN_CONV is 'together'; expected one of apart, auto, fused"):
        described(HERE)


@pytest.mark.usefixtures("fused")
def test_double_backward_raises(device: str) -> None:
    x, w = torch.randn(4, 3, 5, 5, requires_grad=True, device=device), torch.randn(4, 3, 3, 3, device=device)
    delta = torch.zeros(2, 4, requires_grad=True, device=device)
    (grad,) = torch.autograd.grad(noisy_conv(x, w, LayerNoise(delta, delta * 2))[0].square().sum(), delta, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.usefixtures("fused")
def test_changing_what_is_kept_raises(device: str) -> None:
    """The backward pass reads the output in the plain form, and the weights."""
    for name in ("y", "weight"):
        x, w = torch.randn(4, 3, 5, 5, requires_grad=True, device=device), torch.randn(4, 3, 1, 1, device=device)
        delta = torch.zeros(2, 4, requires_grad=True, device=device)
        y, _ = noisy_conv(x, w, LayerNoise(delta, delta * 2, act="relu"))
        (y if name == "y" else w).mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()
