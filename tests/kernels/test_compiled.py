"""The Triton kernels compiled ahead of time, without a GPU: no spills, 128-bit loads and stores, sums in one order."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.kernels.compiled import ARCHITECTURES, CONVOLUTIONS, EVERY, PRODUCTS, SMALL, STREAMING, TILES

pytestmark = pytest.mark.slow
Code = dict[str, dict[str, dict[str, Any]]]


@pytest.fixture(scope="module")
def code() -> Code:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-m", "tests.kernels.compiled"], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", EVERY)
def test_nothing_spills(code: Code, name: str, architecture: int) -> None:
    found = code[name][str(architecture)]
    assert found["spills"] == found["stack"] == 0
    # what a processor of compute capability 8.6 gives to one block
    assert found["shared"] <= 99 * 1024
    if name in STREAMING | SMALL:
        assert found["registers"] <= 128  # at least four blocks of 128 threads a processor


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", STREAMING)
def test_wide_loads_and_stores(code: Code, name: str, architecture: int) -> None:
    """Whatever is as large as z moves 128 bits at a time; only the two sums of a channel are written one by one."""
    found = code[name][str(architecture)]
    assert set(found["loads"]) == {".128"}
    assert set(found["stores"]) <= {".128", ""}
    assert found["stores"].count("") <= 2


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_sums_have_one_order(code: Code, architecture: int) -> None:
    """A sum inside a tile adds two numbers at a time, and no compiler fuses it with a product: see `tree`."""
    summing = {n: code[n][str(architecture)] for n in EVERY if n.startswith(("moments", "gather", "merge", "convolution"))}
    for name, found in summing.items():
        assert found["loose"] == 0, name
        assert found["added"] == ([] if "plain," in name and "convolution" in name else [2]), name
    assert all(code[n][str(architecture)]["loose"] == 0 for n in STREAMING | TILES)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_tiles_are_multiplied_alike(code: Code, architecture: int) -> None:
    """Every tile of a convolution uses the same instruction, which sums in its own order."""
    for name in CONVOLUTIONS:
        dtype = "bf16" if "bf16" in name else "fp32"
        assert code[name][str(architecture)]["products"] == [p for p in [PRODUCTS.get((architecture, dtype))] if p], name
