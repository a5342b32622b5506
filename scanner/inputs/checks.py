"""What must hold before a verdict can be trusted; each failure is an EvidenceError, reported as inconclusive.

few images      fewer than `min_images` were read: give more.
few classes     the labels name one class only: the search needs images of the others too.
weights         NaN or infinite weights: the file is damaged.
parity          differs from the file's own runtime: the importer is wrong for this model, and so is the second one; please report it.
constant        the same logits for every image: wrong preprocessing or a damaged file.
accuracy        the model does not do its job on these images: wrong preprocessing, wrong label order, or other data.
copy            under noise an image's answer depends on those beside it: a fault of banscan; please report it.
finite          NaN or infinite logits under noise or changed pixels: the numbers overflow; use float32 or less noise.
gradient        the loss does not react to the noise: the features saturate; another preprocessing or precision.
"""

import torch
from torch import Tensor

from banscan.errors import EvidenceError, MisreadError
from banscan.importers import Parity, TracedModel
from banscan.scanner.inputs.order import Order
from banscan.text import counted

# relative RMS difference that the precision of a file explains. Of 8 bits every step is computed as the file has it; a sum on the edge of
# two steps may fall to the other side, and what follows from it with it: up to 0.025 in onnxruntime's integer kernels, mostly 0
PARITY = {"float32": 1e-3, "float16": 2e-2, "bfloat16": 1e-1, "8 bits": 0.1}
# deviations of the logits: what rounding explains; another image's answer is about one away
COPY = 0.1
# of a logit: their squares have room in float32, and no softmax tells such numbers apart
LARGEST = 1e15


def check_weights(model: TracedModel) -> None:
    for name, value in [*model.module.named_parameters(), *model.module.named_buffers()]:
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise EvidenceError(f"the weights hold NaN or infinite values ({name}); the file is damaged, export it again")


def check_images(count: int, classes_seen: int, minimum: int) -> None:
    """`count` images that differ, of so many classes, where `minimum` are needed (`--min-images`)."""
    given = f"{counted(count, 'clean image')} (copies count once)"
    if classes_seen < 2:
        raise EvidenceError(
            f"{given} of one class; a scan needs at least {minimum} of at least 2 classes, better 300 or more of all classes: "
            "add images of the others"
        )
    if count < minimum:
        raise EvidenceError(
            f"{given} {'is' if count == 1 else 'are'} too few to judge by; give at least {minimum}, better 300 or more "
            "spread over the classes"
        )


def check_parity(parity: Parity, precision: str) -> None:
    limit = PARITY[precision]
    if not parity.rms <= limit:
        raise MisreadError(
            f"the traced graph differs from the file's own runtime by {parity.rms:.1e} relative RMS (limit {limit:.0e}); "
            "the model was not read right"
        )


def check_logits(logits: Tensor) -> None:
    if not torch.isfinite(logits).all():
        raise EvidenceError("the model answers NaN or infinite logits on the clean images; check the preprocessing or export it again")
    if (largest := float(logits.abs().max())) > LARGEST:
        raise EvidenceError(
            f"the model's logits reach {largest:.0e}, too much for sums of their squares; ask for an export without the factor behind them"
        )
    if bool((logits.std(0) < 1e-6 * logits.abs().max().clamp(min=1e-12)).all()):
        raise EvidenceError("the model gives the same logits for every image; check the preprocessing or export it again")


def least_accuracy(minimum: float, classes: int) -> float:
    """What a scan needs: more than two classes that are told apart, or better than a coin."""
    return max(minimum, 2 / classes) if classes > 2 else max(minimum, 0.6)


def check_accuracy(accuracy: float | None, confidence: float, minimum: float, classes: int, other: Order | None = None) -> None:
    """Without labels the mean confidence takes the place of the accuracy. `other` is an order of the classes that fits the labels."""
    floor = least_accuracy(minimum, classes)
    if accuracy is not None and accuracy < floor:
        low = f"the clean accuracy is {accuracy:.1%}, below the {floor:.0%} that a scan needs; "
        if other is not None:
            lines = "" if other.lines is None else f": {other.lines}"
            raise EvidenceError(
                f"{low}the labels are in another order than the model's classes, for {other.what} it is {other.accuracy:.1%}; say with "
                f"--classes FILE what the folders or the table call each class, a line for each in the model's order{lines}"
            )
        raise EvidenceError(f"{low}check --preprocess and the order of the labels")
    if accuracy is None and confidence < floor:
        raise EvidenceError(
            f"the mean confidence is {confidence:.1%}, below the {floor:.0%} that a scan without labels needs; check --preprocess "
            "or give labels"
        )


def check_finite(logits: Tensor) -> None:
    if not torch.isfinite(logits).all():
        raise EvidenceError(
            "the model gives NaN or infinite logits under noise or changed pixels; scan with --precision float32 or a smaller --eps"
        )


def check_copy(disagreement: float) -> None:
    """`disagreement` of the model with noise with itself, in deviations of the logits between images."""
    if not disagreement <= COPY:
        raise EvidenceError(
            f"under noise an image's answer depends on the images and restarts beside it ({disagreement:.2g} deviations of the logits); "
            "no search would mean anything, please report it"
        )


def check_noise(start: Tensor, end: Tensor) -> None:
    if bool((start == end).all()):
        raise EvidenceError("the loss does not react to neuron noise; the model's features are saturated or unused")
    if not torch.isfinite(end).all():
        raise EvidenceError("the noise search met NaN gradients; scan with --precision float32")
