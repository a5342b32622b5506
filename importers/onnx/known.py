"""Numbers that are known while a graph is traced, for code that computes shapes with tensors."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes


class Known(Tensor):
    """A tensor whose values count while tracing: what is computed of such alone is computed at once, and is one again.

    Beside what is traced, it is a constant, or, with a single value, that number.
    """

    @classmethod
    def __torch_function__(cls, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        leaves = pytree.tree_leaves((tuple(args), kwargs))
        with torch._C.DisableTorchFunctionSubclass():
            if all(isinstance(v, cls) for v in leaves if isinstance(v, Tensor | torch.SymInt)):
                with _disable_current_modes():
                    result = func(*args, **kwargs)
                    # one by one they are numbers, which torch takes where it takes no tensor
                    single = func is Tensor.unbind or (func is Tensor.__getitem__ and isinstance(args[1], int))
                    return pytree.tree_map_only(Tensor, _plain if single else _known, result)
            args, kwargs = pytree.tree_map_only(cls, _plain, (tuple(args), kwargs))
            return func(*args, **kwargs)


class Held(nn.Module):
    """Answers a tensor as one that is known."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = value.numpy()  # a tensor would be traced

    def forward(self) -> Tensor:
        with _disable_current_modes():
            return _known(torch.from_numpy(self.value.copy()))


def _known(value: Tensor) -> Tensor:
    with torch._C.DisableTorchFunctionSubclass():
        return value if isinstance(value, Known) else value.as_subclass(Known)


def _plain(value: Tensor) -> Any:
    with _disable_current_modes():
        return value.item() if value.dim() == 0 else value.as_subclass(Tensor)
