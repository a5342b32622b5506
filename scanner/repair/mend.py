"""From a scan to a file without the backdoor: tuned, measured, written and compared."""

from collections.abc import Callable
from pathlib import Path

from banscan.errors import EvidenceError
from banscan.scanner.inputs.images import CleanSet
from banscan.scanner.machine.device import repeatable
from banscan.scanner.machine.progress import Progress, silent
from banscan.scanner.repair import answers, checkpoint, trainable, written
from banscan.scanner.repair.course import Course
from banscan.scanner.repair.job import Job, prepare
from banscan.scanner.repair.result import Mended
from banscan.scanner.repair.settings import ANP, Tuning
from banscan.scanner.repair.trainable import State
from banscan.scanner.scan import PARITY_IMAGES, Examined
from banscan.text import counted

# called after every epoch: its number, the losses on clean images and under noise (NaN where there is none), accuracy on the images kept
OnEpoch = Callable[[int, float, float, float], None]


def unheard(epoch: int, clean: float, noisy: float, accuracy: float) -> None:
    """Tells nobody."""


def mend(
    examined: Examined,
    clean: CleanSet,
    output: Path,
    *,
    method: str,
    how: Tuning,
    max_drop: float,
    progress: Progress = silent,
    on_epoch: OnEpoch = unheard,
) -> Mended:
    """The tuning and the writing, for a model that was scanned and can be written; on the device of the scan.

    With "ban", the noise pulls the images where the scan says that a trigger sends them. Where it says nothing, noise raises the loss
    (Eq. 4) and the settings are those of `settings.unguided`, as always with "anp".

    Args:
        clean: the images to tune on; a fifth of them is kept from the tuning to measure on.
        output: of the format that was scanned; what is done is kept beside it, so that a second call goes on from the last epoch.
        method: one of `settings.METHODS`.
        how: the settings of Eq. 8; with "finetune" those of the noise are not used.
        max_drop, progress, on_epoch: as in `repair`.

    Raises:
        UsageError: the file beside the output is of another repair, or the output cannot be written.
        EvidenceError: too few images, or more accuracy lost than `max_drop`; nothing was written.
        BanscanError: the written file would not be the tuned model; nothing was written.
    """
    todo = prepare(examined, clean, method, how)
    model, place, key = todo.model, output.with_name(f"{output.name}.partial"), checkpoint.key(todo, clean)
    with repeatable(model.device):
        state, losses = checkpoint.resume(place, key, model.device) or (_start(todo), [])

        def after() -> None:
            on_epoch(state.epoch, *losses[-1], answers.accuracy_so_far(model, state, *todo.measured_on))
            checkpoint.keep(place, key, state, losses)

        course = Course(model, todo.preprocess, todo.how, *todo.tuned_on, todo.limits, todo.aims)
        course.run(state, losses, stage="epoch", progress=progress, after=after)
        tuned = trainable.finished(model, state, todo.tuned_on[0])
        first, last = (answers.accuracy(model, weights, *todo.measured_on) for weights in ({}, tuned))
    seen, held = (len(labels) for _, labels in (todo.tuned_on, todo.measured_on))
    if not first - last <= max_drop:
        place.unlink(missing_ok=True)
        raise EvidenceError(
            f"{model.source.path}: the benign accuracy fell from {first:.1%} to {last:.1%} on {counted(held, 'image')} kept from the "
            f"tuning, more than --max-accuracy-drop {max_drop:g} allows; nothing was written"
        )
    parity = written.write(model, tuned, output, todo.x[:PARITY_IMAGES])
    place.unlink(missing_ok=True)
    return Mended(output, method, todo.how, seen, held, (first, last), tuple(losses), parity)


def _start(todo: Job) -> State:
    """The model as it is given, in the form that is trained."""
    return trainable.start(todo.model, todo.tuned_on[0], depth=todo.how.depth, masked=todo.method == ANP)
