"""The L2 ball that searches stay in, for rows of neuron noise and of pixel changes alike."""

from torch import Tensor

# a row that is shorter is taken for none
TINY = 1e-12


def length(rows: Tensor) -> Tensor:
    """The L2 norm of each row of [R, ...], shaped to divide it; never zero."""
    norm: Tensor = rows.flatten(1).norm(dim=1).clamp(min=TINY)
    return norm.reshape(-1, *(1,) * (rows.dim() - 1))


def project(rows: Tensor, radius: float | Tensor) -> None:
    """Shortens rows that are longer than the radius to it, in place; a radius on the device is not waited for."""
    rows.mul_((radius / length(rows)).clamp(max=1))
