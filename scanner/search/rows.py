"""Where the images are in a tensor of a traced graph: on which axis, and how many rows of it each image has.

Windows of attention put several rows for each image on the first axis; some layers of attention have the images on the second one.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, fx

from banscan.errors import ModelError


@dataclass(frozen=True)
class Rows:
    """Images on `axis`, with `each` rows for every image, one image after another."""

    axis: int = 0
    each: int = 1

    def first(self, x: Tensor) -> Tensor:
        """With the axis of the images in front."""
        return x.movedim(self.axis, 0) if self.axis else x

    def back(self, x: Tensor) -> Tensor:
        """What `first` moved, where it was."""
        return x.movedim(0, self.axis) if self.axis else x

    def apart(self, x: Tensor) -> Tensor:
        """[N, ...]: the rows of each image on an axis of their own, where there are several."""
        x = self.first(x)
        return x if self.each == 1 else x.unflatten(0, (-1, self.each))

    def joined(self, x: Tensor) -> Tensor:
        """What `apart` took apart, with the axis of the images still in front."""
        return x if self.each == 1 else x.flatten(0, 1)

    def channel(self, axis: int) -> int:
        """Where another axis is once that of the images is in front."""
        return axis + 1 if 0 <= axis < self.axis else axis


def rows(node: fx.Node) -> Rows | None:
    """Where the images are in what a node computes; None where it has nothing of them.

    Raises:
        ModelError: they are on several axes.
    """
    value = node.meta.get("val")
    if not isinstance(value, Tensor):
        return Rows()
    # a size may be written in symbols and come to a number whatever the batch is
    axes = [(i, size) for i, size in enumerate(value.shape) if isinstance(size, torch.SymInt) and size.node.expr.free_symbols]
    if not axes:
        return None
    if len(axes) > 1:
        raise ModelError(f"{node.name} has the images on {len(axes)} axes; noise cannot be searched for there")
    axis = axes[0][0]
    expression = cast(torch.SymInt, value.shape[axis]).node.expr
    each = expression.as_coefficients_dict().get(next(iter(expression.free_symbols)), 0)
    if each < 1 or each != int(each) or len(expression.as_coefficients_dict()) != 1:
        raise ModelError(f"{node.name} has {expression} rows for the images; noise cannot be searched for there")
    return Rows(axis, int(each))
