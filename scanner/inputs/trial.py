"""The preprocessing that the images themselves support, with labels and without."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from banscan.errors import EvidenceError
from banscan.importers import TracedModel
from banscan.scanner.inputs import marks, order
from banscan.scanner.inputs.preprocess import Preprocess, answers, candidates
from banscan.scanner.inputs.support import Seen, Support, overdriven, score, support
from banscan.scanner.machine.progress import Counter, Progress, silent
from banscan.scanner.search.taps import multiplications
from banscan.text import counted

# a candidate counts as a rival when it is this close to the best, in standard errors, and as harmless when it predicts the same
RIVAL = 2.0
SAME = 0.9
# without labels one with less contrast is a rival with so much of the best one's information: contrast alone makes models surer
INFORMED = 0.6
# so many of these at most are worth a scan each
MOST = 3
# images of the first rounds; a candidate that is so far behind after one of them is not tried on more
FIRST = (24, 72)
BEHIND, POOR = 4.0, 0.5
# images of all rounds where a pass of one image takes so many multiplications, and where it takes more still; with more than SEVERAL
# candidates the last but one decides unless some of them are rivals
FEW, DEAR = (12, 24, 48, 144), 1e8
FEWEST, DEAREST = (8, 16, 48), 2e9
SEVERAL = 3
# a standard error of losses that is smaller is one of arithmetic
FINEST = 1e-4
# what progress calls it
TRYING = "trying preprocessings"
# labels that fewer of the predictions agree with may be in another order than the classes
ORDERED = 0.5
# candidates ruled out that are named in a sentence
NAMED = 3


@dataclass(frozen=True)
class Tried:
    """Every candidate that was tried, the one that was chosen or None where they leave it open, and why.

    `rivals` are those left, the best supported first, of which one that leads to the same predictions stands for another; empty where
    there are more than MOST of them, or one was chosen.
    """

    preprocess: Preprocess | None
    reason: str
    table: tuple[Support, ...]
    rivals: tuple[str, ...] = ()


@dataclass(frozen=True)
class Choice(Tried):
    """Candidates of which one was chosen."""

    preprocess: Preprocess


class UndecidedError(EvidenceError):
    """Several candidates are supported equally well; `tried` holds all of them."""

    def __init__(self, reason: str, table: tuple[Support, ...], rivals: tuple[str, ...]) -> None:
        super().__init__(reason)
        self.tried = Tried(None, reason, table, rivals)


@dataclass(frozen=True)
class _Round:
    """The candidates after a round: those that keep up, those that fell behind, and what others were ruled out by.

    `early` where only those that are far behind count as worse, since there are few images yet; `last` where there are no more to try.
    """

    kept: list[Seen]
    out: list[Seen]
    against: dict[str, str]
    early: bool
    last: bool


def choose(model: TracedModel, images: np.ndarray, labels: Tensor | None, limit: int = 200, progress: Progress = silent) -> Choice:
    """Tries every candidate on a few images, those that keep up on up to `limit`, on all where that leaves it open; takes the best.

    Where a pass is dear, far fewer images are tried, and no more than it takes until one is left; but rivals that are left are tried on
    all, since each would have a scan of its own. Without labels, what the file says of itself counts too.

    Raises:
        UndecidedError: several candidates are supported equally well and lead to different predictions.
    """
    known = candidates(images, labels is not None)
    for turn in _rounds(model, known, images, labels, limit, progress):
        best, *others = sorted(turn.kept, key=_rank)
        close = [s for s in others if turn.early or not _clear(best, s, known)]
        rivals = [s for s in close if best.same(s) < (1 if turn.early else SAME)]
        # a few images of one class say nothing
        unclear = rivals or (turn.early and others and best.diversity == 0)
        if unclear and not turn.last:
            continue
        out = sorted(turn.out, key=lambda s: (s.name in turn.against, _rank(s)))
        table = tuple(support(s.name, s.logits, s.labels) for s in (best, *others, *out))
        on = f"of {counted(len(table), 'candidate')} on up to {counted(len(best.logits), 'image')}"
        reordered = {} if labels is None else _reordered([best, *others], model.classes)
        if reordered:
            name = max(reordered, key=lambda n: reordered[n])
            table = tuple(sorted(table, key=lambda s: s.name != name))
            return Choice(known[name], f"best accuracy {on}, with the labels in another order ({reordered[name]:.3f})", table)
        if not rivals:
            # of those that nothing tells apart the most usual one: noise and gradients see the pixels in its scale
            usual = min((best, *close), key=lambda s: list(known).index(s.name)).name
            table = tuple(sorted(table, key=lambda s: s.name != usual))
            what, unit = ("most information", "") if labels is None else ("likeliest labels", "accuracy ")
            if usual != best.name:
                what = f"the most usual of those that nothing tells from the best, {best.name},"
            return Choice(known[usual], f"{what} {on} ({unit}{score(table[0]):.3f}){_told(turn.against)}", table)
    how = "with --preprocess" if labels is not None else "with --preprocess, or give labels (a folder for each class, or --labels)"
    left = _unlike((best, *rivals))
    more = len(left) - MOST
    names = (*left[:MOST], f"{more} more") if more > 0 else left
    same = f"{best.same(rivals[0]):.0%} the same under {best.name} and {rivals[0].name}{_told(turn.against)}"
    raise UndecidedError(
        f"the images support the preprocessings {', '.join(names[:-1])} and {names[-1]} equally well, but the model predicts differently "
        f"under them ({same}); say which is right {how}",
        table,
        () if more > 0 else left,
    )


def _rounds(
    model: TracedModel, known: dict[str, Preprocess], images: np.ndarray, labels: Tensor | None, limit: int, progress: Progress
) -> Iterator[_Round]:
    """What the model answers under every candidate, on `limit` of the images and then on all; who falls behind stops earlier.

    Where a pass is dear, every round is one after which it may be over, and the other order of the channels is tried for those only that
    keep up in the usual one.
    """
    few = _few(model)
    picked = np.linspace(0, len(images) - 1, min(limit, len(images))).astype(int)
    rest = np.setdiff1d(np.arange(len(images)), picked)
    # any first part of them is spread over the classes, in whose order images lie
    mixed = np.random.default_rng(0).permutation(picked)
    order_of = np.concatenate((mixed, rest))
    shown = None if labels is None else labels[torch.from_numpy(order_of)]
    ends = sorted({min(n, len(picked)) for n in few or FIRST} | {len(picked), len(images)})
    # images from which on more are tried only where they leave it open
    enough = min(few[-1], len(picked)) if few else len(picked)
    turned = {_unturned(name): name for name in known if few and _unturned(name) in known and _unturned(name) != name}
    seen = [Seen(name, torch.empty(0, model.classes), None) for name in known if name not in turned.values()]
    out: list[Seen] = []
    against: dict[str, str] = {}
    begin = 0
    count = Counter(progress, TRYING, _tries(len(seen), ends))

    def answered(s: Seen, end: int) -> Seen:
        part = images[order_of[len(s.logits) : end]]
        return Seen(s.name, torch.cat((s.logits, answers(model, known[s.name], part, count))), None if shown is None else shown[:end])

    for end in ends:
        seen = [answered(s, end) for s in seen]
        if not begin and labels is None:
            against = marks.unlike(model, {s.name: known[s.name] for s in seen}, images[order_of[:end]])
            calm = [s for s in seen if s.name not in against]
            wild = overdriven(calm)
            against |= {s.name: "logits too far apart" for s in calm if s.name in wild}
            out, seen = [s for s in seen if s.name in against], [s for s in seen if s.name not in against]
        last = end == ends[-1]
        late = end >= enough or (few is not None and end >= few[-2] and len(seen) > SEVERAL)
        if not last and not late:
            best = min(seen, key=_rank)
            # labels that hardly any candidate agrees with may be in another order
            sure = best.accuracy is None or best.accuracy >= ORDERED
            behind = [s for s in seen if sure and s is not best and _behind(best, s)]
            out += behind
            seen = [s for s in seen if s not in behind]
            if turned:
                seen += [answered(Seen(turned[s.name], torch.empty(0, model.classes), None), end) for s in seen if s.name in turned]
                turned = {}
            elif few:
                yield _Round(seen, out, against, early=True, last=False)
        else:
            yield _Round(seen, out, against, early=False, last=last)
            best = min(seen, key=_rank)
            worse = [s for s in seen if s is not best and _clear(best, s, known)]
            out, seen = out + worse, [s for s in seen if s not in worse]
        begin = end
        count.expect(count.done + len(seen) * (max(enough, end) - end))


def _unlike(seen: Sequence[Seen]) -> tuple[str, ...]:
    """The names of those that predict differently from all before them."""
    found: list[Seen] = []
    for s in seen:
        if all(s.same(other) < SAME for other in found):
            found.append(s)
    return tuple(s.name for s in found)


def _few(model: TracedModel) -> tuple[int, ...] | None:
    """Images of the rounds where a pass is dear; None where it is not."""
    cost = multiplications(model.module.graph)
    return None if cost < DEAR else FEW if cost < DEAREST else FEWEST


def _unturned(name: str) -> str:
    """The name of the same convention with the channels in the order that goes with it."""
    return "caffe" if name == "caffe-rgb" else name.removesuffix("-bgr")


def _told(against: dict[str, str]) -> str:
    """Which candidates were ruled out, and by what; the end of a sentence."""
    parts = []
    for what in dict.fromkeys(against.values()):
        names = [name for name, why in against.items() if why == what]
        more = len(names) - NAMED
        parts.append(f"by {what} {', '.join(names[:NAMED])}{f' and {more} more' if more > 0 else ''}")
    return f"; ruled out {'; '.join(parts)}" if parts else ""


def _rank(seen: Seen) -> tuple[float, float]:
    """The smaller, the better supported."""
    return (-seen.information, 0.0) if seen.labels is None else (float(seen.losses.mean()), -seen.information)


def _clear(best: Seen, other: Seen, candidates: dict[str, Preprocess]) -> bool:
    """Whether one candidate is clearly better supported than another, tried on the same images."""
    if best.labels is not None:
        return _errors(best, other) >= RIVAL
    share = best.information
    if candidates[other.name].contrast < candidates[best.name].contrast:
        return other.information < INFORMED * share
    return share - other.information >= RIVAL * _error(best)


def _error(seen: Seen) -> float:
    """Information's standard error, as that of a share."""
    share, count = seen.information, len(seen.logits)
    return float(np.sqrt(max(share * (1 - share), 1 / count) / count))


