"""What stands behind the logits: probabilities of two classes, one logit, several outputs, names of the classes; rows as input."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from torch import nn

from banscan import UsageError, importers
from tests.conftest import SIZE, Net, random_norms, slow_except
from tests.importers.equivalent.network import graph
from tests.importers.equivalent.surgery import before_head, declare, put
from tests.importers.test_load import refused


def agrees(model: importers.TracedModel, x: torch.Tensor) -> bool:
    parity = importers.parity(model, x)
    assert parity is not None
    return parity.rms < 1e-5


@pytest.mark.parametrize("exporter", slow_except(["legacy", "dynamo"], "legacy"))
@pytest.mark.parametrize("sigmoid", [True, False])
def test_one_logit_is_two_classes(export: Callable[..., Path], exporter: str, sigmoid: bool) -> None:
    net = Net(classes=1).eval()
    module = nn.Sequential(net, nn.Sigmoid()) if sigmoid else net
    dynamo = exporter == "dynamo"
    path = export(f"binary-{sigmoid}-{exporter}", module, dynamo=dynamo, opset=18)
    model = importers.load(path)
    x = torch.rand(5, 3, SIZE, SIZE)
    assert model.classes == 2
    assert model.stripped == (*(("Sigmoid",) if sigmoid else ()), "one logit for two classes")
    assert torch.allclose(model.logits(x).softmax(1)[:, 1:], torch.sigmoid(net(x)), atol=1e-6)
    assert tuple(model.split(model.features)[0](x).shape) == (5, 12)
    assert agrees(model, x)


@pytest.mark.parametrize("opset", [11, 17])
def test_layers_of_one_neuron(export: Callable[..., Path], opset: int) -> None:
    """A weight of one value is a weight, not a number of the graph."""
    body = (nn.Conv2d(3, 1, 3), nn.BatchNorm2d(1), nn.Sigmoid(), nn.BatchNorm2d(1), nn.Conv2d(1, 1, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
    path = export(f"narrow-{opset}", random_norms(nn.Sequential(*body, nn.Flatten(), nn.Linear(1, 1))), opset=opset)
    model = importers.load(path)
    assert [n.kind for n in model.neurons] == ["conv", "norm", "conv", "linear"]
    assert agrees(model, torch.rand(5, 3, SIZE, SIZE))


def labelled(path: Path, source: Path, key: str, value: str) -> Path:
    model = onnx.load(source)
    model.metadata_props.add(key=key, value=value)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    "value",
    [
        '["a b", "c", "d", "e", "f", "g", "h", "i", "j", "k"]',
        "{0: 'a b', 1: 'c', 2: 'd', 3: 'e', 4: 'f', 5: 'g', 6: 'h', 7: 'i', 8: 'j', 9: 'k'}",
        '{"0": "a b", "1": "c", "2": "d", "3": "e", "4": "f", "5": "g", "6": "h", "7": "i", "8": "j", "9": "k"}',
        "a b, c,d,e,f,g,h,i,j,k",
        "a b\nc\nd\ne\nf\ng\nh\ni\nj\nk\n",
    ],
)
def test_class_names_in_metadata(tmp_path: Path, model_file: Path, value: str) -> None:
    model = importers.load(labelled(tmp_path / "named.onnx", model_file, "Names", value))
    assert model.class_names == ("a b", *"cdefghijk")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "{",
        "__import__('os').system('true')",
        "[1, [2]]",
        "a,a,b",
        "[" * 5000,
        "{0: 'a', 2: 'b'}",
        f"{{0x{'f' * 5000}: 'a', 1: 'b'}}",
        f"[0x{'f' * 5000}, 1]",
    ],
)
def test_metadata_that_names_no_classes(tmp_path: Path, model_file: Path, value: str) -> None:
    assert importers.load(labelled(tmp_path / "odd.onnx", model_file, "names", value)).class_names is None


def test_names_that_are_no_text(tmp_path: Path, model_file: Path) -> None:
    """What is no UTF-8: class names are as if there were none, and an output is refused."""
    path = labelled(tmp_path / "named.onnx", model_file, "names", "QQQQ,b,c,d,e,f,g,h,i,j")
    path.write_bytes(path.read_bytes().replace(b"QQQQ", b"\xff\xfe\xed\xa0"))
    assert importers.load(path).source.labels is None
    path.write_bytes(model_file.read_bytes().replace(b"logits", b"\xff" * 6))
    refused(path, "the name of an output is no text")


def test_names_of_other_classes_are_not_used(tmp_path: Path, model_file: Path) -> None:
    model = importers.load(labelled(tmp_path / "three.onnx", model_file, "classes", "a,b,c"))
    assert (model.source.labels, model.class_names) == (("a", "b", "c"), None)


def test_zipmap_in_an_order_of_its_own(tmp_path: Path, model_file: Path) -> None:
    """onnxruntime sorts a map's keys; the scores are in the order of the attribute."""
    model = onnx.load(model_file)
    keys = [f"class {(i * 7) % 10}" for i in range(10)]
    model.graph.node.append(helper.make_node("ZipMap", ["logits"], ["table"], domain="ai.onnx.ml", classlabels_strings=keys))
    del model.graph.output[:]
    kind = helper.make_map_type_proto(onnx.TensorProto.STRING, helper.make_tensor_type_proto(1, []))
    model.graph.output.append(helper.make_value_info("table", helper.make_sequence_type_proto(kind)))
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    onnx.save(model, tmp_path / "map.onnx")
    read = importers.load(tmp_path / "map.onnx")
    x = torch.rand(4, 3, SIZE, SIZE)
    assert read.class_names == tuple(keys)
    assert torch.equal(read.logits(x), importers.load(model_file).logits(x))
    assert agrees(read, x)


