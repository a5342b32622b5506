"""What a scan still has to do, in passes of an image through the network, so that its end can be foretold."""

from collections.abc import Collection, Sequence

import torch

from banscan.importers import TracedModel
from banscan.scanner import aside, plan, race
from banscan.scanner.criteria import registry
from banscan.scanner.criteria.base import Criterion
from banscan.scanner.extent import Extent
from banscan.scanner.inputs import preprocess, trial
from banscan.scanner.machine.forecast import ANSWER, GRADIENT, HALF, LEARNT, LOOK, NEURONS, NOISE, PLANTED, TUNED, Forecast, Work
from banscan.scanner.machine.progress import Progress
from banscan.scanner.search import noisy_model, taps
from banscan.scanner.settings import Settings
from banscan.scanner.subject import MEASURING, Subject, passes

ANSWERING = "answering the clean images"
# of a pass in bfloat16, in those in float32, where nothing was measured yet; of a step of noise, whatever it passes through
FASTER, STEP = 0.25, 0.02
# of a tuning, with its noise on neurons, pixels and patches, of a training from scratch in bfloat16, and of a planting behind the layers
# that stay as they are
TUNING, LEARNING, PLANTING = 18.0, 2.0, 2.7


def everything(progress: Progress, model: TracedModel, extent: Extent, precision: torch.dtype, *, given: bool) -> None:
    """Tells all of a scan behind the reading of the model and the images, where somebody wants to know; `given`: the preprocessing is."""
    if isinstance(progress, Forecast):
        tried = 0 if given else trial.tries(model, len(preprocess.CANDIDATES), extent.images)
        measured = passes(model, extent.settings, precision) * extent.images
        progress.plan(before(extent, model.classes, tried, measured), costs(model, extent.settings, precision))


def searches(progress: Progress, subject: Subject, only: Collection[str] | None = None, note: str = "") -> None:
    """Likewise all from the searches on, or from their second look at those named on; `note` as in `Forecast.plan`."""
    if isinstance(progress, Forecast):
        progress.plan(asked(subject, only), progress.costs, note)


def rest(progress: Progress, works: Sequence[Work], note: str) -> None:
    """Likewise all that is left, by itself."""
    if isinstance(progress, Forecast):
        progress.plan(works, progress.costs, note)


def before(extent: Extent, classes: int, tried: int, measured: int) -> tuple[Work, ...]:
    """The work of a scan, as far as it is known before any; so many passes to try preprocessings, and to measure the neurons."""
    trying = (Work(trial.TRYING, ANSWER, tried),) if tried else ()
    ready = (Work(ANSWERING, ANSWER, extent.images), Work(MEASURING, NEURONS, measured))
    searching = [c for c in registry.CRITERIA if extent.settings.pixels or not c.pixels]
    return *trying, *ready, *race.work(extent, classes), *_searching(searching, extent)


def asked(subject: Subject, only: Collection[str] | None = None) -> tuple[Work, ...]:
    """The work from the searches on, of those that can be asked."""
    searching = [c for c in registry.CRITERIA if (only is None or c.name in only) and plan.why_not(c, subject) is None]
    return _searching(searching, subject.extent)


def _searching(criteria: Collection[Criterion], extent: Extent) -> tuple[Work, ...]:
    """What these criteria do, and what follows them."""
    return *(work for c in criteria for work in c.work(extent)), *aside.work(extent)


def costs(model: TracedModel, settings: Settings, precision: torch.dtype) -> dict[str, float]:
    """Of a pass of every kind, in answers to an image, as long as nothing was measured."""
    noisy = noisy_model.layers(model, settings.layers_without)
    share = taps.behind(model.module.graph, noisy[0].node) if noisy else 1.0
    look = FASTER if precision != torch.float32 else 1.0
    neurons = (1 + (1 + look) * (1 - share)) / 3
    training = {TUNED: TUNING, LEARNT: LEARNING, PLANTED: PLANTING}
    return {ANSWER: 1.0, LOOK: look, GRADIENT: HALF * look, NOISE: HALF * look * share + STEP, NEURONS: neurons, **training}
