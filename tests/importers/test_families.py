"""Families of classifiers in the forms that people have: parity, gradient and feature layer of each (the whole matrix: matrix.py)."""

from pathlib import Path

import pytest

from tests.conftest import needs_exporter, slow_except
from tests.importers.architectures import FAMILIES
from tests.importers.matrix import check, write

SOURCES = ("ONNX 17, old exporter", "ONNX 23, new exporter", "TorchScript, traced")

# one of each kind in the fast tests
QUICK = ("resnet", "vgg_bn", "densenet", "mobilenetv2", "mobilenetv3", "vit_token", "squeezenet", "inception", "groupnorm", "mlp")


@pytest.mark.parametrize("source", slow_except(SOURCES, "ONNX 17, old exporter"))
@pytest.mark.parametrize("family", slow_except(FAMILIES, *QUICK))
def test_family(family: str, source: str, tmp_path: Path) -> None:
    needs_exporter(source)
    path = write(family, source, tmp_path)
    assert path is not None
    row = check(family, source, path)
    assert row.problem is None, row.problem
