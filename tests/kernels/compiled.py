"""Compiles every Triton kernel for GPUs that need not be there and prints what the machine code does, as JSON.

A process of its own: once Triton's interpreter has run, its compiler does not.
"""

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from banscan.kernels import ascent, epilogue

ARCHITECTURES = (80, 90)
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
NARROW = ("z_ptr", "y_ptr", "g_ptr", "residual_ptr", "dz_ptr", "dr_ptr")
SIZES = ("M", "C", "ROWS", "PARTS", "D")
MAPPED, SUMMED = {"BM": epilogue.MAPPED // 64, "BC": 64}, {"BM": epilogue.SUMMED // 64, "BC": 64}
PLAIN: dict[str, Any] = {**SUMMED, "NORM": False, "SHARED": False, "MASK": epilogue.FROM_Y}
NORM: dict[str, Any] = {**SUMMED, "NORM": True, "RESIDUAL": False, "DZ": False, "DR": False}
STREAMING: dict[str, tuple[Any, dict[str, Any]]] = {
    "moments": (epilogue.moments, SUMMED),
    "apply with residual": (epilogue.apply, {**MAPPED, "SHARED": False, "RESIDUAL": True, "RELU": True}),
    "apply, shared": (epilogue.apply, {**MAPPED, "SHARED": True, "RESIDUAL": False, "RELU": True}),
    "gather, plain with residual": (epilogue.gather, {**PLAIN, "RESIDUAL": True, "DZ": True, "DR": True}),
    "gather, plain": (epilogue.gather, {**PLAIN, "RESIDUAL": False, "DZ": True, "DR": False}),
    "gather, normalised": (epilogue.gather, {**NORM, "SHARED": False, "MASK": epilogue.FROM_Z}),
    "gather, normalised and shared": (epilogue.gather, {**NORM, "SHARED": True, "MASK": epilogue.FROM_Y}),
    "spread": (epilogue.spread, {**MAPPED, "MASK": epilogue.FROM_Z, "SHARED": False, "DZ": True, "DR": False}),
    "spread with residual": (epilogue.spread, {**MAPPED, "MASK": epilogue.FROM_Y, "SHARED": False, "DZ": True, "DR": True}),
}
SMALL: dict[str, tuple[Any, dict[str, Any]]] = {
    "settle": (epilogue.settle, {"EPS": 1e-5, "NORM": True, "BIAS": False, "SHARED": False, "BC": 64}),
    "settle, plain": (epilogue.settle, {"EPS": 1e-5, "NORM": False, "BIAS": True, "SHARED": False, "BC": 64}),
    "settle gradient, plain": (epilogue.settle_gradient, {"NORM": False, "BIAS": True, "BC": 64}),
    "settle gradient": (epilogue.settle_gradient, {"NORM": True, "BIAS": False, "BC": 64}),
    "box step": (ascent.box_step, {"STEPS": 8, "BLOCK": ascent.BLOCK}),
    "ball step": (ascent.ball_step, {"STEPS": 8, "BLOCK": ascent.BLOCK, "MOMENTUM": 0.5, "TINY": 1e-12}),
}


def compiled(kernel: Any, constants: dict[str, Any], architecture: int) -> dict[str, Any]:
    """Spills, bytes of stack, registers and the kinds of loads and stores of a kernel, with pointers and sizes that 16 divides."""
    kinds = {name: "*bf16" if name in NARROW else "i32" if name in SIZES else "*fp32" for name in kernel.arg_names}
    signature = {name: "constexpr" if name in constants else kind for name, kind in kinds.items()}
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(kernel.arg_names) if name not in constants}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
    built = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=epilogue.OPTIONS)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(built.asm["cubin"])
        code, usage = (_tool(*command, file) for command in (("nvdisasm",), ("cuobjdump", "--dump-resource-usage")))
    registers, stack = (int(re.search(rf"{what}:(\d+)", usage)[1]) for what in ("REG", "STACK"))  # type: ignore[index]
    moves = re.findall(r"\b(LDG|STG)\.E((?:\.\w+)*)", code)
    return {
        "registers": registers,
        "stack": stack,
        "spills": len(re.findall(r"\b(?:STL|LDL)\b", code)),
        "loads": [kind for what, kind in moves if what == "LDG"],
        "stores": [kind for what, kind in moves if what == "STG"],
    }


def _tool(name: str, *arguments: str | Path) -> str:
    return subprocess.run([TOOLS / name, *arguments], capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    every = STREAMING | SMALL
    print(json.dumps({n: {a: compiled(*every[n], a) for a in ARCHITECTURES} for n in every}))
