"""Whether scans can run here, and with what: versions, processors, kernels, memory, places that are written to."""

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from banscan.scanner.machine import threads
from banscan.scanner.machine.versions import version
from banscan.version import __version__

NEEDED = ("torch", "onnx", "onnxruntime", "numpy", "scipy", "pillow", "click", "rich", "ml_dtypes")
OPTIONAL = {
    "triton": ("kernels for GPUs", "triton"),
    "cyclonedx-python-lib": ("-o FILE.cdx.json", "sbom"),
    "ray": ("--ray ADDRESS", "ray"),
    "pyyaml": ("--table FILE.yaml", "yaml"),
    "huggingface_hub": ("hf://owner/name", "hf"),
    "mlflow-skinny": ("models:/name/version", "mlflow"),
}
GB = 1 << 30
# free room that a scan of a usual model and its images takes on disk, and memory
ROOM, MEMORY = 1 * GB, 2 * GB


@dataclass(frozen=True)
class Check:
    """What was looked at, and what was found.

    Attributes:
        wrong: whether scans cannot run for it; `advice`, what to do or install.
    """

    name: str
    found: str
    wrong: bool = False
    advice: str | None = None


def examine() -> tuple[Check, ...]:
    """All checks; one that fails itself says so and costs no other."""
    made: list[Check] = []
    for look in (_versions, _packages, _processor, _memory, _devices, _temporary, _cache, _reading):
        made += looked(look)
    return tuple(made)


def looked(look: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """One check; where it fails itself, that."""
    try:
        yield from look()
    except Exception as error:
        words = " ".join(str(error).split()) or type(error).__name__
        yield Check(look.__name__.strip("_"), f"could not be looked at ({words})", wrong=True, advice="install banscan again")


def _versions() -> Iterator[Check]:
    yield Check("banscan", f"{__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")


def _packages() -> Iterator[Check]:
    there = {name: version(name) for name in NEEDED}
    missing = [name for name, found in there.items() if found is None]
    yield Check("packages", ", ".join(f"{name} {found}" for name, found in there.items() if found is not None))
    if missing:
        yield Check("packages", f"not installed: {', '.join(missing)}", wrong=True, advice=f"pip install {' '.join(missing)}")
    for name, (what, extra) in OPTIONAL.items():
        found = version(name)
        if found is None:
            yield Check("optional", f"{name} is not installed: {what} cannot be had", advice=f"pip install 'banscan[{extra}]'")
        else:
            yield Check("optional", f"{name} {found}: {what}")


def _processor() -> Iterator[Check]:
    import torch

    from banscan.scanner.facts import processor
    from banscan.scanner.machine.precision import search_dtype

    asked = os.environ.get(threads.NAME)
    all_, here = os.cpu_count() or 1, threads.allowed()
    told = f"{here} of {all_} threads may be used" if here < all_ else f"{here} threads"
    told += f", {threads.NAME} asks for {asked}" if asked else ""
    dtype = str(search_dtype("auto", torch.device("cpu"))).removeprefix("torch.")
    yield Check("processor", f"{processor()}, {told}, search in {dtype}")


def _memory() -> Iterator[Check]:
    import torch

    from banscan.scanner.machine.memory import total

    most = total(torch.device("cpu"))
    little = most < MEMORY
    advice = "scan small models, with fewer --max-images" if little else None
    yield Check("memory", f"{most / GB:.1f} GB that may be used", advice=advice)


def _devices() -> Iterator[Check]:
    import torch

    from banscan.kernels import dispatch

    places = [torch.device("cpu"), *(torch.device("cuda", i) for i in range(torch.cuda.device_count()))]
    for where in places:
        reasons = {name: dispatch.why_not(name, where) for name in dispatch.NAMES}
        able = ", ".join(name for name, why in reasons.items() if why is None)
        unable = "; ".join(f"not {name}: {why}" for name, why in reasons.items() if why is not None)
        chosen = dispatch.backend(where)
        yield Check(f"device {where}", f"{_named(where)}kernels {able}; {chosen} is taken{f'; {unable}' if unable else ''}")
    if len(places) == 1 and shutil.which("nvidia-smi"):
        told = f"there is a driver for one, but torch {torch.__version__} sees none"
        yield Check("GPU", told, advice="install the build of torch for this driver: https://pytorch.org/get-started")


def _named(where: "object") -> str:
    import torch

    assert isinstance(where, torch.device)
    if where.type != "cuda":
        return ""
    about = torch.cuda.get_device_properties(where)
    return f"{about.name}, {about.total_memory / GB:.0f} GB, compute capability {about.major}.{about.minor}; "


def _temporary() -> Iterator[Check]:
    place = Path(tempfile.gettempdir())
    if place.name.startswith("banscan-"):  # a command's own, in the folder that is asked for
        place = place.parent
    free = shutil.disk_usage(place).free
    wrong = _unwritable(place)
    advice = "let TMPDIR name a folder that can be written to and has room" if wrong or free < ROOM else None
    yield Check("temporary files", f"{place}: {wrong or 'can be written to'}, {free / GB:.1f} GB free", wrong is not None, advice)


def _cache() -> Iterator[Check]:
    if find_spec("triton") is None:
        return
    place = Path(os.environ.get("TRITON_CACHE_DIR") or Path.home() / ".triton" / "cache")
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    wrong = _unwritable(there)
    advice = "let TRITON_CACHE_DIR name a folder that can be written to; kernels for GPUs are compiled into it" if wrong else None
    yield Check("kernel cache", f"{place}: {wrong or 'can be written to'}", advice=advice)


def _unwritable(folder: Path) -> str | None:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return f"cannot be written to ({error.strerror or error})"


def _reading() -> Iterator[Check]:
    """A small model, read as any other is."""
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from banscan import importers

    weights = numpy_helper.from_array(np.eye(12, 5, dtype=np.float32), "w")
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 2, 2])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 5])
    nodes = [
        helper.make_node("Flatten", ["image"], ["x"]),
        helper.make_node("Relu", ["x"], ["y"]),
        helper.make_node("MatMul", ["y", "w"], ["logits"]),
    ]
    graph = helper.make_graph(nodes, "small", [image], [logits], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with tempfile.TemporaryDirectory(prefix="banscan-") as folder:
        path = Path(folder) / "small.onnx"
        onnx.save(model, path)
        loose = importers.load(path).source.unconfined
    if loose is None:
        yield Check("reading", "model files are read in a process that sees no other files")
    else:
        found = f"the process that reads model files cannot be kept from other files: {loose}"
        yield Check("reading", found, advice="`banscan docs security` says what that means")
