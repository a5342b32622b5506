"""Files and folders that hold no model that is read: one sentence says what they are."""

import gzip
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from banscan import ModelError, importers
from banscan.importers import unsupported


def zipped(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


class Pickled:
    """Stands for a model of scikit-learn: a pickle that names its class."""

    def __reduce__(self) -> tuple[object, ...]:
        return (str, ("sklearn.neural_network._multilayer_perceptron MLPClassifier",))


FILES = {
    "lfs.onnx": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"ab" * 32 + b"\nsize 46830571\n",
        "a git-LFS pointer.*git lfs pull",
    ),
    "model.ort": (b"\x18\0\0\0ORTM" + bytes(100), r"\.ort.*give the \.onnx file"),
    "error.onnx": (b"<!DOCTYPE html>\n<html><body>404: Not Found</body></html>", "a web page"),
    "empty.onnx": (b"", "the file is empty"),
    "model.xml": (b'<?xml version="1.0"?>\n<net name="x" version="11">\n<layers>', "OpenVINO"),
    "model.gz": (gzip.compress(b"x" * 100), "a gzip archive"),
    "model.xz": (b"\xfd7zXZ\x00" + bytes(100), "an xz archive"),
    "model.7z": (b"7z\xbc\xaf\x27\x1c" + bytes(100), "a 7z archive"),
    "model.rar": (b"Rar!\x1a\x07\x01\x00" + bytes(100), "a rar archive"),
    "model.tar": (bytes(257) + b"ustar\x0000" + bytes(300), "a tar archive"),
    "model.gguf": (b"GGUF\x03\0\0\0" + bytes(100), "a GGUF file"),
    "model.engine": (b"ftrt" + bytes(100), "TensorRT"),
    "model.mlmodel": (b"\x08\x01\x12\x05hello", "CoreML"),
    "inference.pdmodel": (b"\n\xfb\x01feed_minibatch", "PaddlePaddle.*paddle2onnx"),
    "net.prototxt": (b'name: "net"\nlayer {', "expected a file of"),
    "deploy.prototxt": (b"layer {\n  name: 'data'", "a Caffe network"),
    "graph.pb": (b"\n\x0b\n\x05input\x12\x0bPlaceholder", "frozen graph of TensorFlow.*graphdef"),
    "weights.npz": (zipped(**{"a.npy": b"x"}), "arrays of numpy"),
    "zipped.onnx": (zipped(**{"net/model.onnx": b"x", "net/readme.txt": b""}), "'net/model.onnx' in it"),
    "zipped.pt": (zipped(**{"checkpoint.pth": b"x"}), "'checkpoint.pth' in it"),
    "model.joblib": (pickle.dumps(Pickled()), "scikit-learn.*skl2onnx"),
    "weights.pkl": (pickle.dumps({"a": 1}), "a pickle"),
    "array.npy": (b"\x93NUMPY\x01\x00" + bytes(100), "an array of numpy"),
    "photo.onnx": (b"\x89PNG\r\n\x1a\n" + bytes(100), "a picture"),
    "config.json": (b'{"architectures": ["ViT"]}', "a JSON file"),
    "model.keras": (zipped(**{"config.json": b"{}", "model.weights.h5": b""}), r"call it once .*format='onnx'"),
}


@pytest.mark.parametrize("name", FILES)
def test_files(tmp_path: Path, name: str) -> None:
    content, said = FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModelError, match=said) as caught:
        importers.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


FOLDERS = {
    "repository": (("config.json", "model.safetensors"), "Hugging Face.*optimum-cli export onnx"),
    "with a graph": (("config.json", "model.safetensors", "onnx/model.onnx"), r"give the model file in it: .*onnx/model\.onnx"),
    "mlflow": (("MLmodel", "data/model.pth"), "MLflow"),
    "mlflow with a graph": (("MLmodel", "model.onnx"), r"model\.onnx"),
    "saved model": (("saved_model.pb", "variables/variables.index"), "tf2onnx.convert --saved-model"),
    "checkpoint": (("model.pth",), r"give the model file in it: .*model\.pth"),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_folders(tmp_path: Path, name: str) -> None:
    names, said = FOLDERS[name]
    for entry in names:
        (tmp_path / entry).parent.mkdir(exist_ok=True)
        (tmp_path / entry).touch()
    with pytest.raises(ModelError, match=said):
        importers.load(tmp_path)


def test_a_file_of_numbers_is_nothing_known(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(np.random.default_rng(0).bytes(1000))
    assert unsupported.told(path) is None
