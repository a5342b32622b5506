"""The number format of the search: bfloat16 where the machine has it, float32 elsewhere and for final numbers."""

import torch
from torch import fx


def search_dtype(precision: str, device: torch.device) -> torch.dtype:
    """bfloat16 where the device multiplies it in hardware, unless told otherwise."""
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if precision == "bfloat16" or (precision == "auto" and fast) else torch.float32


def convert(module: fx.GraphModule, dtype: torch.dtype) -> fx.GraphModule:
    """The module, which must be a copy of its own, with its weights in another dtype; other modules that share them are not touched."""
    for name, value in [*module.named_buffers(), *module.named_parameters()]:
        if value.is_floating_point() and value.dtype != dtype:
            owner, _, leaf = name.rpartition(".")
            holder = module.get_submodule(owner)
            delattr(holder, leaf)
            holder.register_buffer(leaf, value.to(dtype))
    return module
