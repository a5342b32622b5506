"""What a repair is asked for, declared once like the settings of a scan, and the settings of Eq. 8 that follow; none of it needs torch."""

from dataclasses import dataclass, replace
from math import inf
from typing import Any

from banscan.scanner.settings import check, setting


@dataclass(frozen=True)
class Tuning:
    """Settings of Eq. 8; where they are not the paper's (Appendix B.4), docs/method.md says why.

    Attributes:
        lr: at the start; it falls to 0 along half a cosine.
        weight: lambda_2, the weight of the loss under noise; 0 is plain fine-tuning.
        eps, steps: bound of delta and xi, and the PGD steps that search them anew for every batch.
        pixels, radius: weight of the loss under noise on the pixels beside that under noise on neurons, and the root mean square of that
            noise over the pixels; it is one change of all images, carried on from batch to batch.
        patches: weight of the loss under small patches beside that under noise on neurons (see `patch_pool`).
        teacher: the share of the loss on clean images that follows the given model's softened logits instead of the labels
            (distillation; Hinton et al., 2015), but for the class that the noise pulls to.
        depth: the share of the layers, counted from the image, that is left as it is; like `teacher`, 0 where the scan names no class.
        clip: the largest gradient of a weight, as a share of the weight's own length; 0 for none.
        flip: mirror images at random.
    """

    epochs: int = 25
    lr: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    weight: float = 0.5
    eps: float = 0.6
    steps: int = 3
    pixels: float = 0.5
    radius: float = 0.02
    patches: float = 0.5
    teacher: float = 0.9
    depth: float = 0.5
    batch: int = 64
    clip: float = 0.0
    flip: bool = False
    seed: int = 0


def unguided(how: Tuning) -> Tuning:
    """The same where nothing says which class a trigger pulls to: all layers are tuned by the labels alone, as in the paper.

    A teacher hands a backdoor on, but for the class that is left out of what it says; and noise that pulls nowhere has to reach further.
    """
    return replace(how, teacher=0.0, depth=0.0)


def plain(how: Tuning) -> Tuning:
    """The same without noise: plain fine-tuning of all layers."""
    return replace(unguided(how), weight=0.0, pixels=0.0, patches=0.0)


BAN, FINETUNE, ANP = "ban", "finetune", "anp"
METHODS = {
    BAN: Tuning(),
    FINETUNE: plain(Tuning()),
    # adversarial neuron pruning with the settings of its authors (Wu and Wang, NeurIPS 2021): alpha L + (1 - alpha) L under noise with
    # alpha = 0.2 is alpha times this loss. They run 2000 batches at a rate of 0.2 alpha; few images make few batches, so it is five times
    # that here
    ANP: replace(plain(Tuning()), epochs=100, lr=0.2, weight=4.0, weight_decay=0.0, eps=0.4, steps=1, batch=128),
}


@dataclass(frozen=True, kw_only=True)
class RepairSettings:
    """How a backdoor is taken out, as a user says it.

    Attributes:
        method: "ban", "finetune" for lambda_2 = 0, or "anp" for adversarial neuron pruning (Wu and Wang, NeurIPS 2021).
        epochs, lr, lambda2: of `Tuning`; None for those of the method.
        max_accuracy_drop: the loss of benign accuracy, on the images kept from the tuning, above which nothing is written.
        force: repair a model that the scan does not flag.
        dequantize: write a float32 model for one of 8 bits.
        tune_images: at most this many images are read to tune on, and to measure on.
    """

    method: str = setting(
        BAN, "ban, finetune (no noise) or anp (neurons pruned).", "method", decisive=False, metavar="NAME", choices=tuple(METHODS)
    )
    epochs: int | None = setting(None, "Passes over the images.", "epochs", decisive=False, least=1, unset="25; 100 for anp")
    lr: float | None = setting(
        None, "Learning rate.", "lr", decisive=False, least=0, open_least=True, most=inf, open_most=True, unset="0.01; 0.2 for anp"
    )
    lambda2: float | None = setting(
        None,
        "Weight of the loss under noise (Eq. 8).",
        "lambda2",
        decisive=False,
        least=0,
        most=inf,
        open_most=True,
        unset="0.5; 4 for anp",
    )
    max_accuracy_drop: float = setting(0.05, "Write nothing beyond this loss.", "max-accuracy-drop", decisive=False, least=0, most=1)
    force: bool = setting(False, "Repair a model that the scan does not flag.", "force", decisive=False)
    dequantize: bool = setting(False, "Write a float32 model for one of 8 bits.", "dequantize", decisive=False)
    tune_images: int = setting(5000, "Read at most this many images to tune on.", "tune-images", decisive=False, least=1)

    def __post_init__(self) -> None:
        """Raises UsageError for values that nothing can be tuned with."""
        check(self)

    def tuning(self, seed: int) -> Tuning:
        """The settings of Eq. 8: those of the method, but for what is given here."""
        given: dict[str, Any] = {"epochs": self.epochs, "lr": self.lr, "weight": self.lambda2}
        return replace(METHODS[self.method], seed=seed, **{name: value for name, value in given.items() if value is not None})
