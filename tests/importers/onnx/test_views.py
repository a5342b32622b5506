"""Networks that answer an image and its mirror image: read where they are one network, refused with the reason where they are not."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from banscan import importers
from banscan.errors import ModelError
from tests.importers.equivalent.network import CLASSES, FEATURES, SIZE, graph, network
from tests.importers.equivalent.surgery import drop, node, put

SLICED = node("Slice", ["image", "last", "before", "axis", "back"], ["mirrored"])
GATHERED = node("Gather", ["image", "order"], ["mirrored"], axis=3)
SUM = node("Add", ["logits", "logits.2"], ["total"])
HALF = node("Mul", ["total", "half"], ["mean"])
HALVES = node("Mul", ["logits", "half"], ["ours"]), node("Mul", ["logits.2", "half"], ["theirs"]), node("Add", ["ours", "theirs"], ["mean"])
STACKED = (
    node("Unsqueeze", ["logits", "zeroth"], ["ours"]),
    node("Unsqueeze", ["logits.2", "zeroth"], ["theirs"]),
    node("Concat", ["ours", "theirs"], ["both"], axis=0),
    node("ReduceMean", ["both"], ["mean"], axes=[0], keepdims=0),
)
FEATURE_MEAN = (
    node("Add", ["features", "features.2"], ["total"]),
    node("Mul", ["total", "half"], ["average"]),
    node("Gemm", ["average", "head.weight", "head.bias"], ["mean"], transB=1),
)
PROBABILITIES = (
    node("Softmax", ["logits"], ["ours"], axis=1),
    node("Softmax", ["logits.2"], ["theirs"], axis=1),
    node("Add", ["ours", "theirs"], ["total"]),
    HALF,
)
CONSTANTS = {
    "last": np.array([-1]),
    "before": np.array([-(2**31)]),
    "axis": np.array([3]),
    "back": np.array([-1]),
    "order": np.arange(SIZE)[::-1],
    "half": np.float32(0.5),
    "zeroth": np.array([0]),
}


def answered(path: Path, model: onnx.ModelProto) -> Path:
    """Saves a model whose output is "mean", with the constants that it reads."""
    model.graph.output[0].name = "mean"
    read = {i for step in model.graph.node for i in step.input}
    put(model, **{name: value for name, value in CONSTANTS.items() if name in read})
    onnx.save(model, path)
    return path


def twice(path: Path, mirror: onnx.NodeProto, *behind: onnx.NodeProto, products: bool = False) -> Path:
    """The network on the image and on its mirror image, with the same weights; `products` for a head of MatMul and Add."""
    model = graph()
    if products:
        put(model, **{"head.turned": drop(model, "head.weight").T})
        model.graph.node.pop()
        for step in (node("MatMul", ["features", "head.turned"], ["product"]), node("Add", ["product", "head.bias"], ["logits"])):
            model.graph.node.append(step)
    weights = {t.name for t in model.graph.initializer}
    again = []
    for step in model.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(step)
        copy.name = f"{step.name}.2"
        copy.input[:] = [i if i in weights else "mirrored" if i == "image" else f"{i}.2" for i in step.input]
        copy.output[:] = [f"{o}.2" for o in step.output]
        again.append(copy)
    model.graph.node.extend([mirror, *again, *behind])
    return answered(path, model)


@pytest.mark.parametrize("mirror", [SLICED, GATHERED], ids=["slice", "gather"])
@pytest.mark.parametrize("behind", [(SUM, HALF), HALVES, STACKED, FEATURE_MEAN, (node("Add", ["logits", "logits.2"], ["mean"]),)])
@pytest.mark.parametrize("products", [False, True])
@torch.no_grad()
def test_an_image_and_its_mirror_image(mirror: onnx.NodeProto, behind: tuple[onnx.NodeProto, ...], products: bool, tmp_path: Path) -> None:
    """The features are the mean of both, the classifier is the one layer that both go through."""
    if products and behind is FEATURE_MEAN:
        pytest.skip("reads the weight as it was")
    model = importers.load(twice(tmp_path / "twice.onnx", mirror, *behind, products=products))
    x = torch.rand(6, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    found = importers.parity(model, x)
    assert found is not None
    assert found.rms < 1e-6
    assert (model.classes, len(model.classifier), model.doubts) == (CLASSES, 1, ())
    front, back = model.split(model.features)
    net = network()
    features = (net.features(x) + net.features(x.flip(3))) / 2
    assert front(x).shape == (6, FEATURES)
    assert torch.allclose(front(x), features, atol=1e-5)
    assert torch.allclose(back(front(x)), model.logits(x), atol=1e-5)


def test_layers_with_other_weights_are_not_one(tmp_path: Path) -> None:
    path = twice(tmp_path / "two.onnx", SLICED, SUM, HALF)
    model = onnx.load(path)
    put(model, other=np.ones((CLASSES, FEATURES), np.float32))
    next(n for n in model.graph.node if n.name == "head.2").input[1] = "other"
    onnx.save(model, path)
    with pytest.raises(ModelError, match="from several branches, each with a last layer of its own"):
        importers.load(path)


def test_what_is_no_mean_of_scores_is_refused(tmp_path: Path) -> None:
    for behind in (PROBABILITIES, (node("Max", ["logits", "logits.2"], ["mean"]),), (node("Sub", ["logits", "logits.2"], ["mean"]),)):
        with pytest.raises(ModelError, match="from several branches, each with a last layer of its own"):
            importers.load(twice(tmp_path / "no.onnx", SLICED, *behind))


def test_views_in_one_batch_are_refused(tmp_path: Path) -> None:
    """Its rows are twice the images, so that a search would take one for another."""
    model = graph()
    model.graph.node[0].input[0] = "both"
    model.graph.node.insert(0, SLICED)
    model.graph.node.insert(1, node("Concat", ["image", "mirrored"], ["both"], axis=0))
    model.graph.node.append(node("Split", ["logits"], ["ours", "theirs"], axis=0))
    model.graph.node.append(node("Mean", ["ours", "theirs"], ["mean"]))
    with pytest.raises(ModelError, match=r"puts several views of each image into one batch .*; export the model with one view"):
        importers.load(answered(tmp_path / "batch.onnx", model))