def _behind(best: Seen, other: Seen) -> bool:
    """Whether more images would hardly change that one is better supported."""
    if best.labels is not None:
        return _errors(best, other) >= BEHIND
    return other.information < min(POOR * best.information, best.information - RIVAL * _error(best))


def _errors(best: Seen, other: Seen) -> float:
    """By how much the labels are likelier under one than under another, image by image, in standard errors."""
    gap = other.losses - best.losses
    return float(gap.mean() / (gap.std(correction=0) / len(gap) ** 0.5).clamp(min=FINEST))


def tries(model: TracedModel, candidates: int, images: int, limit: int = 200) -> int:
    """Answers that the trying takes where a third of the candidates keeps up, and a third of these again."""
    return _tries(candidates, sorted({min(n, limit, images) for n in _few(model) or (*FIRST, limit)}))


def _tries(candidates: int, ends: list[int]) -> int:
    return sum(max(1, round(candidates / 3**i)) * (end - begin) for i, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)))


def _reordered(seen: list[Seen], classes: int) -> dict[str, float]:
    """Accuracy of the candidates under which the labels are right but for their order, where they are under none as they are."""
    if any((s.accuracy or 0.0) >= ORDERED for s in seen):
        return {}
    found = {s.name: order.other(s.predictions, s.labels, classes, ORDERED) for s in seen if s.labels is not None}
    return {name: o.accuracy for name, o in found.items() if o is not None}
