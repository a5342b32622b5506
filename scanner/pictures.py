"""Pictures of what the searches found, on a few of the clean images: made after the verdict, which does not depend on them."""

import hashlib
import io
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, fx

from banscan.importers import TracedModel
from banscan.scanner.criteria import pixel_map
from banscan.scanner.criteria.noise import UNREAD, Moved
from banscan.scanner.criteria.outlier import ClassValues
from banscan.scanner.evidence import Change, Evidence, Moves, Sample, Seen, Switch
from banscan.scanner.findings import ALL, Verdict
from banscan.scanner.inputs import preprocess
from banscan.scanner.search.changes import changed_logits
from banscan.scanner.search.class_map import Mapped, two_thirds
from banscan.scanner.search.dormant import Led, Searched
from banscan.scanner.subject import Subject

# clean images that are shown, as many of them under the changes of the classes that do not lead, and their longer side
SAMPLES, FEWER, SIDE = 6, 3, 96
# a matrix of more classes shows those that are reached best
ROWS, LEADING = 48, 24
# neighbours of a node that are named
NEIGHBOURS = 3
# the share of a change's values that are shown without being cut off
KEPT = 0.995


def evidence(subject: Subject, images: np.ndarray, measured: Mapping[str, Any], verdict: Verdict) -> Evidence:
    """What can be shown of what the criteria measured.

    Args:
        images: the clean images, uint8 [N, H, W, C].
        measured: what each criterion measured, by its name.
    """
    numbers = _drawn(subject, verdict)
    bench = _Bench(subject, images, numbers)
    noise = measured.get("noise")
    changes = [c for name in ("perturbation", "patch") for c in bench.aimed(name, measured.get(name))]
    changes += bench.mapped(measured.get("pixel map"))
    changes += bench.by_noise(noise) if isinstance(noise, Moved) else []
    return Evidence(
        samples=bench.samples,
        width=images.shape[2],
        height=images.shape[1],
        changes=tuple(changes),
        moves=tuple(_moves(subject, measured, verdict)),
        switch=_switch(subject.model, measured.get("dormant")),
        images=hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest(),
    )


def _drawn(subject: Subject, verdict: Verdict) -> list[int]:
    """Numbers of images that are shown: of different classes, answered rightly, none of a target, and none that patches were sought on."""
    labels, seed = subject.labels, subject.settings.seed
    rank = torch.zeros(len(labels))
    rank += two_thirds(labels, seed)
    rank += 2.0 * (subject.logits.argmax(1) != labels)
    rank += 4.0 * torch.isin(labels, torch.tensor(verdict.targets, dtype=labels.dtype))
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    order = shuffled[rank[shuffled].argsort(stable=True)].tolist()
    first: dict[int, int] = {}
    for number in order:
        first.setdefault(int(labels[number]), number)
    chosen = list(first.values())[:SAMPLES]
    return chosen + [n for n in order if n not in chosen][: SAMPLES - len(chosen)]


class _Bench:
    """The images that are shown, and the model that answers them."""

    def __init__(self, subject: Subject, images: np.ndarray, numbers: list[int]) -> None:
        self.subject, self.numbers, self.own = subject, numbers, images[numbers]
        was, sure = self._answers(self.own)
        self.was = was
        self.samples = tuple(
            Sample(png(image), int(subject.labels[n]), c, p) for image, n, c, p in zip(self.own, numbers, was, sure, strict=True)
        )

    def aimed(self, criterion: str, measured: Any) -> Iterator[Change]:
        """The changes of pixels aimed at the classes that are reached most clearly."""
        if not isinstance(measured, ClassValues) or measured.found is None:
            return
        for i, (place, change) in enumerate(zip(measured.found.places, measured.found.changes, strict=True)):
            target = int(self.subject.searched[place])
            yield self._change(criterion, target, float(measured.shown[place]), change, FEWER if i else SAMPLES)

    def mapped(self, measured: Any) -> Iterator[Change]:
        """The change of pixels along a map of classes."""
        mapped = measured[0] if isinstance(measured, tuple) else None
        if isinstance(mapped, Mapped) and mapped.change is not None:
            yield self._change("pixel map", None, mapped.moved, mapped.change, SAMPLES)

    def by_noise(self, noise: Moved) -> Iterator[Change]:
        """Images under the noise aimed at the class that it reaches best; there is nothing to see in them."""
        if noise.answers is None:
            return
        moved = noise.moved.mean(0)
        place = int(moved.argmax())
        target = int(self.subject.searched[place])
        now = noise.answers[place, self.numbers].tolist()
        seen = tuple(Seen(i, None, c, None) for i, c in enumerate(now) if self.samples[i].label != target and c != UNREAD)
        yield Change("noise", target, float(moved[place]), None, 1.0, seen)

    def _change(self, criterion: str, target: int | None, moved: float, change: Tensor, count: int) -> Change:
        difference = upright(change, self.subject.pixel_model.axis, self.subject.preprocess.bgr)
        places = [i for i, sample in enumerate(self.samples) if sample.label != target][:count]
        after = np.round(np.clip(self.own[places] / 255 + difference, 0, 1) * 255).astype(np.uint8)
        now, sure = self._answers(after)
        seen = tuple(Seen(i, png(image), c, p) for i, image, c, p in zip(places, after, now, sure, strict=True))
        gain = 0.5 / max(float(np.quantile(np.abs(difference[difference != 0]), KEPT)) if difference.any() else 0.5, 1 / 255)
        around = np.round(np.clip(0.5 + difference * gain, 0, 1) * 255).astype(np.uint8)
        return Change(criterion, target, moved, png(around), gain, seen)

    def _answers(self, images: np.ndarray) -> tuple[list[int], list[float]]:
        """Classes and confidences that the model gives to uint8 images [n, H, W, C], read as all clean images are."""
        if not len(images):
            return [], []
        best = preprocess.answers(self.subject.model, self.subject.preprocess, images).nan_to_num().softmax(1).max(1)
        return best.indices.tolist(), best.values.tolist()


