"""Compiles every Triton kernel for GPUs that need not be there and prints what the machine code does, as JSON.

A process of its own: once Triton's interpreter has run, its compiler does not.
"""

import json
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from banscan.kernels import ascent, convolution, epilogue
from banscan.kernels.tiles import CHUNK, Tile, convolved, depth, levels, mapped, summed

ARCHITECTURES = (80, 90, 100)
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
NARROW = ("x_ptr", "w_ptr", "z_ptr", "y_ptr", "g_ptr", "h_ptr", "residual_ptr", "dz_ptr", "dr_ptr")
# what a tile is multiplied with, by architecture and type of the inputs
PRODUCTS = {(80, "bf16"): "HMMA", (90, "bf16"): "HGMMA", (100, "bf16"): "UTCHMMA"}
CHANNELS = 256
MAPPED, SUMMED = mapped(CHANNELS), summed(CHANNELS)
SMALLEST = Tile(0, 64)
# the axis of a sum inside a tile, and the tile
REDUCED = re.compile(r'"tt\.reduce"\(.*?axis = (\d+).*?\}\) : \(tensor<([\dx]+)x\w+,', re.DOTALL)


@dataclass(frozen=True)
class Case:
    """A kernel as it is launched: its constants, the tile, and the type of what is as large as z."""

    kernel: Any
    constants: dict[str, Any]
    tile: Tile = SMALLEST
    dtype: str = "bf16"


def _mapping(kernel: Any, tile: Tile = MAPPED[0], **constants: Any) -> Case:
    return Case(kernel, {**constants, "BM": tile.rows, "BC": tile.wide}, tile)


def _summing(kernel: Any, tile: Tile = SUMMED[0], **constants: Any) -> Case:
    return Case(kernel, {**constants, "BM": tile.rows, "BC": tile.wide, "LEVELS": levels(tile.rows)}, tile)


def _convolving(tile: Tile, dtype: str, **constants: Any) -> Case:
    read = depth(CHANNELS, torch.float32 if dtype == "fp32" else torch.bfloat16)
    sizes = {"STAYS": tile.stay > 0, "BM": tile.rows, "BC": tile.wide, "BK": read, "CHUNK": CHUNK, "LEVELS": levels(CHUNK)}
    return Case(convolution.convolve, {"SIDE": 3, "STRIDE": 1, "PAD": 1, "RELU": True, "WIDEN": False, **constants, **sizes}, tile, dtype)


