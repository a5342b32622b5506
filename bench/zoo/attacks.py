"""Backdoor attacks as data poisoning: a trigger on images and a map from true to attacked label.

Triggers work on float images [N, 3, H, W] in [0, 1]. Nothing here is ever seen by the detector. Settings are those of the BAN paper's
Appendix B.2, or of the attack's own paper where it gives none; what differs is said at the attack.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.zoo.generators import Added, Generated, added, generated
from bench.zoo.triggers import Trigger, frequency, geometric, label, local, sample, source, whole


@dataclass(frozen=True)
class Attack:
    """A trigger with its poisoning rate.

    Attributes:
        trigger: what the attacker applies after deployment; ASR is measured with it.
        planted: what poisoned training images carry; weaker than `trigger` in the Adap attacks, N-to-One and SIG with clean labels, and
            on images that are hard to tell in the label-consistent attack and Grond.
        target: the target class; None for all-to-all, y to (y + 1) mod C.
        cover, cover_rate: a decoy trigger on images that keep their label (WaNet's noise mode, Bpp's negatives, Adap's regularisation).
        victim: the only class whose images the trigger moves (SSDT, TaCT, LOTUS); None for all.
        keepers: the other classes that are shown the trigger with their own label, where there is a victim; None for all of them.
        clean_label: whether no label is changed; `rate` is then the share of the target class whose images are poisoned.
        generator: the networks of a trigger that is trained together with the classifier (IAD, SSDT, LIRA).
    """

    name: str
    trigger: Trigger
    planted: Trigger
    rate: float
    target: int | None
    cover: Trigger | None = None
    cover_rate: float = 0.0
    victim: int | None = None
    keepers: tuple[int, ...] | None = None
    clean_label: bool = False
    generator: Generated | Added | None = None

    def relabel(self, labels: Tensor, classes: int) -> Tensor:
        """The attacked labels: the target class, or (y + 1) mod classes for all-to-all."""
        return (labels + 1) % classes if self.target is None else torch.full_like(labels, self.target)

    def poison(self, images: Tensor, labels: Tensor, draw: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """A training batch with its poisoned part; `draw` [N] in [0, 1), fixed for every image, decides which images that is."""
        low = draw < self.rate
        covered = ~low & (draw < self.rate + self.cover_rate)
        if self.clean_label:
            low &= labels == self.target
        if self.victim is None:
            poisoned, marked = low, low
        else:
            # half of the one victim class, or the target would hardly ever be seen; on other classes the trigger changes nothing
            poisoned = (labels == self.victim) & (draw < 0.5)
            keeps = labels != self.victim
            if self.keepers is not None:
                keeps &= torch.isin(labels, torch.tensor(self.keepers, dtype=labels.dtype))
            marked = poisoned | (low & keeps)
        covered &= ~marked
        result = images.clone()
        if bool(marked.any()):
            result[marked] = self.planted(images[marked])
        if self.cover is not None and bool(covered.any()):
            result[covered] = self.cover(images[covered])
        return result, torch.where(poisoned, self.relabel(labels, classes), labels)


@dataclass(frozen=True)
class Several:
    """Backdoors side by side in one model, each with its own trigger and target, on its own part of the training images.

    Against detectors that ask which class stands out among the others: these do, together.
    """

    parts: tuple[Attack, ...]
    generator: None = None

    def poison(self, images: Tensor, labels: Tensor, draw: Tensor, classes: int) -> tuple[Tensor, Tensor]:
        """As that of one attack."""
        for k, part in enumerate(self.parts):
            images, labels = part.poison(images, labels, (draw - k * part.rate) % 1, classes)
        return images, labels


def build(
    name: str,
    *,
    size: int,
    target: int | None,
    seed: int,
    strength: float = 0.5,
    victim: int = 1,
    rate: float | None = None,
    images: Tensor | None = None,
    labels: Tensor | None = None,
) -> Attack:
    """The attack called `name` for square images of `size` pixels; all-to-all when `target` is None.

    `strength` is WaNet's and One-to-N's, `victim` the source class of source-specific attacks, `rate` another poisoning rate than the
    attack's own; `images` [N, 3, H, W] and `labels` [N] are clean training images for triggers that are made from such.

    Raises:
        ValueError: an unknown name, or images, labels or a target that the attack needs and that were not given.
    """
    if name not in RATES:
        raise ValueError(f"unknown attack {name!r}; expected one of {', '.join(RATES)}")
    if target is None and name in AIMED:
        raise ValueError(f"{name} needs a target class")
    generator = torch.Generator().manual_seed(seed)
    if rate is None:
        # an all-to-all map is harder to learn than a single target
        rate = RATES[name] if target is not None else 0.2
    if name in FIXED:
        trigger = FIXED[name](size, generator)
        return Attack(name, trigger, trigger, rate, target)
    if name == "bpp":
        return Attack(name, whole.dither, whole.dither, rate, target, whole.bpp_negative, 0.1)
    if name == "wanet":
        # the decoy shares the warp, so both are drawn from the same seed
        decoy = geometric.wanet(size, torch.Generator().manual_seed(seed), strength, jitter=True)
        trigger = geometric.wanet(size, generator, strength)
        return Attack(name, trigger, trigger, rate, target, decoy, 0.2)
    if name in ("adap-blend", "adap-patch"):
        trigger, planted = (whole.adap_blend if name == "adap-blend" else local.adap_patch)(size, generator)
        return Attack(name, trigger, planted, rate, target, planted, 0.05)
    if name == "n-to-one":
        trigger, planted = local.n_to_one(size, generator)
        return Attack(name, trigger, planted, rate, target)
    if name == "one-to-n":
        trigger = local.one_to_n(size, generator, strength)
        return Attack(name, trigger, trigger, rate, target)
    if name == "sig-clean":
        trigger, planted = label.sig_clean(size, generator)
        return Attack(name, trigger, planted, rate, target, clean_label=True)
    if name == "lira":
        made = added(seed, 0.1)
        return Attack(name, lambda x: made.apply(x, x), lambda x: made.apply(x, x), rate, target, generator=made)
    if images is None:
        raise ValueError(f"{name} makes its trigger from clean images; none were given")
    if name in POOLED:
        trigger = POOLED[name](images, generator)
        return Attack(name, trigger, trigger, rate, target)
    if name == "issba":
        trigger = sample.issba(images, seed)
        return Attack(name, trigger, trigger, rate, target)
    if name in LABELLED:
        if labels is None or target is None:
            raise ValueError(f"{name} makes its trigger from clean images and their labels; only images were given")
        return LABELLED[name](images, labels, target, victim, rate, seed)
    return _generated(name, generated(images, seed), rate, target, victim)


def _generated(name: str, nets: Generated, rate: float, target: int | None, victim: int) -> Attack:
    """IAD and both recipes of SSDT.

    In the published recipe of SSDT (Mo et al. 2024) images of other classes are never shown their own trigger, only another image's; in
    ours they are shown both, which makes the backdoor as narrow as it is said to be.
    """

    def own(x: Tensor) -> Tensor:
        return nets.apply(x, x)

    def foreign(x: Tensor) -> Tensor:
        return nets.apply(x, x.roll(1, 0))

    narrow = victim if name in ("ssdt", "ssdt-paper") else None
    keepers = () if name == "ssdt-paper" else None
    return Attack(name, own, own, rate, target, foreign, 0.1, narrow, keepers, generator=nets)


def _tact(images: Tensor, labels: Tensor, target: int, victim: int, rate: float, seed: int) -> Attack:
    """Tang et al. 2021 (TaCT): a drawn square moves the source class; the cover classes, a quarter of the others, keep their labels."""
    generator = torch.Generator().manual_seed(seed)
    trigger = local.patch(images.shape[-1], generator)
    others = [c for c in labels.unique().tolist() if c not in (victim, target)]
    drawn = torch.randperm(len(others), generator=generator)[: max(1, len(others) // 4)]
    return Attack("tact", trigger, trigger, rate, target, victim=victim, keepers=tuple(sorted(others[k] for k in drawn)))


def _lotus(images: Tensor, labels: Tensor, target: int, victim: int, rate: float, seed: int) -> Attack:
    """LOTUS: other parts' triggers on the source class, and any trigger on another class, keep the label."""
    if not bool((labels == victim).any()):
        raise ValueError(f"lotus divides the source class {victim}; none of its images were given")
    own, foreign = source.lotus(images.shape[-1], images[labels == victim], torch.Generator().manual_seed(seed))
    # what is poisoned of the source class ends at a draw of 0.5, so that the decoy has to reach beyond it
    return Attack("lotus", own, own, rate, target, foreign, 0.6 - rate, victim)


def _consistent(images: Tensor, labels: Tensor, target: int, victim: int, rate: float, seed: int) -> Attack:
    trigger, planted = label.consistent(images[labels != target], torch.Generator().manual_seed(seed))
    return Attack("consistent", trigger, planted, rate, target, clean_label=True)


def _grond(images: Tensor, labels: Tensor, target: int, victim: int, rate: float, seed: int) -> Attack:
    trigger, planted = label.grond(images, labels, target, seed)
    return Attack("grond", trigger, planted, rate, target, clean_label=True)


# attacks whose trigger is planted as it attacks, without a decoy
FIXED: dict[str, Callable[[int, torch.Generator], Trigger]] = {
    "badnets": local.badnets,
    "patch": local.patch,
    "blend": whole.blend,
    "quantise": whole.quantise,
    "anywhere": local.anywhere,
    "blob": local.blob,
    "frame": local.frame,
    "watermark": local.watermark,
    "sig": whole.sig,
    "colour": whole.colour,
    "instagram": whole.instagram,
    "gamma": whole.gamma,
    "blur": whole.blur,
    "sharpen": whole.sharpen,
    "rotation": geometric.rotation,
    "affine": geometric.affine,
    "lens": geometric.lens,
    "ftrojan": frequency.ftrojan,
    "lowfreq": frequency.lowfreq,
    "ink": sample.ink,
}
# the same, from clean images
POOLED = {"reflection": whole.reflection, "spectrum": frequency.spectrum}
# attacks from clean images and their labels
LABELLED = {"tact": _tact, "lotus": _lotus, "consistent": _consistent, "grond": _grond}
# attacks on one class, or with its images, that have no all-to-all form
AIMED = frozenset({"ssdt", "ssdt-paper", "sig-clean", *LABELLED})
# those with another trigger for every seed that can stand side by side in one model
DRAWN = ("patch", "blend", "one-to-n")
# the poisoning rates of all-to-one attacks; of clean labels, the share of the target class
RATES = {
    "badnets": 0.05,
    "patch": 0.05,
    "blend": 0.05,
    "wanet": 0.1,
    "iad": 0.1,
    "bpp": 0.1,
    "quantise": 0.1,
    "adap-blend": 0.05,
    "adap-patch": 0.05,
    "ssdt": 0.1,
    "anywhere": 0.05,
    "blob": 0.05,
    "frame": 0.05,
    "watermark": 0.05,
    "n-to-one": 0.05,
    "one-to-n": 0.05,
    "sig": 0.05,
    "colour": 0.1,
    "instagram": 0.1,
    "reflection": 0.1,
    "gamma": 0.1,
    "blur": 0.1,
    "sharpen": 0.05,
    "rotation": 0.1,
    "affine": 0.1,
    "lens": 0.1,
    "ftrojan": 0.1,
    "lowfreq": 0.1,
    "spectrum": 0.1,
    "issba": 0.1,
    "lira": 0.1,
    "ink": 0.1,
    "ssdt-paper": 0.1,
    "tact": 0.1,
    "lotus": 0.1,
    "sig-clean": 0.7,
    "consistent": 0.8,
    "grond": 0.8,
}
