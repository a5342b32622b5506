"""Triggers by kind: functions that make what happens to images [N, 3, H, W] in [0, 1], all of one square size, from a generator."""

from collections.abc import Callable

from torch import Tensor

Trigger = Callable[[Tensor], Tensor]
