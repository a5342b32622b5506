"""The Triton kernels compiled ahead of time, without a GPU: no spills, 128-bit loads and stores where memory is aligned."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.kernels.compiled import ARCHITECTURES, SMALL, STREAMING

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def code() -> dict[str, dict[str, dict[str, Any]]]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-m", "tests.kernels.compiled"], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", [*STREAMING, *SMALL])
def test_nothing_spills(code: dict[str, dict[str, dict[str, Any]]], name: str, architecture: int) -> None:
    found = code[name][str(architecture)]
    assert found["spills"] == found["stack"] == 0
    assert found["registers"] <= 128  # at least four blocks of 128 threads a processor


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("name", STREAMING)
def test_wide_loads_and_stores(code: dict[str, dict[str, dict[str, Any]]], name: str, architecture: int) -> None:
    """Whatever is as large as z moves 128 bits at a time; only the two sums of a channel are written one by one."""
    found = code[name][str(architecture)]
    assert set(found["loads"]) == {".128"}
    assert set(found["stores"]) <= {".128", ""}
    assert found["stores"].count("") <= 2