PLAIN: dict[str, Any] = {"NORM": False, "SHARED": False, "TWICE": False, "MASK": epilogue.FROM_Y}
NORM: dict[str, Any] = {"NORM": True, "RESIDUAL": False, "TWICE": False, "DZ": False, "DR": False}
# what is read by two, and holds most
TWICE: dict[str, Any] = {"TWICE": True, "RESIDUAL": True, "DZ": True, "DR": True}
SPREAD: dict[str, Any] = {"SHARED": False, "DZ": True}
STREAMING = {
    "moments": _summing(epilogue.moments),
    "apply with residual": _mapping(epilogue.apply, SHARED=False, RESIDUAL=True, RELU=True),
    "apply, shared": _mapping(epilogue.apply, SHARED=True, RESIDUAL=False, RELU=True),
    "gather, plain with residual": _summing(epilogue.gather, **PLAIN, RESIDUAL=True, DZ=True, DR=True),
    "gather, plain": _summing(epilogue.gather, **PLAIN, RESIDUAL=False, DZ=True, DR=False),
    "gather, normalised": _summing(epilogue.gather, **NORM, SHARED=False, MASK=epilogue.FROM_Z),
    "gather, normalised and shared": _summing(epilogue.gather, **NORM, SHARED=True, MASK=epilogue.FROM_Y),
    "gather, plain with residual, twice": _summing(epilogue.gather, **PLAIN | TWICE),
    "gather, normalised, twice": _summing(epilogue.gather, **NORM | {"TWICE": True}, SHARED=False, MASK=epilogue.FROM_Y),
    "spread": _mapping(epilogue.spread, **SPREAD, TWICE=False, MASK=epilogue.FROM_Z, DR=False),
    "spread with residual": _mapping(epilogue.spread, **SPREAD, TWICE=False, MASK=epilogue.FROM_Y, DR=True),
    "spread, twice": _mapping(epilogue.spread, **SPREAD, TWICE=True, MASK=epilogue.FROM_Z, DR=False),
    "spread with residual, twice": _mapping(epilogue.spread, **SPREAD, TWICE=True, MASK=epilogue.FROM_Y, DR=True),
}
# every other tile that may be chosen, of the kernels that hold most
TILES = {
    **{f"gather, {t}": _summing(epilogue.gather, t, **PLAIN | TWICE) for t in SUMMED[1:]},
    **{f"gather once, {t}": _summing(epilogue.gather, t, **PLAIN | TWICE | {"TWICE": False}) for t in SUMMED[1:]},
    **{f"spread, {t}": _mapping(epilogue.spread, t, **SPREAD, TWICE=True, MASK=epilogue.FROM_Y, DR=True) for t in MAPPED[1:]},
    **{f"spread once, {t}": _mapping(epilogue.spread, t, **SPREAD, TWICE=False, MASK=epilogue.FROM_Y, DR=True) for t in MAPPED[1:]},
}
SMALL = {
    "settle": Case(epilogue.settle, {"EPS": 1e-5, "NORM": True, "BIAS": False, "SHARED": False, "BC": 64}),
    "settle, plain": Case(epilogue.settle, {"EPS": 1e-5, "NORM": False, "BIAS": True, "SHARED": False, "BC": 64}),
    "settle gradient, plain": Case(epilogue.settle_gradient, {"NORM": False, "BIAS": True, "BC": 64}),
    "settle gradient": Case(epilogue.settle_gradient, {"NORM": True, "BIAS": False, "BC": 64}),
    "merge": Case(convolution.merge, {"CHUNK": CHUNK, "GROUP": convolution.GROUP, "LEVELS": levels(convolution.GROUP), "BC": 32}),
    "box step": Case(ascent.box_step, {"STEPS": 8, "BLOCK": ascent.BLOCK}),
    "ball step": Case(ascent.ball_step, {"STEPS": 8, "BLOCK": ascent.BLOCK, "MOMENTUM": 0.5, "TINY": 1e-12}),
}
CONVOLUTIONS = {
    f"convolution in {dtype}, {'normalised' if norm else 'plain'}, {tile}": _convolving(tile, dtype, NORM=norm, RESIDUAL=not norm)
    for dtype in ("bf16", "fp32")
    for norm in (True, False)
    for channels in (CHANNELS, 10)
    for tile in convolved(channels, torch.float32 if dtype == "fp32" else torch.bfloat16)[: None if channels == CHANNELS else 1]
}
EVERY = STREAMING | TILES | SMALL | CONVOLUTIONS


def compiled(case: Case, architecture: int) -> dict[str, Any]:
    """Spills, bytes of stack, registers, kinds of loads, stores, products and sums of a kernel, with pointers and sizes that 16 divides."""
    kernel, constants = case.kernel, case.constants
    kinds = {name: f"*{case.dtype}" if name in NARROW else "*fp32" if name.endswith("_ptr") else "i32" for name in kernel.arg_names}
    signature = {name: "constexpr" if name in constants else kind for name, kind in kinds.items()}
    known = [p for p in kernel.params if p.name not in constants and not p.do_not_specialize]
    aligned = {(p.num,): [["tt.divisibility", 16]] for p in known}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
    options = {"num_warps": case.tile.warps, "num_stages": case.tile.stages, **epilogue.OPTIONS}
    built = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(built.asm["cubin"])
        code, usage = (_tool(*command, file) for command in (("nvdisasm",), ("cuobjdump", "--dump-resource-usage")))
    registers, stack = (int(re.search(rf"{what}:(\d+)", usage)[1]) for what in ("REG", "STACK"))  # type: ignore[index]
    moves = re.findall(r"\b(LDG|STG)\.E((?:\.\w+)*)", code)
    return {
        "registers": registers,
        "stack": stack,
        "shared": built.metadata.shared,
        "spills": len(re.findall(r"\b(?:STL|LDL)\b", code)),
        "loads": [kind for what, kind in moves if what == "LDG"],
        "stores": [kind for what, kind in moves if what == "STG"],
        "products": sorted({*re.findall(r"\b(HMMA|HGMMA|UTCHMMA)\b", code)}),
        # how many numbers a sum inside a tile adds at once
        "added": sorted({_length(*found) for found in REDUCED.findall(built.asm["ttgir"])}),
        # products and sums without a rounding of their own, which may become one instruction
        "loose": len(re.findall(r"\b(?:mul|add|sub)\.(?:ftz\.)?f32", built.asm["ptx"])),
    }


def _length(axis: str, shape: str) -> int:
    return int(shape.split("x")[int(axis)])


def _tool(name: str, *arguments: str | Path) -> str:
    return subprocess.run([TOOLS / name, *arguments], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    print(json.dumps({n: {a: compiled(case, a) for a in ARCHITECTURES} for n, case in EVERY.items()}))
