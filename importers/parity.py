"""Does the traced graph compute what the file computes? Checked on the user's own images at every scan."""

import math
import time
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from torch import Tensor

from banscan.errors import BanscanError, EvidenceError, MisreadError
from banscan.importers import formats, sandbox
from banscan.importers.model import TracedModel
from banscan.importers.normal import penultimate
from banscan.importers.sandbox.budget import running

# outputs below this are nothing to compare with
SMALLEST = 1e-12
# relative changes of the weights as rounding makes them, and how many are tried; what a change of the answers is, relative to their size,
# beyond what networks without steps show
ROUNDING, TRIALS, STEADY = 1e-6, 3, 1e-3
# images at once for an answer whose first axis is not that of the images
FEW = 64


@dataclass(frozen=True)
class Parity:
    """Traced against source outputs: relative RMS difference and the largest difference over the largest output, on so many images.

    `unsteady` are those left out, since what a rounding error does in the traced graph itself changes their answers: a network with
    steps, as a binarised one, may fall to the other side of one. They are fewer than the others.
    """

    rms: float
    largest: float
    images: int
    unsteady: int = 0


@torch.no_grad()
def parity(model: TracedModel, images: Tensor) -> Parity | None:
    """Compares on preprocessed images [N, ...]; outputs that were stripped off the graph are put back for the comparison.

    None for a format without a second runtime.

    Raises:
        EvidenceError: that runtime cannot run the file, or rounding alone decides most answers; a MisreadError where its answers have
            another shape.
    """
    source = model.source
    if formats.of(source).run is None:
        return None
    begin = time.perf_counter()
    logits = model.logits(images).cpu()
    budget = running(source.path, time.perf_counter() - begin, len(images) * _largest(model), torch.get_num_threads())
    arguments = {"source": asdict(source) | {"path": str(source.path)}}
    try:
        answers = [
            sandbox.call("run", arguments, {"images": part}, path=source.path, budget=budget)[0].numpy()
            for part in images.split(FEW if model.output_axis else len(images))
        ]
    except BanscanError as error:
        reason = str(error).removeprefix(f"{source.path}: ")
        raise EvidenceError(f"{source.format}'s own runtime cannot run the file ({reason}); what was read cannot be checked") from error
    theirs = np.concatenate([np.moveaxis(answer, model.output_axis, 0) for answer in answers])
    found = compared(model, logits, theirs)
    if found.rms <= STEADY or found.images != len(images):
        return found
    steady = _steady(model, images, logits)
    count = int(steady.sum())
    if count == len(images):
        return found
    if 2 * count < len(images):
        raise EvidenceError(
            f"rounding errors decide the answers to {len(images) - count} of {len(images)} images, so that what was read cannot be checked "
            f"against {source.format}'s own runtime; a network with steps needs the pixels that it was made for: say how they are scaled "
            "with --preprocess"
        )
    return replace(compared(model, logits[steady], theirs[steady.numpy()]), unsteady=len(images) - count)


def _steady(model: TracedModel, images: Tensor, logits: Tensor) -> Tensor:
    """Which of the images [N] get the same logits [N, classes] whatever rounding does."""
    generator = torch.Generator().manual_seed(0)
    limit = STEADY * float(logits.square().mean().sqrt())
    steady = torch.ones(len(images), dtype=torch.bool)
    constants = {**dict(model.module.named_parameters()), **dict(model.module.named_buffers())}
    weights = {name: value for name, value in constants.items() if value.is_floating_point()}
    for _ in range(TRIALS):
        errors = {name: torch.randn(value.shape, generator=generator).to(value) for name, value in weights.items()}
        changed = {name: value * (1 + ROUNDING * errors[name]) for name, value in weights.items()}
        other = torch.func.functional_call(model.module, changed, (images.to(model.device),)).cpu()
        steady &= (other - logits).square().mean(1).sqrt() <= limit
    return steady


def compared(model: TracedModel, logits: Tensor, theirs: np.ndarray) -> Parity:
    """Logits [N, classes] against the runtime's answers [M, ...] for the first of these images, its output's own axis of images in front.

    Raises:
        MisreadError: the answers have another shape.
    """
    ours = model.outputs(logits[: len(theirs)]).movedim(model.output_axis, 0).double().numpy()
    if theirs.size == 0:
        return Parity(float("nan"), float("nan"), 0)
    if ours.size != theirs.size:
        raise MisreadError(
            f"{model.source.format}'s own runtime answers {theirs.size // len(theirs)} numbers for an image, the traced graph "
            f"{ours.size // len(theirs)}; the model was not read right"
        )
    with np.errstate(all="ignore"):  # infinite answers
        difference = ours.reshape(theirs.shape) - theirs
        typical = max(float(np.sqrt(np.mean(np.square(theirs, dtype=np.float64)))), SMALLEST)
        largest = max(float(np.abs(theirs).max()), SMALLEST)
        rms = float(np.sqrt(np.mean(difference**2))) / typical
        return Parity(rms, float(np.abs(difference).max()) / largest, len(theirs))


def _largest(model: TracedModel) -> int:
    """Bytes of the largest tensor that the graph makes of an image."""
    sizes = (penultimate.shape(node) for node in model.module.graph.nodes if node.op == "call_function")
    return 4 * max((math.prod(s for s in shape if isinstance(s, int)) for shape in sizes), default=0)
