"""The preprocessing that the images themselves support, with labels and without."""

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import log

import numpy as np
import torch
from torch import Tensor

from banscan.errors import EvidenceError
from banscan.importers import TracedModel
from banscan.scanner.inputs import likely, marks, order
from banscan.scanner.inputs.preprocess import Preprocess, answers, candidates
from banscan.scanner.inputs.support import Seen, Support, overdriven, support
from banscan.scanner.machine.progress import Counter, Progress, silent
from banscan.scanner.search.taps import multiplications
from banscan.text import counted

# with labels a candidate counts as a rival when it is this close to the best, in standard errors, and as harmless when it predicts the same
RIVAL = 2.0
SAME = 0.9
# without labels one is taken when it is SURE with those that predict the same (ALIKE), after few images SURER; otherwise as many rivals are
# left as it takes to be MOSTLY right
ALIKE, SURE, SURER, MOSTLY = 0.95, 0.65, 0.95, 0.9
# so many of these at most are worth a scan each
MOST = 3
# with the best of many candidates guessing is right about so many images more than by chance, and about so many at least
GUESSED = 0.1
# images of the first rounds; a candidate that is so far behind after one of them, in standard errors, or so many times less likely, is not
# tried on more
FIRST = (24, 72)
BEHIND, UNLIKELY = 4.0, 400.0
# images that are made darker at most
DARK = 100
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
# candidates that something speaks against that are named in a sentence
NAMED = 3


