"""The table of operators: a name has one function."""

from typing import Any

import pytest

from banscan.importers.onnx.operators import OPERATORS, Call
from banscan.importers.onnx.operators.registry import operator


def test_a_name_is_registered_once() -> None:
    relu = OPERATORS["Relu"]

    def mine(call: Call, x: Any) -> Any:
        return x

    with pytest.raises(ValueError, match="Relu is registered twice"):
        operator("Relu")(mine)
    assert OPERATORS["Relu"] is relu
