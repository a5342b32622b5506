"""Families of classifiers in the forms that people have: parity, gradient and feature layer of each (the whole matrix: matrix.py)."""

from pathlib import Path

import pytest

from tests.importers.architectures import FAMILIES
from tests.importers.matrix import check, write

SOURCES = ("ONNX 17, old exporter", "ONNX 23, new exporter", "TorchScript, traced")


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("family", FAMILIES)
def test_family(family: str, source: str, tmp_path: Path) -> None:
    path = write(family, source, tmp_path)
    assert path is not None
    row = check(family, source, path)
    assert row.problem is None, row.problem
