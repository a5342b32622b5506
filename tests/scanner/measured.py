"""Measurements of made-up models, and what the criteria make of them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from banscan.scanner.criteria import joint, logit, margin, noise, patch, perturbation, registry
from banscan.scanner.criteria.base import NotDone
from banscan.scanner.findings import Finding, Verdict
from banscan.scanner.levels import Levels
from banscan.scanner.search.class_map import Mapped
from banscan.scanner.search.dormant import Searched
from banscan.scanner.verdict import decide

OUT = NotDone("left out")
STILL = Searched(neurons=1000, layers=20, dormant=0, tried=0, alone=0, forcings=0)


def clean(classes: int = 43, restarts: int = 4, seed: int = 0) -> Tensor:
    """Shares [K, T] that noise moves, of classes that differ by chance."""
    generator = torch.Generator().manual_seed(seed)
    level = torch.randn(classes, generator=generator) * 0.5 - 0.5
    return (level + 0.1 * torch.randn(restarts, classes, generator=generator)).sigmoid()


def neurons(moved: Tensor, seed: int = 0, **changes: Any) -> dict[str, Any]:
    """What noise and logits show."""
    classes = moved.shape[1]
    calm = {"moved": moved, "logits": torch.randn(classes, generator=torch.Generator().manual_seed(50 + seed)), "noise_map": OUT}
    return calm | changes


def pixels(classes: int = 43, seed: int = 0, **changes: Any) -> dict[str, Any]:
    """What the searches over pixels show of a clean model."""
    generator = torch.Generator().manual_seed(100 + seed)
    calm = {
        "largest": 15 + torch.randn(classes, generator=generator) + 0.1 * torch.randn(4, classes, generator=generator),
        "perturbed": (0.5 * torch.randn(classes, generator=generator)).sigmoid(),
        "success": (0.5 * torch.randn(classes, generator=generator)).sigmoid(),
        "patched": torch.full((classes,), 0.1),
        "patch_success": (0.5 * torch.randn(classes, generator=generator)).sigmoid(),
        "patch_images": 130,
        "pixel_map": (Mapped(tuple((c + 1) % classes for c in range(classes)), 0.25), None),
    }
    return calm | changes


def findings(
    by_noise: dict[str, Any], by_pixels: dict[str, Any] | None, levels: Levels, paid: Callable[[str], int] = lambda name: 1
) -> tuple[Finding, ...]:
    """Of all criteria; without `by_pixels` those of the searches over pixels are not done."""
    classes = by_noise["moved"].shape[1]
    measured: dict[str, Any] = {"noise": noise.moved_to(by_noise["moved"], 0.2), "logit": logit.raised(by_noise["logits"])}
    if by_pixels is None:
        measured |= dict.fromkeys(
            ("margin", "perturbation", "patch", "pixel map", "transform"), NotDone("--no-pixels leaves out the searches over pixels")
        )
    else:
        measured["margin"] = margin.reached(by_pixels["largest"])
        measured["perturbation"] = perturbation.reached(by_pixels["perturbed"], by_pixels["success"])
        measured["patch"] = patch.reached(by_pixels["patched"], by_pixels["patch_success"], by_pixels["patch_images"])
        measured["pixel map"] = by_pixels["pixel_map"]
        measured["transform"] = by_pixels.get("transform", ())
    tests = {name: m for name, m in measured.items() if name not in ("pixel map", "transform") and not isinstance(m, NotDone)}
    measured |= {"joint": joint.together(tests), "patch share": measured["patch"], "clearness": measured["perturbation"]}
    measured |= {"noise map": by_noise["noise_map"], "dormant": by_noise.get("dormant", STILL)}
    return registry.findings(measured, torch.arange(classes), classes, levels, paid)


def judge(by_noise: dict[str, Any], by_pixels: dict[str, Any] | None, limit: float | None = None) -> Verdict:
    """The verdict, at the limit of a calibration where one is given."""
    levels = Levels(calibrated=limit)
    return decide(findings(by_noise, by_pixels, levels), levels)


def one(name: str, by_noise: dict[str, Any], by_pixels: dict[str, Any] | None = None) -> Finding:
    """What one criterion finds."""
    return next(f for f in findings(by_noise, by_pixels, Levels()) if f.criterion == name)