@dataclass(frozen=True)
class Tried:
    """Every candidate that was tried, the one that was chosen or None where they leave it open, and why.

    `rivals` are those left, the best supported first, of which one that leads to the same predictions stands for another; empty where one
    was chosen. Without labels they are the MOST likeliest; with labels there are none where more are left.
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
    """Several candidates may be the right one; `tried` holds all of them."""

    def __init__(self, reason: str, table: tuple[Support, ...], rivals: tuple[str, ...]) -> None:
        super().__init__(reason)
        self.tried = Tried(None, reason, table, rivals)


@dataclass(frozen=True)
class _Round:
    """The candidates after a round: those that keep up, those that fell behind, and what speaks against some.

    `early` where only those that are far behind count as worse, since there are few images yet; `last` where there are no more to try.
    """

    kept: list[Seen]
    out: list[Seen]
    against: dict[str, str]
    early: bool
    last: bool

    @cached_property
    def standing(self) -> "_Standing":
        return _standing(self)


def choose(model: TracedModel, images: np.ndarray, labels: Tensor | None, limit: int = 200, progress: Progress = silent) -> Choice:
    """Tries every candidate on a few images, those that keep up on up to `limit`, on all where that leaves it open; takes the best.

    Where a pass is dear, far fewer images are tried, and no more than it takes until one is left; but rivals that are left are tried on
    all, since each would have a scan of its own. Without labels, what the file says of itself counts too.

    Raises:
        UndecidedError: several candidates may be the right one and lead to different predictions.
    """
    known = candidates(images, labels is not None)
    for turn in _rounds(model, known, images, labels, limit, progress):
        standing = turn.standing
        best, close, rivals = standing.best, standing.close, standing.rivals
        # a few images of one class say nothing
        unclear = rivals or (turn.early and len(turn.kept) > 1 and best.diversity == 0)
        if unclear and not turn.last:
            continue
        table = _table(turn)
        on = f"of {counted(len(table), 'candidate')} on up to {counted(len(best.logits), 'image')}"
        reordered = {} if labels is None else _reordered(turn.kept, model.classes)
        if reordered:
            name = max(reordered, key=lambda n: reordered[n])
            table = tuple(sorted(table, key=lambda s: s.name != name))
            return Choice(known[name], f"best accuracy {on}, with the labels in another order ({reordered[name]:.3f})", table)
        if not rivals:
            # of those that nothing tells apart the most usual one: noise and gradients see the pixels in its scale
            usual = min((best, *close), key=lambda s: list(known).index(s.name)).name
            table = tuple(sorted(table, key=lambda s: s.name != usual))
            what = "likeliest" if labels is None else "likeliest labels"
            if usual != best.name:
                what = f"the most usual of those that nothing tells from the best, {best.name},"
            sure = f"{standing.together[best.name]:.0%}" if labels is None else f"accuracy {table[0].accuracy:.3f}"
            return Choice(known[usual], f"{what} {on} ({sure}){_told(turn.against)}", table)
    raise _undecided(standing, table, _told(turn.against))


@dataclass(frozen=True)
class _Standing:
    """How the candidates stand after a round.

    Attributes:
        best: of the group of those that predict the same that is supported best; `close` are those of it that nothing tells from the best.
        rivals: those that may be right in its place, each for its group, the best supported first.
        chances: without labels, how likely each that keeps up is, by name; `together`, how likely the groups of best and rivals are.
    """

    best: Seen
    close: list[Seen]
    rivals: list[Seen]
    chances: dict[str, float] = field(default_factory=dict)
    together: dict[str, float] = field(default_factory=dict)


def _standing(turn: _Round) -> _Standing:
    if turn.kept[0].labels is not None:
        best, *others = _likeliest_labels(turn.kept)
        unclear = [s for s in others if turn.early or not _errors(best, s) >= RIVAL]
        rivals = [s for s in unclear if best.same(s) < (1 if turn.early else SAME)]
        return _Standing(best, [s for s in unclear if s not in rivals], rivals)
    scores = likely.scores(turn.kept, turn.against)
    chances: dict[str, float] = dict(zip((s.name for s in turn.kept), scores.softmax(0).tolist(), strict=True))
    ordered = [turn.kept[i] for i in scores.argsort(descending=True, stable=True).tolist()]

    def together(group: list[Seen]) -> float:
        return sum(chances[s.name] for s in group)

    first, *rest = sorted(_unlike(ordered, 1.0 if turn.early else ALIKE), key=together, reverse=True)
    close = [s for s in first[1:] if chances[s.name] >= chances[first[0].name] / 2]
    rivals, held = [], together(first)
    if held < (SURER if turn.early else SURE):
        for group in rest:
            if held < MOSTLY or not rivals:
                rivals.append(group[0])
            held += together(group)
    return _Standing(first[0], close, rivals, chances, {group[0].name: together(group) for group in (first, *rest)})


def _table(turn: _Round) -> tuple[Support, ...]:
    """All candidates, those that keep up first and those that something speaks against last."""
    standing = turn.standing
    ordered = sorted(turn.kept, key=lambda s: -standing.chances[s.name]) if standing.chances else _likeliest_labels(turn.kept)
    kept = sorted(ordered, key=lambda s: s is not standing.best)
    out = sorted(turn.out, key=lambda s: (s.name in turn.against, -s.information if s.labels is None else float(s.losses.mean())))
    return tuple(support(s.name, s.logits, s.labels, standing.chances.get(s.name)) for s in (*kept, *out))


def guessed(classes: int) -> float:
    """The share of right answers that guessing may come to."""
    by_chance = 1 / classes
    return max(GUESSED, min(2 * by_chance, by_chance + GUESSED))


def _undecided(standing: _Standing, table: tuple[Support, ...], told: str) -> "UndecidedError":
    """The error that several may be right: without labels the likeliest, with them all or, where there are too many, none."""
    best, rivals = standing.best, standing.rivals
    differs = (
        f"the model predicts differently under them ({best.same(rivals[0]):.0%} the same under {best.name} and {rivals[0].name}{told})"
    )
    if best.labels is not None:
        most = max(seen.accuracy or 0.0 for seen in (best, *rivals))
        if most < guessed(best.logits.shape[1]):
            return UndecidedError(
                f"under none of the {counted(len(table), 'preprocessing')} that were tried do more than {most:.1%} of the images get their "
                "label: the images or their labels are not the model's, or its classes are in another order; check both, or say with "
                "--classes what its classes are",
                table,
                (),
            )
        left = [group[0].name for group in _unlike((best, *rivals), SAME)]
        more = len(left) - MOST
        names = [*left[:MOST], f"{more} more"] if more > 0 else left
        return UndecidedError(
            f"the images support the preprocessings {_listed(names)} equally well, but {differs}; say which is right with --preprocess",
            table,
            () if more > 0 else tuple(left),
        )
    likeliest = [s.name for s in (best, *rivals)][:MOST]
    names = [f"{name} ({standing.together[name]:.0%})" for name in likeliest]
    how = "with --preprocess, or give labels (a folder for each class, or --labels)"
    return UndecidedError(
        f"the images leave open which of the preprocessings {_listed(names)} is right, and {differs}; say it {how}",
        table,
        tuple(likeliest),
    )


def _listed(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


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
    nothing = torch.empty(0, model.classes)
    seen = [Seen(name, nothing, None) for name in known if name not in turned.values()]
    out: list[Seen] = []
    against: dict[str, str] = {}
    begin = 0
    dark = 0 if labels is not None else DARK if few is None else few[1]
    count = Counter(progress, TRYING, _tries(len(seen), ends, dark))

    def answered(s: Seen, end: int) -> Seen:
        logits = torch.cat((s.logits, answers(model, known[s.name], images[order_of[len(s.logits) : end]], count)))
        darker = nothing if s.darker is None else s.darker
        again = likely.darkened(images[order_of[len(darker) : min(end, dark)]])
        if len(again):
            darker = torch.cat((darker, answers(model, known[s.name], again, count)))
        return Seen(s.name, logits, None, darker) if shown is None else Seen(s.name, logits, shown[:end])

    for end in ends:
        seen = [answered(s, end) for s in seen]
        if not begin and labels is None:
            against = marks.unlike(model, {s.name: known[s.name] for s in seen}, images[order_of[:end]])
            wild = overdriven([s for s in seen if s.name not in against])
            against |= {s.name: "logits too far apart" for s in seen if s.name in wild}
        last = end == ends[-1]
        late = end >= enough or (few is not None and end >= few[-2] and len(seen) > SEVERAL)
        if not last and not late:
            behind = _behind(seen, against)
            out += behind
            seen = [s for s in seen if s not in behind]
            if turned:
                seen += [answered(Seen(turned[s.name], nothing, None), end) for s in seen if s.name in turned]
                turned = {}
            elif few:
                yield _Round(seen, out, against, early=True, last=False)
        else:
            turn = _Round(seen, out, against, early=False, last=last)
            yield turn
            left = {s.name for s in (turn.standing.best, *turn.standing.close, *turn.standing.rivals)}
            out, seen = out + [s for s in seen if s.name not in left], [s for s in seen if s.name in left]
        begin = end
        count.expect(count.done + len(seen) * _passes(end, max(enough, end), dark))


def _unlike(seen: Sequence[Seen], same: float) -> list[list[Seen]]:
    """Groups: one that predicts differently from all before it, and those behind it that predict the same."""
    groups: list[list[Seen]] = []
    for s in seen:
        own = next((group for group in groups if s.same(group[0]) >= same), None)
        if own is None:
            groups.append([s])
        else:
            own.append(s)
    return groups


def _few(model: TracedModel) -> tuple[int, ...] | None:
    """Images of the rounds where a pass is dear; None where it is not."""
    cost = multiplications(model.module.graph)
    return None if cost < DEAR else FEW if cost < DEAREST else FEWEST


def _unturned(name: str) -> str:
    """The name of the same convention with the channels in the order that goes with it."""
    return "caffe" if name == "caffe-rgb" else name.removesuffix("-bgr")


def _told(against: dict[str, str]) -> str:
    """What speaks against which candidates; the end of a sentence."""
    parts = []
    for what in dict.fromkeys(against.values()):
        names = [name for name, why in against.items() if why == what]
        more = len(names) - NAMED
        parts.append(f"; against {', '.join(names[:NAMED])}{f' and {more} more' if more > 0 else ''}: {what}")
    return "".join(parts)


def _likeliest_labels(seen: Sequence[Seen]) -> list[Seen]:
    """Those with labels, the best supported first."""
    return sorted(seen, key=lambda s: (float(s.losses.mean()), -s.information))


def _behind(seen: Sequence[Seen], against: Container[str]) -> list[Seen]:
    """Those that more images would hardly bring to the front."""
    if seen[0].labels is None:
        scores = likely.scores(seen, against)
        return [s for s, score in zip(seen, scores.tolist(), strict=True) if float(scores.max()) - score >= log(UNLIKELY)]
    best = _likeliest_labels(seen)[0]
    sure = best.accuracy is not None and best.accuracy >= ORDERED
    # labels that hardly any candidate agrees with may be in another order
    return [s for s in seen if sure and s is not best and _errors(best, s) >= BEHIND]


def _errors(best: Seen, other: Seen) -> float:
    """By how much the labels are likelier under one than under another, image by image, in standard errors."""
    gap = other.losses - best.losses
    return float(gap.mean() / (gap.std(correction=0) / len(gap) ** 0.5).clamp(min=FINEST))


def tries(model: TracedModel, candidates: int, images: int, limit: int = 200) -> int:
    """Answers that the trying takes with labels, where a third of the candidates keeps up, and a third of these again.

    Without them it takes about as many: half the candidates are tried, and on darker images as well.
    """
    return _tries(candidates, sorted({min(n, limit, images) for n in _few(model) or (*FIRST, limit)}), 0)


def _tries(candidates: int, ends: list[int], dark: int) -> int:
    spans = enumerate(zip([0, *ends], ends, strict=False))
    return sum(max(1, round(candidates / 3**i)) * _passes(begin, end, dark) for i, (begin, end) in spans)


def _passes(begin: int, end: int, dark: int) -> int:
    """Answers of one candidate for these images, and for the first `dark` of all made darker."""
    return end - begin + min(end, dark) - min(begin, dark)


def _reordered(seen: list[Seen], classes: int) -> dict[str, float]:
    """Accuracy of the candidates under which the labels are right but for their order, where they are under none as they are."""
    if any((s.accuracy or 0.0) >= ORDERED for s in seen):
        return {}
    found = {s.name: order.other(s.predictions, s.labels, classes, ORDERED) for s in seen if s.labels is not None}
    return {name: o.accuracy for name, o in found.items() if o is not None}
