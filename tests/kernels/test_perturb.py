"""Every backend against the reference in float64: values and gradients."""

import itertools

import pytest
import torch
from torch import Tensor

from banscan import UsageError
from banscan.kernels import backend, cpu, noisy_conv2d, noisy_linear, reference

SHAPES = [((7, 5, 9, 3), 1), ((5, 5, 1, 1), 1), ((63, 5), -1), ((6, 4, 5), -1), ((6, 5, 7), 1)]


def case(shape: tuple[int, ...], axis: int, restarts: int, shared: bool, normalised: bool, layout: str) -> dict[str, Tensor | None]:
    torch.manual_seed(hash((shape, restarts, shared)) % 1000)
    count = shape[0] if shared else restarts * shape[0]
    z = torch.randn(count, *shape[1:], dtype=torch.float64) * 3 + 1
    z.select(axis, 2).fill_(0.3)  # a constant channel
    if layout == "channels_last" and z.dim() == 4:
        z = z.contiguous(memory_format=torch.channels_last)
    if layout == "slice":
        wide = torch.stack((z, z + 100), -1)
        z = wide[..., 0]
    stats = torch.stack((torch.randn(5), torch.rand(5) + 0.1)).double() if normalised else None
    if stats is not None:
        stats[1, 3] = 0
    delta, xi = (torch.rand(restarts, 5).double() - 0.5 for _ in range(2))
    return {"z": z, "bias": torch.randn(5).double(), "delta": delta, "xi": xi, "stats": stats}


def run(function, values, dtype, act, axis, shared):  # type: ignore[no-untyped-def]
    leaves = {k: None if v is None else v.to(dtype).detach() for k, v in values.items()}
    for name in ("z", "delta", "xi"):
        leaves[name] = leaves[name].requires_grad_()
    y = function(**leaves, act=act, axis=axis, shared=shared)
    weight = torch.cos(torch.arange(y.numel(), dtype=torch.float64)).reshape(y.shape).to(y.dtype)
    grads = torch.autograd.grad((y * weight).sum(), [leaves["z"], leaves["delta"], leaves["xi"]])
    return dict(zip(("y", "grad z", "grad delta", "grad xi"), (y.detach(), *grads), strict=True))


def relative(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).norm() / b.double().norm().clamp(min=1e-9))


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("restarts", [1, 5])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last", "slice"])
def test_cpu_matches_reference(shape: tuple[int, ...], axis: int, restarts: int, layout: str) -> None:
    for shared, normalised, act in itertools.product((False, True), (False, True), (None, "relu")):
        if normalised and restarts * shape[0] == restarts and len(shape) == 2:
            continue
        values = case(shape, axis, restarts, shared, normalised, layout)
        truth = run(reference.perturb, values, torch.float64, act, axis, shared)
        ours = run(cpu.perturb, values, torch.float32, act, axis, shared)
        for name, expected in truth.items():
            # the constant channel divides rounding errors by sqrt(EPS)
            assert relative(ours[name], expected) < 1e-4, (name, shared, normalised, act)


def test_bfloat16_stays_close() -> None:
    values = case((16, 5, 8, 8), 1, 4, False, True, "channels_last")
    values["z"].select(1, 2).normal_()  # type: ignore[union-attr]
    truth = run(reference.perturb, values, torch.float64, "relu", 1, False)
    leaves = {k: None if v is None else v.float() for k, v in values.items()}
    leaves["z"] = leaves["z"].bfloat16()  # type: ignore[union-attr]
    y = cpu.perturb(**leaves, act="relu", axis=1)  # type: ignore[arg-type]
    assert y.dtype == torch.bfloat16
    assert relative(y, truth["y"]) < 2e-2


def test_formulas() -> None:
    """Eq. 3, and the normalised form written out by hand for one neuron."""
    z, bias = torch.tensor([[1.0], [3.0]]), torch.tensor([2.0])
    delta, xi = torch.tensor([[0.5]]), torch.tensor([[-0.25]])
    assert torch.allclose(reference.perturb(z, bias, delta, xi, axis=-1), 1.5 * z + 0.75 * 2)
    stats = torch.tensor([[10.0], [4.0]])
    expected = 10 + 4 * (-0.25 + 1.5 * (z - 2) / (1 + 1e-5 * 16) ** 0.5)
    assert torch.allclose(reference.perturb(z, bias, delta, xi, stats, axis=-1), expected)


def test_no_noise_is_the_layer_itself() -> None:
    torch.manual_seed(0)
    x, w, b = torch.randn(6, 3, 9, 7), torch.randn(4, 3, 3, 3), torch.randn(4)
    none = torch.zeros(1, 4)
    plain = torch.nn.functional.conv2d(x, w, b, stride=2, padding=1)
    stats = torch.stack((plain.mean((0, 2, 3)), plain.std((0, 2, 3), correction=0)))
    for given in (None, stats):
        assert torch.allclose(noisy_conv2d(x, w, b, none, none, given, stride=2, padding=1), plain, atol=1e-4)
    v = torch.randn(5, 3)
    assert torch.allclose(noisy_linear(v, w[:, :, 0, 0], b, none, none), torch.nn.functional.linear(v, w[:, :, 0, 0], b), atol=1e-6)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_convolution_gradients_by_differences(groups: int) -> None:
    torch.manual_seed(0)
    x, w = torch.randn(4, 4, 5, 5, dtype=torch.float64), torch.randn(8, 4 // groups, 3, 3, dtype=torch.float64)
    delta = torch.randn(2, 8, dtype=torch.float64).requires_grad_()
    stats = torch.rand(2, 8, dtype=torch.float64) + 0.5

    def loss(d: Tensor) -> Tensor:
        z = torch.nn.functional.conv2d(x, w, groups=groups)
        return reference.perturb(z, None, d, d * 0.5, stats).sin().sum()

    assert torch.autograd.gradcheck(loss, delta)


def test_weights_get_no_gradient_and_double_backward_raises() -> None:
    x, w = torch.randn(4, 3, 5, 5, requires_grad=True), torch.randn(4, 3, 3, 3)
    delta = torch.zeros(2, 4, requires_grad=True)
    y = noisy_conv2d(x, w, None, delta, torch.zeros(2, 4))
    (grad,) = torch.autograd.grad(y.square().sum(), delta, create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(grad.sum(), delta)


def test_unknown_activation() -> None:
    for function in (reference.perturb, cpu.perturb):
        with pytest.raises(ValueError, match="gelu"):
            function(torch.ones(2, 1), None, torch.zeros(1, 1), torch.zeros(1, 1), act="gelu", axis=-1)


def test_choice_of_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BANSCAN_KERNELS", raising=False)
    assert backend(torch.device("cpu")) == "cpu"
    monkeypatch.setenv("BANSCAN_KERNELS", "reference")
    assert backend(torch.device("cpu")) == "reference"
    monkeypatch.setenv("BANSCAN_KERNELS", "cpu")
    with pytest.raises(UsageError, match="cannot run"):
        backend(torch.device("cuda"))
    monkeypatch.setenv("BANSCAN_KERNELS", "magic")
    with pytest.raises(UsageError, match="magic"):
        backend(torch.device("cpu"))
