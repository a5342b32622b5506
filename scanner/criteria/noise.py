"""Neuron noise aimed at each class in turn (BAN, Eq. 3 and 4): a backdoor is a shortcut that noise finds."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from banscan.scanner.criteria import outlier
from banscan.scanner.criteria.base import Context, Criterion, Earlier, NotDone, too_few
from banscan.scanner.criteria.outlier import ClassValues
from banscan.scanner.effort import at_most
from banscan.scanner.extent import Extent
from banscan.scanner.findings import DECIDES, DEVIATIONS, ONE, Finding
from banscan.scanner.inputs import checks
from banscan.scanner.machine.forecast import NOISE as TOWARDS_NOISE
from banscan.scanner.machine.forecast import Work, counter
from banscan.scanner.machine.progress import Counter, Progress
from banscan.scanner.search.neuron_noise import logits_under, start
from banscan.scanner.search.strength import moved_share, some, strength
from banscan.scanner.search.strength import passes as strength_passes
from banscan.scanner.subject import Subject

# noise that moves fewer images than this to the median class, or all but so few, reaches all classes alike
BLIND = 0.05
# in place of a prediction
UNREAD = -1
SENTENCE = "noise aimed at class {c} moves this share of the other classes' images there: {seen}"


@dataclass(frozen=True, kw_only=True)
class Moved(ClassValues):
    """What noise of strength `eps` aimed at each class does.

    Attributes:
        given: whether the strength is the user's.
        moved: [K, T], the share of the other classes' images predicted as it.
        answers: [T, N], the predictions in the first restart, for those who show them; UNREAD of images that were not looked at.
    """

    eps: float
    given: bool
    moved: Tensor
    answers: Tensor | None = field(default=None, repr=False, compare=False)

    @property
    def blind(self) -> str | None:
        reached = float(outlier.among(self.moved.mean(0), self.drawn).median())
        if BLIND <= reached <= 1 - BLIND:
            return None
        amount = "few" if reached < BLIND else "many"
        by = f"of strength {self.eps:.2g}" if self.given else f"of strength {self.eps:.2g}, the best that the scan found,"
        asks = "leave out --eps, and the scan finds a strength" if self.given else "scan another export of the network, if there is one"
        return (
            f"noise {by} moves {reached:.0%} of the other classes' images to the median class, too {amount} to tell classes apart; {asks}"
        )


def work(extent: Extent) -> tuple[Work, ...]:
    """Finding the strength, where nobody gave it, and the search; what was found is read off in float32, which takes as long as a step."""
    settings, budget = extent.settings, extent.effort.noise
    step = settings.steps * extent.drawn + at_most(extent.images, budget.read)
    search = Work("searching for neuron noise", TOWARDS_NOISE, extent.restarts * extent.searched * step)
    if settings.eps:
        return (search,)
    return Work("finding the strength of the noise", TOWARDS_NOISE, strength_passes(extent)), search


def measure(subject: Subject, earlier: Earlier, progress: Progress) -> Moved | NotDone:
    """One search for every class and restart, with the strength that the model itself asks for."""
    few = too_few(subject)
    if few is not None:
        return few
    neurons, settings, searched = subject.neurons, subject.settings, subject.searched
    budget = subject.effort.noise
    *finding, search = work(subject.extent)
    eps = settings.eps or _strength(subject, counter(progress, finding[0]))
    restarts = subject.restarts
    prepared, labels, numbers = some(neurons.prepared_exact, subject.labels, budget.read)
    advance = counter(progress, search)
    rows = restarts * (1 + len(searched))
    # the first restarts are those of the untargeted search
    noise = start(neurons.fast, rows, eps, settings.seed, settings.ball)[restarts:]
    moved, answers = [], []
    for k, own in enumerate(noise.split(len(searched))):
        found = neurons.search(own, searched, eps=eps, seed=settings.seed + k, settings=settings, budget=budget, progress=advance)
        checks.check_noise(own, found)
        logits, _ = logits_under(neurons.exact, prepared, found)
        advance(len(found) * len(labels))
        checks.check_finite(logits)
        moved.append(moved_share(logits, searched, labels))
        answers.append(torch.full((len(searched), len(subject.labels)), UNREAD).index_copy(1, numbers, logits.argmax(2)))
    return replace(moved_to(torch.stack(moved), eps, subject.drawn), given=settings.eps is not None, answers=answers[0])


def _strength(subject: Subject, count: Counter) -> float:
    """The strength that the model itself asks for."""
    found = strength(subject.neurons, subject.standing, subject.settings, subject.effort.noise, count)
    count.end()
    return found


def moved_to(moved: Tensor, eps: float, drawn: Tensor | None = None) -> Moved:
    """The measurement from shares [K, T]; `drawn` as in `ClassValues`."""
    values = outlier.of_shares(moved, moved.mean(0), drawn)
    return Moved(values.rows, values.least, values.shown, drawn=drawn, eps=eps, given=False, moved=moved)


def find(criterion: Criterion, measured: Moved, context: Context) -> Finding:
    """An outlier test."""
    return outlier.find(criterion, measured, context, SENTENCE)


NOISE = Criterion(
    name="noise",
    asks="Does neuron noise move the other classes' images to one class most easily?",
    sees=ONE,
    power=DECIDES,
    unit=DEVIATIONS,
    measure=measure,
    find=find,
    work=work,
    searches=True,
    compares=True,
)
