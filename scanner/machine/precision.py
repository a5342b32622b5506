"""The number format of the search: bfloat16 where the machine has it, float32 elsewhere and for final numbers."""

import torch
from torch import fx
from torch.utils._pytree import tree_map_only


def search_dtype(precision: str, device: torch.device) -> torch.dtype:
    """bfloat16 where the device multiplies it in hardware, unless told otherwise."""
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if precision == "bfloat16" or (precision == "auto" and fast) else torch.float32


def convert(module: fx.GraphModule, dtype: torch.dtype) -> fx.GraphModule:
    """The module, which must be a copy of its own, computing in another dtype; other modules that share its weights are not touched."""
    for name, value in [*module.named_buffers(), *module.named_parameters()]:
        if value.is_floating_point() and value.dtype != dtype:
            owner, _, leaf = name.rpartition(".")
            holder = module.get_submodule(owner)
            delattr(holder, leaf)
            holder.register_buffer(leaf, value.to(dtype))
    for node in module.graph.nodes:  # casts back, and constants that are made on the way; other types are asked for on purpose
        node.args, node.kwargs = (
            tree_map_only(torch.dtype, lambda own: dtype if own == torch.float32 else own, g) for g in (node.args, node.kwargs)
        )
    module.recompile()
    return module
