"""The neurons of one model under noise, with the clean images that the noise is searched on."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from banscan.scanner.effort import WHOLE, Noise, at_most
from banscan.scanner.search import neuron_noise
from banscan.scanner.search.changes import Changes, of_neurons
from banscan.scanner.search.noisy_model import NoisyModel
from banscan.scanner.settings import Settings


@dataclass(frozen=True)
class Neurons:
    """The model with noise on its neurons, and the clean images [N, ...] as it takes them.

    The search runs on `fast`; its result is read off `exact`, the same model in float32. `prepared` is what the fast one makes of the
    images in front of the noise, `prepared_exact` what is read off with: what the exact one makes of them, or, in a network whose passes
    are dear, `prepared`.
    """

    fast: NoisyModel
    exact: NoisyModel
    prepared: tuple[Tensor, ...]
    prepared_exact: tuple[Tensor, ...]
    labels: Tensor

    def search(
        self,
        noise: Tensor,
        target: Tensor | None,
        *,
        eps: float,
        seed: int,
        settings: Settings,
        budget: Noise = WHOLE.noise,
        progress: Callable[[int], None] = lambda done: None,
    ) -> Tensor:
        """`neuron_noise.search` on the fast model with the settings of the scan, and at most the images of the budget for a step."""
        return neuron_noise.search(
            self.fast,
            self.prepared,
            self.labels,
            noise,
            eps=eps,
            steps=settings.steps,
            batch=at_most(settings.images, budget.images),
            seed=seed,
            ball=settings.ball,
            target=target,
            progress=progress,
        )

    def changes(self, eps: float) -> Changes:
        """Noise on the neurons as a change that all images share, within the ball of root mean square eps."""
        return of_neurons(self.fast, self.exact, self.prepared, self.prepared_exact, eps)
