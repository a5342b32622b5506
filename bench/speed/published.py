"""The detection as the paper and its appendix describe it (BAN, Eq. 4 to 6, Appendix B.4), written from the text.

On the training code's module: noise on batch norm in training mode, gradients of all weights computed along the way, a random start and 30
steps for every batch, and a mask that is learnt through the whole network.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPS, STEPS, EPOCHS, LR, LAMBDA, BATCH = 0.3, 30, 20, 0.01, 0.75, 128


class _Noisy(nn.Module):
    """A batch norm that normalises by the batch and carries delta on its weight and xi on its bias."""

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        self.norm = norm
        self.delta, self.xi = (nn.Parameter(torch.zeros_like(norm.weight)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.norm.weight * (1 + self.delta), self.norm.bias * (1 + self.xi)
        return F.batch_norm(x, None, None, weight, bias, True, 0.0, self.norm.eps)


def detect(module: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Shares [classes] of the predictions under noise and negative mask; changes the module."""
    noisy = _attach(module)
    values = [v for n in noisy for v in (n.delta, n.xi)]
    with torch.no_grad():
        for v in values:
            v.zero_()
    head = [m for m in module.modules() if isinstance(m, nn.Linear)][-1]
    mask = torch.rand(head.in_features, device=images.device).requires_grad_()
    kept: list[Tensor | None] = [None]
    handle = head.register_forward_pre_hook(lambda m, given: given[0] if kept[0] is None else given[0] * kept[0])
    optimizer = torch.optim.Adam([mask], lr=LR)
    for _ in range(EPOCHS):
        for x, y in zip(images.split(BATCH), labels.split(BATCH), strict=True):
            losses = []
            for own in (mask, 1 - mask):
                kept[0] = own
                losses.append(F.cross_entropy(module(x), y))
            optimizer.zero_grad()
            (losses[0] - losses[1] + LAMBDA * mask.abs().mean()).backward()
            optimizer.step()
            with torch.no_grad():
                mask.clamp_(0, 1)
    predictions = []
    for x, y in zip(images.split(BATCH), labels.split(BATCH), strict=True):
        kept[0] = None
        with torch.no_grad():
            for v in values:
                v.uniform_(-EPS, EPS)
        for _ in range(STEPS):
            module.zero_grad()
            F.cross_entropy(module(x), y).backward()
            with torch.no_grad():
                for v in values:
                    v.add_(v.grad.sign(), alpha=EPS / STEPS).clamp_(-EPS, EPS)  # type: ignore[union-attr]
        kept[0] = (1 - mask).detach()
        with torch.no_grad():
            predictions.append(module(x).argmax(1))
    handle.remove()
    return torch.bincount(torch.cat(predictions)).float() / len(images)


def _attach(module: nn.Module) -> list[_Noisy]:
    """Every batch norm with noise, given it now or by an earlier call."""
    for parent in list(module.modules()):
        if isinstance(parent, _Noisy):
            continue
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, _Noisy(child))
    return [m for m in module.modules() if isinstance(m, _Noisy)]
