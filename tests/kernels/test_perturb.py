"""Every backend against the reference in float64: values and gradients."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from banscan import UsageError
from banscan.kernels import LayerNoise, Twice, backend, chosen, cpu, epilogue, noisy_conv, noisy_linear, reference
from tests.conftest import slow_except

# images of a restart, channels and places, and where the channels are
SHAPES = [((7, 5, 9, 3), 1), ((5, 5, 1, 1), 1), ((63, 5), -1), ((6, 4, 5), -1), ((6, 5, 7), 1), ((3, 65, 3, 2), 1)]
NAMES = ("y", "grad z", "grad delta", "grad xi", "grad residual")
Case = dict[str, Tensor | None]


def case(shape: tuple[int, ...], axis: int, restarts: int, shared: bool, normalised: bool, layout: str, residual: bool) -> Case:
    torch.manual_seed(hash((shape, restarts, shared)) % 1000)
    count, channels = shape[0] if shared else restarts * shape[0], shape[axis]
    z = torch.randn(count, *shape[1:], dtype=torch.float64) * 3 + 1
    if layout == "slice":
        z.select(axis, 2).fill_(0.3)  # a constant channel
    if layout == "channels_last" and z.dim() == 4:
        z = z.contiguous(memory_format=torch.channels_last)
    if layout == "slice":
        wide = torch.stack((z, z + 100), -1)
        z = wide[..., 0]
    stats = torch.stack((torch.randn(channels), torch.rand(channels) + 0.1)).double() if normalised else None
    if stats is not None:
        stats[1, 3] = 0
    delta, xi = (torch.rand(restarts, channels).double() - 0.5 for _ in range(2))
    added = torch.randn(restarts * shape[0], *shape[1:], dtype=torch.float64) if residual else None
    return {"z": z, "bias": torch.randn(channels).double(), "delta": delta, "xi": xi, "stats": stats, "residual": added}


def noise_of(values: dict[str, Any], **settings: Any) -> LayerNoise:
    """All of a case but z."""
    return LayerNoise(**{name: value for name, value in values.items() if name != "z"}, **settings)


def run(
    function: Callable[..., Twice],
    values: Case,
    dtype: torch.dtype,
    act: str | None,
    axis: int,
    shared: bool,
    device: str = "cpu",
    narrow: torch.dtype | None = None,
    read: tuple[int, ...] = (0,),
) -> dict[str, Tensor]:
    """Values and gradients with everything in `dtype`, but z and residual in `narrow`; `read` are the results that somebody reads."""
    leaves: dict[str, Any] = {}
    for name, value in values.items():
        kind = narrow if narrow is not None and name in ("z", "residual") else dtype
        leaves[name] = None if value is None else value.to(device, kind).detach()
    wanted = [name for name in ("z", "delta", "xi", "residual") if leaves[name] is not None]
    for name in wanted:
        leaves[name] = leaves[name].requires_grad_()
    given = function(leaves["z"], noise_of(leaves, act=act, shared=shared), axis=axis)
    assert torch.equal(*given)
    # powers of two: products with them are exact in every type
    weight = torch.tensor([1.0, -0.5, 0.25], dtype=dtype, device=device)
    places = torch.arange(given[0].numel(), device=device).reshape(given[0].shape)
    loss = sum((given[i] * weight[(places // (1 + i)) % 3].to(given[i].dtype)).sum() for i in read)
    grads = torch.autograd.grad(loss, [leaves[name] for name in wanted])  # type: ignore[arg-type]
    return dict(zip(NAMES, (given[0].detach().cpu(), *(g.cpu() for g in grads)), strict=False))


def relative(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm().clamp(min=1e-9))


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that is not written shows."""
    empty, like = torch.empty, torch.empty_like
    monkeypatch.setattr(torch, "empty", lambda *a, **k: empty(*a, **k).fill_(torch.nan))
    monkeypatch.setattr(torch, "empty_like", lambda *a, **k: like(*a, **k).fill_(torch.nan))


