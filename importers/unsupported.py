"""Files that are not read, told by their content, so that the refusal can say how to get a model out of them that is."""

from pathlib import Path

from banscan.importers.pytorch import archive, container

EXPORT = "save the model with torch.onnx.export or torch.jit.trace(model, example).save(path)"
PICKLE = f"a pickle of weights or of a Python object, without the graph; {EXPORT}"
# a model that was never called has no input to export
KERAS = (
    "load it in Keras, call it once (model(numpy.zeros((1, height, width, channels), 'float32'))), and write "
    "model.export('model.onnx', format='onnx')"
)
TENSORFLOW = "convert it with tf2onnx: python -m tf2onnx.convert --{option} {path} --output model.onnx"
PADDLE = "convert it with paddle2onnx: paddle2onnx --model_dir . --model_filename {name} --save_file model.onnx"
UNPACK = "unpack it and give the model file in it"
MLFLOW = "an MLflow model; log it with mlflow.onnx, or give a model file in it"
LISTED = 200

# the first bytes, and what they say; `{path}` and `{name}` are the file's
SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"version https://git-lfs", "a git-LFS pointer, which stands for the model and is not it; fetch it with git lfs pull"),
    (0, b"\x89HDF\r\n\x1a\n", f"an HDF5 file, as Keras writes them; {KERAS}"),
    (4, b"ORTM", "onnxruntime's own format (.ort), made for one version of it; give the .onnx file that it was made from"),
    (4, b"TFL3", f"a TensorFlow Lite model; {TENSORFLOW.format(option='tflite', path='{path}')}"),
    (0, b"GGUF", "a GGUF file, which holds a language model; expected an image classifier"),
    (0, b"ftrt", "a TensorRT engine, built for one GPU; give the ONNX file that it was built from"),
    (0, b"ptrt", "a TensorRT engine, built for one GPU; give the ONNX file that it was built from"),
    (0, b"\x93NUMPY", f"an array of numpy, without the graph; {EXPORT}"),
    (0, b"\x1f\x8b", f"a gzip archive; {UNPACK}"),
    (0, b"BZh", f"a bzip2 archive; {UNPACK}"),
    (0, b"\xfd7zXZ\x00", f"an xz archive; {UNPACK}"),
    (0, b"7z\xbc\xaf\x27\x1c", f"a 7z archive; {UNPACK}"),
    (0, b"Rar!\x1a\x07", f"a rar archive; {UNPACK}"),
    (0, b"\x28\xb5\x2f\xfd", f"a zstd archive; {UNPACK}"),
    (257, b"ustar", f"a tar archive; {UNPACK}"),
    (0, b"\x7fELF", "a program or a library, not a model; expected an ONNX, TorchScript or torch.export file"),
    (0, b"MZ", "a program or a library, not a model; expected an ONNX, TorchScript or torch.export file"),
    (0, b"\x89PNG", "a picture; expected the path of a model first, and that of the images behind --clean-dir"),
    (0, b"\xff\xd8\xff", "a picture; expected the path of a model first, and that of the images behind --clean-dir"),
)
# what a text file says in its first bytes
TEXTS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("<!doctype html", "<html"), "a web page, perhaps an error message of a server; download the model itself"),
    (("<net ",), "an OpenVINO graph; give the ONNX file that it was converted from"),
    (("<?xml",), "an XML file; expected an ONNX, TorchScript or torch.export file"),
    (("layer {", 'input: "', "input_shape"), "a Caffe network; convert it with caffe2onnx, or give the ONNX file that there is of it"),
    (("{", "["), "a JSON file; expected an ONNX, TorchScript or torch.export file"),
    (("import ", "from ", "#!", "# "), "a text file; expected an ONNX, TorchScript or torch.export file"),
)


def told(path: Path) -> str | None:
    """What a file or folder is that banscan does not read, and what to do; None where nothing is known of it."""
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        return None
    if archive.kind(path) == "pickle":
        return _pickle(path)
    with path.open("rb") as file:
        start = file.read(512)
    for offset, signature, what in SIGNATURES:
        if start[offset : offset + len(signature)] == signature:
            return what.replace("{path}", str(path))
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
        return "weights without the graph (safetensors); load them into their model and save that with torch.onnx.export"
    if (names := container.names(path)) is not None:
        return _zip(names[: 10 * LISTED])
    return _text(start) or _protobuf(path, start)