def upright(change: Tensor, axis: int, bgr: bool) -> np.ndarray:
    """A change in a model's layout, channels on axis 1 or 3 of its images, as [H, W, C] in RGB order."""
    rows = change.float().cpu().numpy()
    rows = rows if axis == 3 else rows.transpose(1, 2, 0)
    return rows[..., ::-1] if bgr else rows


def png(image: np.ndarray) -> bytes:
    """An image uint8 [H, W, C] as PNG, large ones made smaller."""
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    if max(picture.size) > SIDE:
        picture.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    kept = io.BytesIO()
    picture.save(kept, "PNG", optimize=True)
    return kept.getvalue()


def _moves(subject: Subject, measured: Mapping[str, Any], verdict: Verdict) -> Iterator[Moves]:
    """Where images go: along the map where the verdict names one, by the perturbation and by the noise aimed at each class."""
    searched, labels = subject.searched.tolist(), subject.labels
    mapped = measured.get("pixel map")
    if verdict.kind == ALL and isinstance(mapped, tuple) and mapped[0].change is not None:
        among = torch.arange(len(labels))
        logits = changed_logits(subject.pixel_changes(pixel_map.RADIUS), mapped[0].change.to(subject.model.device), among)
        hits = torch.nn.functional.one_hot(logits.argmax(1), subject.classes).T.float()
        yield table("pixel map", False, hits, labels, list(range(subject.classes)), subject.classes)
    perturbed, noise = measured.get("perturbation"), measured.get("noise")
    if isinstance(perturbed, ClassValues) and perturbed.found is not None:
        found = perturbed.found
        hits = (found.margins > 0).float().where(~found.margins.isnan(), torch.nan)
        yield table("perturbation", True, hits, labels[found.among], searched, subject.classes)
    if isinstance(noise, Moved) and noise.answers is not None:
        hits = (noise.answers == subject.searched[:, None]).float().where(noise.answers != UNREAD, torch.nan)
        hits[labels[None] == subject.searched[:, None]] = torch.nan
        yield table("noise", True, hits, labels, searched, subject.classes)


def table(criterion: str, aimed: bool, hits: Tensor, labels: Tensor, targets: list[int], classes: int) -> Moves:
    """Shares by source and target from hits [T, M] of images with labels [M]; NaN for images that are left out."""
    places, sources = list(range(len(targets))), [c for c in range(classes) if bool((labels == c).any())]
    if max(len(targets), len(sources)) > ROWS:
        places = sorted(hits.nanmean(1).argsort(descending=True)[:LEADING].tolist())
        sources = [c for c in (targets[p] for p in places) if c in sources]
    rows = [(c, labels == c) for c in sources]
    rest = ~torch.isin(labels, torch.tensor(sources, dtype=labels.dtype))
    rows += [(-1, rest)] if bool(rest.any()) else []
    shares = [[_share(hits[p, own]) for p in places] for _, own in rows]
    return Moves(criterion, aimed, tuple(c for c, _ in rows), tuple(targets[p] for p in places), tuple(map(tuple, shares)))


def _share(hits: Tensor) -> float | None:
    share = float(hits.nanmean())
    return None if share != share else share


def _switch(model: TracedModel, measured: Any) -> Switch | None:
    """The dormant neurons that lead furthest, with what is around them."""
    led: Led | None = measured.led if isinstance(measured, Searched) else None
    if led is None:
        return None
    node = next(n for n in model.module.graph.nodes if n.name == led.layer)
    return Switch(
        node=led.layer,
        operator=_operator(node),
        neurons=led.neurons,
        channels=led.channels,
        before=tuple(_named(n) for n in list(node.all_input_nodes)[:NEIGHBOURS] if n.op != "get_attr"),
        after=tuple(_named(n) for n in list(node.users)[:NEIGHBOURS] if n.op != "output"),
        target=led.target,
        moved=led.hits / led.images,
        living=led.most,
    )


def _named(node: fx.Node) -> str:
    return "image" if node.op == "placeholder" else f"{node.name} ({_operator(node)})"


def _operator(node: fx.Node) -> str:
    target: Any = node.target
    return str(getattr(target, "__name__", target)).partition(".")[0].strip("_")
