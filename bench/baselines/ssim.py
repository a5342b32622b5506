"""The structural similarity of images (Wang et al., 2004), by windows of 11 pixels with Gaussian weights."""

import torch
from torch import Tensor
from torch.nn import functional as F

WINDOW, SIGMA = 11, 1.5
# of luminance and contrast, for pixels in [0, 1]
C1, C2 = 0.01**2, 0.03**2


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """The mean similarity [N] of images [N, C, H, W] in [0, 1] over all windows that lie inside; windows are no larger than the images."""

    def local(values: Tensor) -> Tensor:
        flat = values.flatten(0, 1)[:, None]
        for d in (2, 3):
            weights = window(flat.shape[d]).to(flat)
            flat = F.conv2d(flat, weights[None, None, :, None] if d == 2 else weights[None, None, None, :])
        return flat

    mean_a, mean_b = local(a), local(b)
    var_a, var_b = local(a * a) - mean_a**2, local(b * b) - mean_b**2
    both = local(a * b) - mean_a * mean_b
    alike = (2 * mean_a * mean_b + C1) * (2 * both + C2) / ((mean_a**2 + mean_b**2 + C1) * (var_a + var_b + C2))
    return alike.reshape(len(a), -1).mean(1)


def window(side: int) -> Tensor:
    """Gaussian weights of an odd number of pixels that fits a side, with sum 1."""
    count = min(WINDOW, side - 1 + side % 2)
    weights = torch.exp(-((torch.arange(count) - count // 2) ** 2) / (2 * SIGMA**2))
    return weights / weights.sum()
