"""The course of a tuning: from the model as it is given through its epochs."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from banscan.errors import EvidenceError
from banscan.importers import TracedModel
from banscan.scanner.inputs.preprocess import Preprocess
from banscan.scanner.machine.progress import Counter, Progress
from banscan.scanner.repair import answers, patch_pool, trainable, tuning
from banscan.scanner.repair.patch_pool import Pool, Victims
from banscan.scanner.repair.settings import Tuning
from banscan.scanner.repair.trainable import State
from banscan.scanner.search import patch
from banscan.scanner.search.pixel_model import Limits

# per epoch, on clean images and under noise
Losses = list[tuple[float, float]]


@dataclass(frozen=True)
class Course:
    """What is tuned: images [N, ...] as the model takes them with labels [N], and how; `limits` and `aims` as in `tuning.epoch`.

    `pool` is how many patches are tried before every epoch.
    """

    model: TracedModel
    preprocess: Preprocess
    how: Tuning
    images: Tensor
    labels: Tensor
    limits: Limits
    aims: Tensor | None
    pool: Pool = patch_pool.WHOLE

    def run(self, state: State, losses: Losses, *, stage: str, progress: Progress, after: Callable[[], None] = lambda: None) -> None:
        """The epochs that are left, in place on `state` and `losses`; `after` is called after every one.

        Args:
            stage: what `progress` is told, with the number of the epoch behind it.

        Raises:
            EvidenceError: the tuning is one against noise, and no layer could carry any.
        """
        if self.how.weight and not any(name.startswith("scale/") for name in state.values):
            path = self.model.source.path
            why = "no layer below the classifier has a bias that noise could act on (Eq. 3)"
            raise EvidenceError(f"{path}: {why}; `banscan repair --method finetune` needs none")
        victims = None
        if self.how.weight and self.how.patches and self.aims is not None:
            victims = patch_pool.victims_of(self.model, self.preprocess, self.images, self.labels, self.aims)
        while state.epoch < self.how.epochs:
            pasted = None if victims is None else self._pasted(state, victims)
            count = Counter(progress, f"{stage} {state.epoch + 1} of {self.how.epochs}", len(self.images))
            more = {"limits": self.limits, "aims": self.aims, "pasted": pasted, "progress": count}
            losses.append(tuning.epoch(self.model, state, self.images, self.labels, self.how, **more))  # type: ignore[arg-type]
            after()

    def _pasted(self, state: State, victims: Victims) -> Tensor:
        """The patches that move the model as it is now, kept in `state`, as changes [P, ...] of the pixels."""
        now = partial(answers.logits, self.model, trainable.finished(self.model, state, self.images))
        state.patches = patch_pool.followed(victims, now, state.patches, self.how.seed + state.epoch, self.pool)
        return patch.changes(victims.view, victims.pixels, state.patches)
