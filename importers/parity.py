"""Does the traced graph compute what the file computes? Checked on the user's own images at every scan."""

import hashlib
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

# outputs below this are nothing to compare with, nor is what they differ by where it is less than this share of what they have in common:
# of that, float32 resolves too little
SMALLEST, EQUAL = 1e-12, 1e-2
# relative changes of the weights as rounding makes them, and how many are tried; what a change of the answers is, relative to their size,
# beyond what networks without steps show
ROUNDING, TRIALS, STEADY = 1e-6, 5, 1e-3
# what the runtime answers may be so many times as far off as what was tried
NEAR = 3
# images at once for an answer whose first axis is not that of the images
FEW = 64


@dataclass(frozen=True)
class Parity:
    """Traced against source outputs, on so many images: RMS difference and largest difference, relative to how far apart the outputs for an
    image are.

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
    if found.rms <= STEADY or found.images != len(images) or source.precision != "float32":
        return found
    spread = _spread(model, images, logits)
    steady = spread <= STEADY
    # an answer is left out where it is one of those that rounding gives
    steady |= torch.from_numpy(_apart(model, logits, theirs)) > NEAR * spread
    count = int(steady.sum())
    if count == len(images):
        return found
    if 2 * count <= len(images):
        raise EvidenceError(
            f"rounding errors decide the answers to {len(images) - count} of {len(images)} images, so that what was read cannot be checked "
            f"against {source.format}'s own runtime; a network with steps needs the pixels that it was made for: say how they are scaled "
            "with --preprocess"
        )
    return replace(compared(model, logits[steady], theirs[steady.numpy()]), unsteady=len(images) - count)


def _spread(model: TracedModel, images: Tensor, logits: Tensor) -> Tensor:
    """How far rounding moves the outputs for every image, in units of `compared`, float64 [N]; at most, of a few tries."""
    # by the images: the same in every scan, and not known to who made the file
    seed = hashlib.sha256(images.contiguous().numpy().tobytes()).digest()[:7]
    generator = torch.Generator().manual_seed(int.from_bytes(seed, "big"))
    spread, outputs = torch.zeros(len(images), dtype=torch.float64), _flat(model, logits)
    constants = {**dict(model.module.named_parameters()), **dict(model.module.named_buffers())}
    weights = {name: value for name, value in constants.items() if value.is_floating_point()}
    for _ in range(TRIALS):
        changed = {}
        for name, value in weights.items():
            # each by itself, and all alike: of many errors little is left in a sum
            error = torch.randn(value.shape, generator=generator) + torch.randn((), generator=generator)
            changed[name] = value * (1 + ROUNDING * error.to(value))
        other = torch.func.functional_call(model.module, changed, (images.to(model.device),)).cpu()
        spread = torch.maximum(spread, torch.from_numpy(_relative(outputs, _flat(model, other))))
    return spread


def compared(model: TracedModel, logits: Tensor, theirs: np.ndarray) -> Parity:
    """Logits [N, classes] against the runtime's answers [M, ...] for the first of these images, its output's own axis of images in front.

    Raises:
        MisreadError: the answers have another shape.
    """
    ours = _flat(model, logits[: len(theirs)])
    if theirs.size == 0:
        return Parity(float("nan"), float("nan"), 0)
    if ours.size != theirs.size:
        raise MisreadError(
            f"{model.source.format}'s own runtime answers {theirs.size // len(theirs)} numbers for an image, the traced graph "
            f"{ours.size // len(theirs)}; the model was not read right"
        )
    with np.errstate(all="ignore"):  # infinite answers
        answers = theirs.reshape(len(theirs), -1).astype(np.float64)
        apart = _relative(answers, ours)
        largest = float(np.abs(ours - answers).max()) / _typical(answers)
        return Parity(float(np.sqrt(np.mean(apart**2))), largest, len(theirs))


def _flat(model: TracedModel, logits: Tensor) -> np.ndarray:
    """What the file answers by the traced graph, float64 [N, ...] with everything of an image in one."""
    made: np.ndarray = model.outputs(logits).movedim(model.output_axis, 0).double().numpy()
    return made.reshape(len(made), -1)


def _apart(model: TracedModel, logits: Tensor, theirs: np.ndarray) -> np.ndarray:
    """How far the file's answer is from the traced graph's for every image [N], in units of `compared`."""
    return _relative(theirs.reshape(len(theirs), -1).astype(np.float64), _flat(model, logits))


def _relative(answers: np.ndarray, others: np.ndarray) -> np.ndarray:
    """RMS difference of outputs [N, M] for every image [N], relative to how far apart the first are."""
    apart: np.ndarray = np.sqrt(np.mean((others - answers) ** 2, axis=1)) / _typical(answers)
    return apart


def _typical(answers: np.ndarray) -> float:
    """How far apart the outputs [N, M] for an image are: what they have in common says nothing, nor does a single image far off."""
    common = answers.mean(1, keepdims=True) if answers.shape[1] > 1 else 0.0
    apart, size = (float(np.median(np.sqrt(np.mean(part**2, axis=1)))) for part in (answers - common, answers))
    return max(apart, EQUAL * size, SMALLEST)


def _largest(model: TracedModel) -> int:
    """Bytes of the largest tensor that the graph makes of an image."""
    sizes = (penultimate.shape(node) for node in model.module.graph.nodes if node.op == "call_function")
    return 4 * max((math.prod(s for s in shape if isinstance(s, int)) for shape in sizes), default=0)
