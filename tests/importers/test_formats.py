"""The formats: each knows its own files by their content, and says of itself what listing, checking and writing need."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
from torch import nn

from banscan import UsageError, importers
from banscan.importers import FORMATS, formats
from tests.conftest import Net, random_norms, slow_except
from tests.importers import matrix
from tests.importers.architectures import images

# how each is written: in which form of the matrix
WRITERS: dict[str, Callable[[nn.Module, Path], None]] = {
    "ONNX": matrix.legacy(17),
    "TorchScript": matrix.traced,
    "torch.export": matrix.exported,
}
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of each format, under a name that says nothing."""
    folder = tmp_path_factory.mktemp("formats")
    for name, write in WRITERS.items():
        write(random_norms(Net()), folder / name)
    return {name: folder / name for name in WRITERS}


def test_every_format_is_tested() -> None:
    assert sorted(f.name for f in FORMATS) == sorted(WRITERS)


def test_suffixes_belong_to_one_format() -> None:
    for one, other in combinations(FORMATS, 2):
        assert not set(one.suffixes) & set(other.suffixes)


@pytest.mark.parametrize("name", slow_except(WRITERS, "ONNX"))
def test_a_file_is_of_one_format(files: dict[str, Path], name: str) -> None:
    assert [f.name for f in FORMATS if f.recognises(files[name])] == [name]
    model = importers.load(files[name])
    own = formats.of(model.source)
    assert own.name == name
    assert (importers.parity(model, images(2)) is None) == (own.runtime is None) == (own.run is None)


@pytest.mark.parametrize("name", slow_except(WRITERS, "ONNX"))
def test_an_output_that_the_file_does_not_name(files: dict[str, Path], name: str) -> None:
    said = "no output 'scores'; it has logits" if name == "ONNX" else "names one of several outputs"
    with pytest.raises(UsageError, match=said):
        importers.load(files[name], logits="scores")
