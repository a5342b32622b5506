"""What a network takes and gives, found by running it on tensors without values: no memory is taken, whatever its code asks for."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from banscan.errors import ModelError, UsageError
from banscan.importers.model import EXAMPLE_SIZE, Input
from banscan.importers.normal.input import flat_input, image_input
from banscan.importers.pytorch import language, outputs
from banscan.importers.pytorch.script import Script
from banscan.text import counted

# sides tried where the file does not say what it was traced with; the only one that a size-bound network takes is its own
SIZES = (EXAMPLE_SIZE, 32, 28, 64, 96, 128, 160, 192, 227, 240, 256, 299, 320, 331, 384, 448, 512, 48, 100, 112, 120, 150, 200)
LAYOUTS = (("NCHW", 3), ("NCHW", 1), ("NHWC", 3), ("NHWC", 1))
# pixels that strides of usual networks leave out at most
NEAR = 32
# what torch raises for images that do not fit
UNFIT = (RuntimeError, ValueError, IndexError, TypeError, NotImplementedError, language.RaisedError)


def image(path: Path, module: Script, size: tuple[int, int] | None) -> Input:
    """Channels, layout and size: those it was traced with, or the first that it takes.

    Raises:
        ModelError: it takes no images that are tried, or only as many at once as it was traced with.
    """
    sizes = module.sizes
    if sizes is not None and (len(sizes) == 4 or (len(sizes) == 2 and sizes[1] is not None)):
        flat = flat_input(path, module.image, sizes[1]) if len(sizes) == 2 and sizes[1] is not None else None
        spec = flat or image_input(path, module.image, list(sizes[1:])).sized(size)
        module.flat = spec.flat
        _check_batch(module, spec, sizes[0])
        return spec
    if sizes is not None:
        raise ModelError(
            f"it was traced with {counted(len(sizes), 'axis', 'axes')}; expected images [N, channels, height, width], grey or RGB"
        )
    return _tried(module, size)


def _tried(module: Script, size: tuple[int, int] | None) -> Input:
    """The layout, channels and size that a network takes which does not say: those asked for, where it takes them."""
    reasons: list[str] = []
    for layout, channels in LAYOUTS if size is not None else ():
        spec = Input("image", layout, channels, None, None).sized(size)
        if _fits(module, spec):
            return spec
    for layout, channels in LAYOUTS:
        taken: list[int] = []
        for side in SIZES:
            spec = Input("image", layout, channels, side, side)
            reason = failure(module, spec, 2)
            mixed = None if reason else _mixed(module, spec)
            if mixed is not None:
                reasons.insert(0, mixed)
            elif reason is not None:
                reasons.append(reason)
            else:
                taken.append(side)
                if len(taken) == 2:
                    break
        if len(taken) == 2 and EXAMPLE_SIZE not in taken:
            raise ModelError(f"it takes images of {taken[0]} and of {taken[1]} pixels, but not of every size; say which with --size")
        if len(taken) > 1:
            return Input("image", layout, channels, None, None)
        if taken:
            spec = Input("image", layout, channels, taken[0], taken[0])
            return replace(spec, sides=_around(module, spec))
    raise ModelError(f"it takes no images of a usual size ({reasons[0]}); say its own with --size, or export it as ONNX, which says it")


def _around(module: Script, spec: Input) -> tuple[int, int] | None:
    """The least and the largest of the sides next to its own that a network takes as well; None where it takes no other."""

    def taken(side: int) -> bool:
        return _fits(module, replace(spec, height=side, width=side))

    assert spec.height is not None
    low = high = spec.height
    while low > max(1, spec.height - NEAR) and taken(low - 1):
        low -= 1
    while high < spec.height + NEAR and taken(high + 1):
        high += 1
    return (low, high) if low < high else None


def _fits(module: Script, spec: Input) -> bool:
    """Whether it takes images of this kind and has an answer for each."""
    return failure(module, spec, 2) is None and _mixed(module, spec) is None


def failure(module: Script, spec: Input, batch: int) -> str | None:
    """Why it does not take so many images of this kind; None where it does."""
    try:
        _run(module, spec, batch)
    except UNFIT as error:
        return _line(error)
    return None


def _mixed(module: Script, spec: Input) -> str | None:
    """Why images of this kind are not the network's own, though it takes them; None where it has an answer for each.

    A view(-1, n) takes every size whose values are a multiple of n, and makes several rows of one image.
    """
    shapes = []
    try:
        for batch in (2, 3):
            values = _run(module, spec, batch)
            shapes.append([tuple(leaf.value.shape) for leaf in outputs.leaves(values[module.output], values)])
    except UNFIT:  # said where it is asked for
        return None
    answers = list(zip(*shapes, strict=False))
    if not answers or any((2, 3) in zip(two, three, strict=False) for two, three in answers):
        return None
    return f"two images of {spec.height} pixels get answers of {list(answers[0][0])}, not one row each"


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _run(module: Script, spec: Input, batch: int, notes: list[Any] | None = None, *, exact: bool = False) -> dict[str, object]:
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True):
        images = torch.empty(batch, *spec.example().shape[1:], dtype=module.image_type if exact else torch.float32)
        return module.run(images, replace(module.types, exact=exact), notes)


def check_types(module: Script, spec: Input) -> None:
    """The network is read in float32; with the types that the file has, its code must decide the same.

    Raises:
        ModelError: it does not, or it cannot be computed in these types.
    """
    if not module.typed:
        return
    held: list[Any] = []
    exact: list[Any] = []
    _run(module, spec, 2, held)
    try:
        _run(module, spec, 2, exact, exact=True)
    except UNFIT as error:
        raise ModelError(f"its code cannot be computed in the types of numbers that it has ({_line(error)}); save it in float32") from error
    if held != exact:
        raise ModelError("its code decides by the types of its numbers what is computed, which is not read; save it in float32")


def _check_batch(module: Script, spec: Input, traced: int | None) -> None:
    """A network that only takes as many images as it was traced with says so itself."""
    reasons = [r for r in (failure(module, spec, batch) for batch in (2, 3)) if r is not None]
    if not reasons:
        return
    reason = reasons[0]
    if traced is not None and failure(module, spec, traced) is None:
        raise ModelError(
            f"its code takes {counted(traced, 'image')} at once and no other number ({reason}); trace it again with code that "
            "leaves the batch open, as x.flatten(1) instead of x.view(n, -1)"
        )
    raise ModelError(f"its code cannot be computed for images of the size that it was traced with ({reason}); export it again")


def choose(path: Path, module: Script, spec: Input, wanted: str | None) -> None:
    """Sets which of the tensors that the network returns is taken.

    Raises:
        UsageError: one is asked for where there is only one.
        ModelError: it has no such output, or several that could be meant.
    """
    values = _run(module, spec, 2)
    found = outputs.leaves(values[module.output], values)
    if len(found) == 1 and wanted is not None and found[0].called != wanted:
        raise UsageError(f"{path}: --logits names one of several outputs; this file has only one")
    leaf = outputs.choose(found, outputs.makers(module.steps), wanted)
    module.place, module.chosen = leaf.place, leaf.called if leaf.place else None
