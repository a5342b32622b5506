"""Files that are not read, told by their first bytes, so that the refusal can say how to get a model out of them that is."""

from pathlib import Path

from banscan.importers.pytorch import archive, container

PICKLE = (
    "a pickle of weights or of a Python object, without the graph; save the model with torch.onnx.export or "
    "torch.jit.trace(model, example).save(path)"
)
KERAS = "load it in Keras and write model.export('model.onnx', format='onnx')"
TENSORFLOW = "convert it with tf2onnx: python -m tf2onnx.convert --{option} {path} --output model.onnx"


def told(path: Path) -> str | None:
    """What a file or folder is that banscan does not read, and what to do; None where nothing is known of it."""
    if not path.is_file():
        found = (path / "saved_model.pb").is_file()
        return f"a TensorFlow SavedModel; {TENSORFLOW.format(option='saved-model', path=path)}" if found else None
    if archive.kind(path) == "pickle":
        return PICKLE
    with path.open("rb") as file:
        start = file.read(9)
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return f"an HDF5 file, as Keras writes them; {KERAS}"
    if start[4:8] == b"TFL3":
        return f"a TensorFlow Lite model; {TENSORFLOW.format(option='tflite', path=path)}"
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
        return "weights without the graph (safetensors); load them into their model and save that with torch.onnx.export"
    if (names := container.names(path)) is not None:
        keras = "model.weights.h5" in names
        return f"a Keras archive; {KERAS}" if keras else "a zip archive; unpack it and give the model file in it"
    return None
