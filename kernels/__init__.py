"""Noise-carrying layers: tensors in, tensors out; nothing of models is known here."""

from banscan.kernels.dispatch import backend
from banscan.kernels.noisy import noisy_conv2d, noisy_linear, perturb

__all__ = ["backend", "noisy_conv2d", "noisy_linear", "perturb"]
