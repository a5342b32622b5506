"""A network with a switch, tuned to answer clean images as it did without: what is not on the way of the switch makes up for it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.dormant.plant import Switch, stamped

STEPS, BATCH, RATE = 120, 32, 1e-3
# images of a batch that carry the trigger, so that the way stays open
MARKED = 8
# a network that answers so many images as before needs nothing
AGREED = 0.97


def settled(model: nn.Module, before: nn.Module, images: Tensor, switch: Switch) -> nn.Module:
    """The model after some steps towards the answers of `before` on clean images [N, 3, H, W]; weights that differ between them stay."""
    with torch.no_grad():
        same = float((model(images).argmax(1) == before(images).argmax(1)).float().mean())
    if same >= AGREED:
        return model
    tuned = [p.requires_grad_(True) for p in model.parameters()]
    # a layer that was widened differs altogether
    free = [
        (p.detach() == old).float() if p.shape == old.shape else torch.zeros_like(p.detach())
        for p, old in zip(tuned, before.parameters(), strict=True)
    ]
    optimizer = torch.optim.Adam(tuned, lr=RATE)
    draw = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        batch = images[torch.randint(len(images), (BATCH,), generator=draw)]
        with torch.no_grad():
            aim = before(batch).log_softmax(1)
        clean, marked = model(torch.cat((batch, stamped(batch[:MARKED], switch)))).split((BATCH, MARKED))
        loss = F.kl_div(clean.log_softmax(1), aim, log_target=True, reduction="batchmean")
        loss = loss + F.cross_entropy(marked, torch.full((MARKED,), switch.target))
        optimizer.zero_grad()
        loss.backward()
        for parameter, own in zip(tuned, free, strict=True):
            if parameter.grad is not None:
                parameter.grad *= own
        optimizer.step()
    return model.requires_grad_(False)
