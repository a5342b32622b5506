"""Noise-carrying layers: tensors in, tensors out; nothing of models is known here."""

from banscan.kernels.dispatch import backend, chosen, described
from banscan.kernels.noise import LayerNoise, Twice
from banscan.kernels.noisy import noisy_conv, noisy_linear, perturb
from banscan.kernels.reference import units

__all__ = ["LayerNoise", "Twice", "backend", "chosen", "described", "noisy_conv", "noisy_linear", "perturb", "units"]