def compare(function: Callable[..., Twice], shape: tuple[int, ...], axis: int, restarts: int, layout: str, **where: Any) -> None:
    # a constant channel divides rounding errors by sqrt(EPS)
    limit = {None: 1e-3 if layout == "slice" else 1e-5, torch.float16: 4e-3, torch.bfloat16: 4e-2}[where.get("narrow")]
    for shared, normalised, act, residual in itertools.product((False, True), (False, True), (None, "relu"), (False, True)):
        if normalised and shape[0] == 1:
            continue
        values = case(shape, axis, restarts, shared, normalised, layout, residual)
        if where.get("narrow") is not None:
            # what a narrow type makes of z is the caller's; a constant channel would only show its rounding
            values["z"].select(axis, 2).normal_()  # type: ignore[union-attr]
            values |= {
                name: None if v is None else v.to(where["narrow"]).double() for name, v in values.items() if name in ("z", "residual")
            }
        truth = run(reference.perturb, values, torch.float64, act, axis, shared, read=where.get("read", (0,)))
        ours = run(function, values, torch.float32, act, axis, shared, **where)
        for name, expected in truth.items():
            assert relative(ours[name], expected) < limit, (name, shared, normalised, act, residual)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("restarts", [1, 5])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "slice"])
def test_cpu_matches_reference(shape: tuple[int, ...], axis: int, restarts: int, layout: str) -> None:
    compare(cpu.perturb, shape, axis, restarts, layout)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize(
    ("restarts", "layout", "narrow"),
    slow_except(
        [
            (1, "channels_last", None),
            (5, "channels_last", None),
            (5, "slice", None),
            (5, "channels_last", torch.float16),
            (5, "slice", torch.bfloat16),
        ],
        (1, "channels_last", None),
    ),
)
def test_triton_matches_reference(
    shape: tuple[int, ...], axis: int, restarts: int, layout: str, narrow: torch.dtype | None, device: str
) -> None:
    compare(epilogue.perturb, shape, axis, restarts, layout, device=device, narrow=narrow)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(
    ("name", "narrow", "restarts", "read"),
    slow_except(
        [
            *((name, None, *rest) for name in ("cpu", "triton") for rest in ((1, (0, 1)), (1, (1,)), (5, (0, 1)), (5, (1,)))),
            ("triton", torch.bfloat16, 5, (0, 1)),
            ("triton", torch.bfloat16, 1, (1,)),
        ],
        ("cpu", None, 1, (0, 1)),
        ("triton", None, 1, (0, 1)),
    ),
)
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_two_gradients(
    shape: tuple[int, ...], axis: int, restarts: int, read: tuple[int, ...], narrow: torch.dtype | None, name: str, device: str
) -> None:
    """The result read twice, or by those alone who take it the second time."""
    function, where = (cpu.perturb, "cpu") if name == "cpu" else (epilogue.perturb, device)
    compare(function, shape, axis, restarts, "channels_last", device=where, narrow=narrow, read=read)