def _pickle(path: Path) -> str:
    """A pickle names the classes of what it holds; they are looked for in its bytes, nothing is loaded."""
    with path.open("rb") as file:
        start = file.read(1 << 12)
    if b"sklearn" in start or b"xgboost" in start or b"lightgbm" in start:
        return "a pickled model of scikit-learn or a relative; convert it with skl2onnx (a neural network) and give the ONNX file"
    return PICKLE


def _zip(names: list[str]) -> str:
    if "model.weights.h5" in names:
        return f"a Keras archive; {KERAS}"
    if names and all(name.endswith(".npy") for name in names):
        return f"arrays of numpy (.npz), without the graph; {EXPORT}"
    if any(name.endswith(".mlmodel") for name in names):
        return "a CoreML package; give the model that it was converted from, as ONNX or TorchScript"
    inside = _models(names)
    return f"a zip archive with {inside[0]!r} in it; unpack it and give that file" if inside else f"a zip archive; {UNPACK}"


def _models(names: list[str]) -> list[str]:
    """Names of model files, those that banscan reads first."""
    kinds = (".onnx", ".pt2", ".pt", ".ts", ".pth", ".ckpt", ".h5", ".keras", ".tflite", ".pb", ".bin", ".safetensors")
    return sorted(
        (n for n in names if n.lower().endswith(kinds)),
        key=lambda n: (next(k for k, s in enumerate(kinds) if n.lower().endswith(s)), len(n)),
    )


def _text(start: bytes) -> str | None:
    try:
        text = start.lstrip(b"\xef\xbb\xbf \r\n\t").decode("utf-8", errors="strict" if len(start) < 512 else "ignore").lower()
    except UnicodeDecodeError:
        return None
    if not text or any(ord(c) < 32 and c not in "\r\n\t\f" for c in text):
        return None
    if "<net " in text and "<layers" in text:
        return TEXTS[1][1]
    return next((what for begins, what in TEXTS if text.startswith(begins)), None)


def _protobuf(path: Path, start: bytes) -> str | None:
    """Other frameworks' protobuf has no signature either; names of their operators stand near the beginning."""
    if path.suffix.lower() == ".mlmodel":
        return "a CoreML model; give the model that it was converted from, as ONNX or TorchScript"
    if path.suffix.lower() == ".caffemodel":
        return "weights of Caffe, without the graph; convert network and weights with caffe2onnx"
    if path.suffix.lower() in (".engine", ".plan", ".trt"):
        return "a TensorRT engine, built for one GPU; give the ONNX file that it was built from"
    if path.suffix.lower() in (".pdmodel", ".pdiparams") or b"feed_minibatch" in start or (b"feed" in start and b"fetch" in start):
        return f"a PaddlePaddle model; {PADDLE.format(name=path.name)}"
    if path.suffix.lower() == ".pb" and b"Placeholder" in start:
        return f"a frozen graph of TensorFlow; {TENSORFLOW.format(option='graphdef', path=path)} --inputs NAME:0 --outputs NAME:0"
    return None


def _folder(path: Path) -> str | None:
    """What a folder is, and the model file in it."""
    entries = []
    for entry in path.rglob("*"):
        entries.append(entry.relative_to(path).as_posix())
        if len(entries) >= LISTED:
            break
    inside = _models(entries)
    readable = [name for name in inside if name.lower().endswith((".onnx", ".pt2", ".ts"))]
    if readable:
        return f"a folder; give the model file in it: {path / readable[0]}"
    if "saved_model.pb" in entries:
        return f"a TensorFlow SavedModel; {TENSORFLOW.format(option='saved-model', path=path)}"
    if "MLmodel" in entries:
        return MLFLOW
    if "config.json" in entries and inside:
        return f"a folder of Hugging Face's transformers, without a graph; write one with optimum-cli export onnx --model {path} out/"
    return f"a folder; give the model file in it: {path / inside[0]}" if inside else None