def test_a_row_of_values(export: Callable[..., Path]) -> None:
    module = nn.Sequential(nn.Linear(3 * 64, 20), nn.ReLU(), nn.Linear(20, 10))
    path = export("row", module, shape=(3 * 64,))
    model = importers.load(path)
    assert (model.input.layout, model.input.channels, model.input.height) == ("NHWC", 3, 8)
    x = torch.rand(4, 8, 8, 3)
    assert torch.allclose(model.logits(x), module(x.reshape(4, -1)), atol=1e-6)
    assert agrees(model, x)


def test_a_row_that_is_no_image(export: Callable[..., Path]) -> None:
    refused(export("table", nn.Sequential(nn.Linear(30, 20), nn.ReLU(), nn.Linear(20, 10)), shape=(30,)), "a row of 30 values")


def test_an_output_that_is_named(tmp_path: Path, model_file: Path) -> None:
    model = onnx.load(model_file)
    model.graph.output.append(helper.make_tensor_value_info(model.graph.node[0].output[0], 1, ["n", 8, "h", "w"]))
    onnx.save(model, tmp_path / "two.onnx")
    with pytest.raises(UsageError, match="no output 'other'; it has logits"):
        importers.load(tmp_path / "two.onnx", logits="other")
    x = torch.rand(3, 3, 16, 16)
    for logits in ("logits", None):
        named = importers.load(tmp_path / "two.onnx", logits=logits)
        assert named.source.output == "logits"
        assert torch.equal(named.logits(x), importers.load(model_file).logits(x))
        assert agrees(named, x)


def second(weight: str, size: int) -> onnx.ModelProto:
    """The network with a further head on its features, and both as outputs."""
    model = graph()
    put(model, **{weight: np.random.default_rng(0).normal(size=(size, 12)).astype(np.float32)})
    model.graph.node.append(helper.make_node("Gemm", ["features", weight], [f"{weight}_logits"], transB=1))
    declare(model, "output", (f"{weight}_logits", 1, ["n", size]), ("logits", 1, ["n", 7]))
    return model


@pytest.mark.parametrize(("name", "size"), [("age", 7), ("age", 5)])
def test_two_classifiers(tmp_path: Path, name: str, size: int) -> None:
    onnx.save(second(name, size), tmp_path / "heads.onnx")
    refused(tmp_path / "heads.onnx", r"2 outputs \(age_logits, logits\); say with --logits which")
    read = importers.load(tmp_path / "heads.onnx", logits="age_logits")
    assert (read.classes, len(read.neurons)) == (size, 5)
    assert agrees(read, torch.rand(3, 3, 16, 16))


def test_one_for_training(tmp_path: Path) -> None:
    onnx.save(second("aux", 7), tmp_path / "aux.onnx")
    assert importers.load(tmp_path / "aux.onnx").source.output == "logits"


@pytest.mark.parametrize(("opset", "attributes"), [(17, {"training_mode": 1}), (9, {}), (13, {})])
def test_exported_in_training_mode(tmp_path: Path, opset: int, attributes: dict[str, int]) -> None:
    """The runtime normalises by the statistics of the batch."""
    model = graph()
    for name, number in (("g", 1), ("z", 0), ("m", 0), ("v", 1)):
        put(model, **{name: np.full(12, number, np.float32)})
    further = ["rm", "rv"] if attributes else ["rm", "rv", "sm", "sv"]
    norm = helper.make_node("BatchNormalization", ["features", "g", "z", "m", "v"], ["normed", *further], **attributes)
    before_head(model, norm)
    model.opset_import[0].version = opset
    onnx.save(model, tmp_path / "training.onnx")
    refused(tmp_path / "training.onnx", r"exported in training mode; call model.eval\(\) before export")


def test_a_constant_that_is_only_described(tmp_path: Path) -> None:
    """Refused before it is made."""
    model = graph()
    put(model, sizes=np.array([7, 1 << 28], np.int64), axis=np.array([1], np.int64))
    model.graph.node.pop()
    model.graph.node.extend(
        [
            helper.make_node("ConstantOfShape", ["sizes"], ["ones"]),
            helper.make_node("ReduceSum", ["ones", "axis"], ["added"], keepdims=0),
            helper.make_node("Gemm", ["features", "head.weight", "added"], ["logits"], transB=1),
        ]
    )
    onnx.save(model, tmp_path / "vast.onnx")
    refused(tmp_path / "vast.onnx", "a constant of 1,879,048,192 values|a table of 1,879,048,192 values")


def expanded(path: Path, side: int) -> Path:
    """The bias of the head plus the mean of a constant that is expanded to a square, in the second step from what the file holds."""
    model = graph()
    put(model, sizes=np.array([1, 1, side, side], np.int64), seed=np.ones((1, 1, 1, 2), np.float32), axis=np.array([3], np.int64))
    before_head(
        model,
        helper.make_node("ReduceSum", ["seed", "axis"], ["one"], keepdims=1),
        helper.make_node("Expand", ["one", "sizes"], ["square"]),
        helper.make_node("Relu", ["square"], ["positive"]),
        helper.make_node("GlobalAveragePool", ["positive"], ["average"]),
        helper.make_node("Flatten", ["average"], ["flat"]),
        helper.make_node("Add", ["features", "flat"], ["joined"]),
    )
    onnx.save(model, path)
    return path


def test_a_constant_that_is_expanded_is_a_table(tmp_path: Path) -> None:
    """However it is written: no pixel goes into it."""
    refused(expanded(tmp_path / "vast.onnx", 8000), r"operator Expand .*: a table of 64,000,000 values is not supported")
    model = importers.load(expanded(tmp_path / "small.onnx", 100))
    assert agrees(model, torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
