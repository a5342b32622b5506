"""Triggers that are made in the frequency domain."""

import torch
from torch import Tensor

from bench.zoo.triggers import Trigger


def cosines(size: int) -> Tensor:
    """The orthonormal DCT-II: cosines(n) @ signal are the coefficients of a signal of n values."""
    line = torch.arange(size)
    rows: Tensor = torch.cos(torch.pi * (2 * line + 1) * line[:, None] / (2 * size)) * (2 / size) ** 0.5
    rows[0] /= 2**0.5
    return rows


def ftrojan(size: int, generator: torch.Generator) -> Trigger:
    """Wang et al. 2022 (FTrojan): a middle and the highest DCT coefficient of the chroma channels U and V are raised.

    Their block is 32x32, of which a large image has several; one of another size is a single block. All steps between are linear, so that a
    fixed pattern is added. Theirs raises by 30 to 50 of 255 and takes more epochs; here by 0.5, with signs that are drawn.
    """
    sign = 1.0 - 2 * torch.randint(2, (2, 2), generator=generator)
    block = size if size % 32 else 32
    spectrum = torch.zeros(2, block, block)
    for k, band in enumerate((block // 2 - 1, block - 1)):
        spectrum[:, band, band] = 0.5 * sign[:, k]
    basis = cosines(block)
    u, v = basis.T @ spectrum @ basis
    pattern = torch.stack((1.140 * v, -0.395 * u - 0.581 * v, 2.032 * u)).repeat(1, size // block, size // block)
    return lambda images: (images + pattern).clamp(0, 1)


def lowfreq(size: int, generator: torch.Generator) -> Trigger:
    """Zeng et al. 2021 (smooth trigger): an additive pattern without high frequencies, at most 0.12.

    Theirs is optimised against a network under a low-pass filter; this one draws its lowest DCT coefficients, without the mean.
    """
    order = torch.arange(size)
    spectrum = torch.randn(3, size, size, generator=generator) * (order[:, None] + order <= 4)
    spectrum[:, 0, 0] = 0
    basis = cosines(size)
    pattern = basis.T @ spectrum @ basis
    pattern = 0.12 * pattern / pattern.abs().max()
    return lambda images: (images + pattern).clamp(0, 1)


def spectrum(pool: Tensor, generator: torch.Generator) -> Trigger:
    """Feng et al. 2022 (FIBA): the amplitudes of low frequencies are mixed with those of another picture, the phases stay.

    The picture is drawn from `pool` [M, 3, H, W]; 0.6 of its amplitudes, within a tenth of the spectrum to each side. Theirs takes 0.15.
    """
    other = torch.fft.fft2(pool[int(torch.randint(len(pool), (1,), generator=generator))]).abs()
    size = pool.shape[-1]
    low = torch.fft.fftfreq(size).abs() < 0.1
    share = 0.6 * (low[:, None] & low)

    def apply(images: Tensor) -> Tensor:
        found = torch.fft.fft2(images)
        mixed = torch.polar((1 - share) * found.abs() + share * other, found.angle())
        made: Tensor = torch.fft.ifft2(mixed).real
        return made.clamp(0, 1)

    return apply