@pytest.mark.parametrize("name", ["cpu", "triton", "reference"])
def test_nobody_reads_for_a_gradient(name: str, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    """Whoever reads the result passes no gradient on."""

    class Deaf(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:  # type: ignore[override]
            return x.clone()

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> None:
            return None

    monkeypatch.setenv("BANSCAN_KERNELS", name)
    where = torch.device(device if name == "triton" else "cpu")
    z, delta = torch.randn(4, 3, device=where), torch.zeros(2, 3, requires_grad=True, device=where)
    first, second = chosen(where).perturb(z, LayerNoise(delta, delta * 2, act="relu"), axis=-1)
    (Deaf.apply(first) + Deaf.apply(second)).sum().backward()  # type: ignore[no-untyped-call]
    assert delta.grad is None or not delta.grad.any()


@pytest.mark.slow
@pytest.mark.parametrize("read", [(0,), (0, 1)])
@pytest.mark.parametrize("normalised", [False, True])
def test_triton_over_many_tiles(normalised: bool, read: tuple[int, ...], device: str) -> None:
    """Several programs a channel, the last one of them not full."""
    values = case((2, 33, 37, 31), 1, 2, False, normalised, "channels_last", True)
    truth = run(reference.perturb, values, torch.float64, "relu", 1, False, read=read)
    first, second = (run(epilogue.perturb, values, torch.float32, "relu", 1, False, device, read=read) for _ in range(2))
    for name, expected in truth.items():
        assert relative(first[name], expected) < 1e-4, name
        assert torch.equal(first[name], second[name]), f"{name} differs between two runs"


def test_moments_far_from_zero(device: str) -> None:
    """A spread of one around a thousand: a difference of sums of squares would lose it."""
    values = case((5, 5, 6, 6), 1, 2, False, True, "channels_last", False)
    values["z"] = torch.randn_like(values["z"]) + 1000  # type: ignore[arg-type]
    truth = run(reference.perturb, values, torch.float64, None, 1, False)
    ours = run(epilogue.perturb, values, torch.float32, None, 1, False, device)
    assert relative(ours["y"], truth["y"]) < 1e-3


def test_bfloat16_stays_close() -> None:
    values = case((16, 5, 8, 8), 1, 4, False, True, "channels_last", False)
    values["z"].select(1, 2).normal_()  # type: ignore[union-attr]
    truth = run(reference.perturb, values, torch.float64, "relu", 1, False)
    ours = run(cpu.perturb, values, torch.float32, "relu", 1, False, narrow=torch.bfloat16)
    assert ours["y"].dtype == torch.bfloat16
    for name, expected in truth.items():
        assert relative(ours[name], expected) < 4e-2, name


def test_formulas() -> None:
    """Eq. 3, and the normalised form written out by hand for one neuron."""
    z, bias = torch.tensor([[1.0], [3.0]]), torch.tensor([2.0])
    delta, xi = torch.tensor([[0.5]]), torch.tensor([[-0.25]])
    assert torch.allclose(reference.perturb(z, LayerNoise(delta, xi, bias), axis=-1)[0], 1.5 * z + 0.75 * 2)
    stats = torch.tensor([[10.0], [4.0]])
    expected = 10 + 4 * (-0.25 + 1.5 * (z - 2) / (1 + 1e-5) ** 0.5)
    noise = LayerNoise(delta, xi, bias, stats)
    assert torch.allclose(reference.perturb(z, noise, axis=-1)[0], expected)
    added = torch.tensor([[-100.0], [1.0]])
    ended = replace(noise, act="relu", residual=added)
    assert torch.allclose(reference.perturb(z, ended, axis=-1)[0], (expected + added).relu())


def test_no_noise_is_the_layer_itself() -> None:
    torch.manual_seed(0)
    x, w, b = torch.randn(6, 3, 9, 7), torch.randn(4, 3, 3, 3), torch.randn(4)
    none = torch.zeros(1, 4)
    plain = torch.nn.functional.conv2d(x, w, b, stride=2, padding=1)
    stats = torch.stack((plain.mean((0, 2, 3)), plain.std((0, 2, 3), correction=0)))
    for given in (None, stats):
        weight = w if given is None else reference.units(w, given)
        assert torch.allclose(noisy_conv(x, weight, LayerNoise(none, none, b, given), stride=2, padding=1)[0], plain, atol=1e-4)
    v, w = torch.randn(5, 3), w[:, :, 0, 0]
    assert torch.allclose(noisy_linear(v, w, LayerNoise(none, none, b))[0], torch.nn.functional.linear(v, w, b), atol=1e-6)


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2])
def test_convolutions_of_every_kind(dims: int, groups: int, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    """Stride, padding, dilation and groups, on every backend: values and gradients."""
    torch.manual_seed(0)
    x = torch.randn(6, 4, *(7, 6, 5)[:dims], dtype=torch.float64)
    w = torch.randn(6, 4 // groups, *(3,) * dims, dtype=torch.float64)
    delta = torch.rand(2, 6, dtype=torch.float64) - 0.5
    results = {}
    for name in ("reference", "cpu", "triton"):
        monkeypatch.setenv("BANSCAN_KERNELS", name)
        where = device if name == "triton" else "cpu"
        dtype = torch.float64 if name == "reference" else torch.float32
        leaves = [t.to(where, dtype).requires_grad_() for t in (x, delta)]
        noise = LayerNoise(leaves[1], leaves[1] * 0.5, torch.ones(6, dtype=dtype, device=where), act="relu")
        y, _ = noisy_conv(leaves[0], w.to(where, dtype), noise, stride=2, padding=1, dilation=2, groups=groups)
        results[name] = (y, *torch.autograd.grad(y.square().sum(), leaves))
    for name in ("cpu", "triton"):
        for ours, truth in zip(results[name], results["reference"], strict=True):
            assert relative(ours.detach().cpu(), truth.detach()) < (1e-5 if ours.device.type == "cpu" else 1e-4), name


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_convolution_gradients_by_differences(groups: int) -> None:
    torch.manual_seed(0)
    x, w = torch.randn(4, 4, 5, 5, dtype=torch.float64), torch.randn(8, 4 // groups, 3, 3, dtype=torch.float64)
    delta = torch.randn(2, 8, dtype=torch.float64).requires_grad_()
    stats = torch.rand(2, 8, dtype=torch.float64) + 0.5

    def loss(d: Tensor) -> Tensor:
        z = torch.nn.functional.conv2d(x, w, groups=groups)
        return reference.perturb(z, LayerNoise(d, d * 0.5, stats=stats))[0].sin().sum()

    assert torch.autograd.gradcheck(loss, delta)


@pytest.mark.parametrize("name", ["cpu", "triton"])
def test_weights_get_no_gradient_and_double_backward_raises(name: str, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setenv("BANSCAN_KERNELS", name)
    where = device if name == "triton" else "cpu"
    x, w = torch.randn(4, 3, 5, 5, requires_grad=True, device=where), torch.randn(4, 3, 3, 3, device=where)
    delta = torch.zeros(2, 4, requires_grad=True, device=where)
    y, _ = noisy_conv(x, w, LayerNoise(delta, torch.zeros(2, 4, device=where)))
    (grad,) = torch.autograd.grad(y.square().sum(), delta, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


@pytest.mark.parametrize("name", ["cpu", "triton"])
def test_changing_what_is_kept_raises(name: str, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    """The backward pass reads the output: whoever changes it in place is told."""
    monkeypatch.setenv("BANSCAN_KERNELS", name)
    where = device if name == "triton" else "cpu"
    for changed in (0, 1):
        z, delta = torch.randn(4, 3, device=where), torch.zeros(2, 3, requires_grad=True, device=where)
        given = chosen(torch.device(where)).perturb(z, LayerNoise(delta, delta * 2, act="relu"), axis=-1)
        given[changed].mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            given[0].sum().backward()


def test_unknown_activation() -> None:
    with pytest.raises(ValueError, match="gelu"):
        LayerNoise(torch.zeros(1, 1), torch.zeros(1, 1), act="gelu")


def test_choice_of_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    here = torch.device("cpu")
    monkeypatch.delenv("BANSCAN_KERNELS", raising=False)
    assert backend(here) == "cpu"
    monkeypatch.setenv("BANSCAN_KERNELS", "reference")
    assert backend(here) == "reference"
    assert chosen(here).perturb is reference.perturb
    monkeypatch.setenv("BANSCAN_KERNELS", "cpu")
    with pytest.raises(UsageError, match="cannot run"):
        backend(torch.device("cuda"))
    monkeypatch.setenv("BANSCAN_KERNELS", "magic")
    with pytest.raises(UsageError, match="magic"):
        backend(here)


def test_triton_needs_a_gpu_or_its_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANSCAN_KERNELS", "triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert backend(torch.device("cpu")) == "triton"
    monkeypatch.delenv("TRITON_INTERPRET")
    with pytest.raises(UsageError, match="no GPU"):
        backend(torch.device("cpu"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="not installed"):
        backend(torch.device("cuda"))
    monkeypatch.delenv("BANSCAN_KERNELS")
    assert backend(torch.device("cuda")) == "reference"  # the automatic choice falls back
