"""Tensors that are parts of others: what is written into a part stands in the whole as well, in a graph in which nothing is overwritten."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from banscan.errors import ModelError

# whole, part, arguments behind the whole → the whole with the part put back
SCATTER: dict[str, Callable[..., Tensor]] = {
    "aten::select": lambda whole, part, dim, index: torch.select_scatter(whole, part, dim, index),
    "aten::slice": lambda whole, part, dim=0, start=None, end=None, step=1: torch.slice_scatter(whole, part, dim, start, end, step),
    "aten::narrow": lambda whole, part, dim, start, length: torch.slice_scatter(whole, part, dim, start, start + length),
    "aten::view": lambda whole, part, *_: part.reshape(whole.shape),
    "aten::squeeze": lambda whole, part, *_: part.reshape(whole.shape),
    "aten::unsqueeze": lambda whole, part, *_: part.reshape(whole.shape),
    "aten::transpose": lambda whole, part, a, b: part.transpose(a, b),
    "aten::t": lambda whole, part: part.t(),
}
# other operators whose result shares its memory
SHARING = frozenset(
    f"aten::{name}"
    for name in [
        "permute",
        "expand",
        "expand_as",
        "view_as",
        "unbind",
        "chunk",
        "split",
        "split_with_sizes",
        "diagonal",
        "unfold",
        "numpy_T",
        "movedim",
        "as_strided",
        "moveaxis",
        "swapaxes",
        "tensor_split",
        "broadcast_to",
        "unsafe_chunk",
        "mT",
        "swapdims",
        "alias",
        "unsafe_split",
        "unsafe_split_with_sizes",
        "rot90",
        "real",
    ]
)


# a part, or a copy where the values do not lie in order in memory, which is not known here
EITHER = frozenset(f"aten::{name}" for name in ["reshape", "flatten", "reshape_as", "ravel", "contiguous", "unflatten", "_reshape_alias"])

# parts of lists that are looked through whenever a tensor is written into
MOST_KEPT = 20_000


class Views:
    """Keeps, of the names in `values`, which tensor is a part of which."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values
        self.wholes: dict[str, tuple[str, str, list[Any]]] = {}
        self.stale: set[str] = set()
        # results that may be the same tensor in the file and a copy here, or the other way round
        self.copies: set[str] = set()

    def note(self, plain: str, inputs: list[str], given: list[Any], result: str) -> None:
        """An operator that may have made a part of its first input."""
        self.stale.discard(result)
        self.wholes.pop(result, None)
        if (plain in SCATTER or plain in SHARING or plain in EITHER) and isinstance(given[0], Tensor):
            self.wholes[result] = (plain, inputs[0], given[1:])

    def check(self, inputs: list[str]) -> None:
        """Raises ModelError where a part is read after the whole was written into by another way."""
        if self.stale and not self.stale.isdisjoint(inputs):
            raise ModelError("its code writes into a tensor and reads a part of it that was taken before, which cannot be read")

    def write(self, name: str, old: Tensor, new: Tensor) -> Tensor:
        """A tensor was written into: whatever is the same, or what it is a part of, has the new values; the tensor with these."""
        new = new.expand_as(old) if new.shape != old.shape else new
        written = new = new if new.dtype == old.dtype else new.to(old.dtype)
        first, known = name, self._replace(old, new)
        while name in self.wholes:
            plain, name, arguments = self.wholes[name]
            if plain in EITHER:
                self._forget(name, known)
                break
            if plain not in SCATTER:
                raise ModelError(f"its code writes into a part of a tensor ({plain}), which cannot be read")
            old = self.values[name]
            new = SCATTER[plain](old, new, *arguments)
            known |= self._replace(old, new)
        if not self.copies.isdisjoint(known):
            self.stale |= known - {first}
        self.stale |= {part for part, (_, whole, _) in self.wholes.items() if whole in known and part not in known}
        return written

    def _forget(self, name: str, known: set[str]) -> None:
        """What may have been written into, or not: whatever reads it, or a part of it, is refused."""
        lost = {other for other, value in self.values.items() if value is self.values[name]} - known
        while name in self.wholes:
            _, name, _ = self.wholes[name]
            lost |= {other for other, value in self.values.items() if value is self.values[name]} - known
        self.stale |= lost | {part for part, (_, whole, _) in self.wholes.items() if whole in lost and part not in known}

    def _replace(self, old: Tensor, new: Tensor) -> set[str]:
        """Puts the new tensor wherever the old one is; the names of these places."""
        kept = [value for value in self.values.values() if isinstance(value, list | tuple | dict)]
        if sum(map(len, kept)) > MOST_KEPT:
            raise ModelError(f"its code writes into tensors while it keeps more than {MOST_KEPT:,} values in lists, which is not read")
        if any(_holds(value, old) for value in kept):
            raise ModelError("its code writes into a tensor that a list or dictionary holds, which cannot be read")
        names = {name for name, value in self.values.items() if value is old}
        self.values.update(dict.fromkeys(names, new))
        return names


def _holds(value: Any, wanted: Tensor) -> bool:
    """Whether a list or dictionary, or one in it, holds a tensor; tuples cannot be changed, but are read again."""
    if isinstance(value, dict):
        return any(_holds(part, wanted) or part is wanted for part in value.values())
    return isinstance(value, list | tuple) and any(part is wanted or _holds(part, wanted) for part in value)
