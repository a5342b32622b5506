"""A neuron that no clean image switches on, and that sends all images to one class once it is on: a switch written into the weights."""

import math

from banscan.scanner.criteria.base import Context, Criterion, Earlier, NotDone
from banscan.scanner.criteria.share import at_least, score, share_of
from banscan.scanner.extent import Extent
from banscan.scanner.findings import DECIDES, ONE, SHARE, Finding
from banscan.scanner.levels import BACKDOORED, OWN_NULL
from banscan.scanner.machine.forecast import ANSWER, Work, counter
from banscan.scanner.machine.progress import Progress
from banscan.scanner.search import dormant
from banscan.scanner.search.dormant import Led, Searched
from banscan.scanner.subject import Subject

# share of the images that a forced neuron moves to one class: of dormant neurons of networks without a switch none does
LIMIT = 0.5
# neurons that are listed by number
LISTED = 6


def work(extent: Extent) -> tuple[Work, ...]:
    """The forcing."""
    return (Work("forcing dormant neurons", ANSWER, dormant.BUDGET),)


def measure(subject: Subject, earlier: Earlier, progress: Progress) -> Searched | NotDone:
    """Dormant neurons forced to what is typical of their layer's living ones; classes need not be many, only two."""
    (search,) = work(subject.extent)
    count = counter(progress, search)
    found = dormant.search(subject.model, subject.x, subject.logits, count)
    count.end()
    return found


def least_share(led: Led) -> float:
    """The share of all images that are moved, at least: Clopper and Pearson's bound, which fails with probability BACKDOORED."""
    return at_least(led.hits, led.images, BACKDOORED)


def find(criterion: Criterion, measured: Searched, context: Context) -> Finding:
    """Counts where the images move and living neurons of the layer, forced to the same level, do not push as far by any chance."""
    led, limit = measured.led, share_of(context.levels.own, LIMIT)
    if led is None:
        return criterion.finding(context.levels, value=0.0, limit=limit, sentence=_calm(measured), partly=_partly(measured))
    least = least_share(led)
    surprise = max(0.0, math.log(max(led.p_value, 1e-300)) / math.log(OWN_NULL))
    return criterion.finding(
        context.levels,
        classes=(led.target,),
        value=least,
        limit=limit,
        score=min(score(least, LIMIT), surprise),
        sentence=_sentence(led),
        partly=_partly(measured),
    )


def _sentence(led: Led) -> str:
    neurons = _neurons(led)
    one = len(led.neurons) == 1
    where = "" if led.everywhere else " at one place"
    living = (
        f"of which {'one' if one else 'as many'} forced likewise {'moves' if one else 'move'} at most {led.most:.0%} of them and "
        f"{'pushes' if one else 'push'} {led.push / max(*led.living, 1e-12):.0f} times less far"
        if led.living
        else "with which nothing can be compared"
    )
    return (
        f"{neurons} of layer {led.layer} ({led.channels} neurons), which clean images leave switched off, {'sends' if one else 'send'} "
        f"{led.hits / led.images:.0%} of the images to class {led.target} when forced{where} to twice what the living ones rise to, "
        f"{living}"
    )


def _neurons(led: Led) -> str:
    if len(led.neurons) == 1:
        return f"neuron {led.neurons[0]}"
    if len(led.neurons) > LISTED:
        return f"{len(led.neurons)} neurons together ({', '.join(map(str, led.neurons[:LISTED]))}, …)"
    return f"neurons {', '.join(map(str, led.neurons[:-1]))} and {led.neurons[-1]} together"


def _calm(measured: Searched) -> str:
    if measured.dormant == 0:
        return f"clean images switch all of the {measured.neurons} neurons on"
    return (
        f"of {measured.neurons} neurons clean images leave {measured.dormant} switched off; {measured.tried} of these were forced, and "
        f"none moves {dormant.MOVES:.0%} of the images to one class"
    )


def _partly(measured: Searched) -> str | None:
    left = measured.dormant - measured.tried
    if left == 0:
        return None
    why = "too many" if measured.alone == 0 else f"{measured.alone} of them in layers with too few living ones to compare with"
    return f"{left} of the {measured.dormant} neurons that clean images leave switched off were not forced ({why})"


DORMANT = Criterion(
    name="dormant",
    asks="Does a neuron that clean images leave off move them to one class once on (lower bound)?",
    sees=ONE,
    power=DECIDES,
    unit=SHARE,
    measure=measure,
    find=find,
    work=work,
    own_null=True,
)
