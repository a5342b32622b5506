"""The feature mask of BAN (Eq. 5) and what it adds to the noise (Eq. 6)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

Head = Callable[[Tensor], Tensor]


def learn(
    head: Head, features: Tensor, labels: Tensor, *, seed: int = 0, epochs: int = 20, lr: float = 0.01, lambda1: float = 0.75
) -> Tensor:
    """The mask m that keeps benign features, by Adam on Eq. 5 with the paper's settings (Appendix B.4).

    min over m of L(head(f * m), y) - L(head(f * (1 - m)), y) + lambda1 |m|, where |m| is the mean, so that lambda1 means the same
    whatever the number of features.

    Args:
        head: features [N, ...] → logits [N, classes].
        features: penultimate features of clean images, computed once, [N, ...].

    Returns:
        m in [0, 1], shaped like one image's features. It starts at random about 1/2: from 1, where 1 - m takes everything away, it does not
        move, since the second term has its largest value there.
    """
    generator = torch.Generator().manual_seed(seed)
    mask = ((torch.randn(features[0].shape, generator=generator).tanh() + 1) / 2).to(features.device).requires_grad_()
    optimizer = torch.optim.Adam([mask], lr=lr)
    for _ in range(epochs):
        order = torch.randperm(len(features), generator=generator).to(features.device)
        for chosen in order.split(128):
            f, y = features[chosen], labels[chosen]
            loss = objective(head, f, y, mask, lambda1)
            (mask.grad,) = torch.autograd.grad(loss, mask)
            optimizer.step()
            with torch.no_grad():
                mask.clamp_(0, 1)
    return mask.detach()


def objective(head: Head, features: Tensor, labels: Tensor, mask: Tensor, lambda1: float) -> Tensor:
    """Eq. 5."""
    keep = F.cross_entropy(head(features * mask), labels)
    drop = F.cross_entropy(head(features * (1 - mask)), labels)
    return keep - drop + lambda1 * mask.abs().mean()


@torch.no_grad()
def negative_shares(head: Head, features: Tensor, mask: Tensor, classes: int) -> Tensor:
    """Shares [classes] of the predictions when only the masked-out features 1 - m remain (Eq. 6), for features [N, ...]."""
    predictions = head(features * (1 - mask)).argmax(1).cpu()
    return torch.bincount(predictions, minlength=classes).float() / len(predictions)
