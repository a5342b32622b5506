"""What a criterion says below its limit is true there: a reader of JSON sees the sentences of all of them."""

import torch

from banscan.scanner.findings import Finding
from banscan.scanner.levels import Levels
from banscan.scanner.search.class_map import Mapped
from tests.scanner.measured import clean, findings, neurons, pixels

CLASSES = 10
EVERYONE = tuple((c + 1) % CLASSES for c in range(CLASSES))


def said(success: float, along: float) -> dict[str, Finding]:
    """Findings where one perturbation moves this share of the images to class 3, the others few, and another this share along a map."""
    shares = torch.full((CLASSES,), 0.3).index_fill(0, torch.tensor(3), success)
    seen = pixels(CLASSES, perturbed=shares, success=shares, pixel_map=(Mapped(EVERYONE, along), None))
    return {f.criterion: f for f in findings(neurons(clean(CLASSES)), seen, Levels())}


def test_below_the_limit() -> None:
    calm = said(0.4, 0.2)
    assert not any(f.exceeds or f.suspects for f in calm.values())
    assert calm["clearness"].sentence == (
        "one perturbation moves 40% of the other classes' images to class 3, and the model is less sure of them than of clean images"
    )
    assert calm["pixel map"].sentence.endswith("moves 20% of the images it was not made on along a one-to-one map of the classes")
    assert calm["joint"].sentence.endswith("is in front in all tests together, no further than chance explains")


def test_above_it() -> None:
    found = said(0.999, 0.9)
    assert found["clearness"].exceeds
    assert found["clearness"].sentence.endswith("to class 3, and the model is as sure of them as of clean images")
    assert found["pixel map"].exceeds
    assert found["pixel map"].sentence.endswith("along a one-to-one map of the classes, as an all-to-all trigger does")
    assert found["joint"].exceeds
    assert found["joint"].sentence == "class 3 is singled out by all tests together"
