"""Classes that never come first and stand so close behind one that does that nothing is seen of how clearly images go there.

A searched class is told by its margin over all the others. A row copied into the classifier, a little lower than its original, changes no
answer and leaves the original no margin, whatever moves images there; so does a logit that is always a little below the largest.
"""

import torch
from torch import Tensor

# the correlation of two classes' logits over the images, each image's mean taken off
ALIKE = 0.99
# the share of images in which one that never comes first comes second, and how far behind at most, in units of how far the third is
SECOND, CLOSE = 0.9, 0.1


def double(logits: Tensor) -> str | None:
    """Which class of logits [N, C] hides another, in a sentence; None where none does."""
    classes = logits.shape[1]
    if classes < 3:
        return None
    # of equal ones argmax takes the first
    top, first = logits.topk(3, 1), logits.argmax(1)
    never = [c for c in range(classes) if not bool((first == c).any())]
    gap, further = ((top.values[:, 0] - top.values[:, place]).median() for place in (1, 2))
    if float(gap) <= CLOSE * float(further):
        for c in never:
            if float((top.indices[:, 1] == c).double().mean()) >= SECOND:
                return (
                    f"class {c} never comes first and nearly always second, close behind, which hides how clearly images go to the others"
                )
    centred = (logits - logits.mean(1, keepdim=True)).double()
    likeness = torch.corrcoef(centred.T).nan_to_num(0)
    for c in never:
        below = (logits[:, [c]] <= logits).all(0) & (likeness[c] >= ALIKE)
        below[c] = False
        if below.any():
            other = int(below.nonzero()[0, 0])
            return f"class {c} never comes first and stands close behind class {other}, which hides how clearly images go there"
    return None
