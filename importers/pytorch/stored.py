"""The weights of a torch.export archive: files of plain bytes, and a table that says what they are."""

import json
from typing import Any

import torch
from torch import Tensor

from banscan.errors import ModelError
from banscan.importers.pytorch.container import Container

# the numbering of the archive's schema
DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
DOCUMENT = 32 << 20
# bytes that all tensors together may claim beyond those of the files that they are views of
CLAIMED = 64 << 20
# what a tensor takes beside its values
BESIDE = 1 << 10


def document(container: Container, name: str) -> Any:
    """A JSON file of the archive.

    Raises:
        ModelError: it is damaged, too long or nested too deep.
    """
    try:
        return json.loads(container.read(name, DOCUMENT))
    except RecursionError:
        raise ModelError(f"{name} is nested too deep; the file is damaged or hostile") from None
    except ValueError as error:
        raise ModelError(f"{name} is damaged ({str(error)[:100]}); export it again") from error


def tensors(container: Container, folder: str, config: str) -> dict[str, Tensor]:
    """The stored tensors of a folder by name.

    Raises:
        ModelError: one that is stored as anything but plain bytes, or that claims more values than are there.
    """
    if folder + config not in container.entries:
        return {}
    files: dict[str, bytearray] = {}
    result: dict[str, Tensor] = {}
    left = CLAIMED
    for name, entry in document(container, folder + config)["config"].items():
        file, meta = entry["path_name"], entry["tensor_meta"]
        if entry.get("use_pickle") or "/" in file or not file.startswith(("weight_", "tensor_")):
            raise ModelError(f"{name} is stored as a pickle or an object of its own; refused")
        if file not in files:
            files[file] = bytearray(container.read(folder + file))
            left += 4 * len(files[file])
        result[name] = _tensor(name, meta, files[file])
        left -= result[name].numel() * max(4, result[name].itemsize) + BESIDE
        if left < 0:
            raise ModelError(f"{name} has more values than are stored (a view that repeats them); the file is damaged or hostile")
    return result


def _tensor(name: str, meta: dict[str, Any], data: bytearray) -> Tensor:
    dtype = DTYPES.get(meta["dtype"])
    if dtype is None:
        raise ModelError(f"{name} has a type (number {meta['dtype']}) that is not supported")
    sizes, strides = [int(s["as_int"]) for s in meta["sizes"]], [int(s["as_int"]) for s in meta["strides"]]
    offset = int(meta["storage_offset"]["as_int"])
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if min([*sizes, *strides, offset], default=0) < 0 or (all(sizes) and (last + 1) * dtype.itemsize > len(data)):
        raise ModelError(f"{name} has fewer values than its shape; the file is damaged")
    if not all(sizes):
        return torch.empty(sizes, dtype=dtype)
    flat = torch.frombuffer(data, dtype=dtype, count=len(data) // dtype.itemsize)
    return torch.as_strided(flat, sizes, strides, offset)
