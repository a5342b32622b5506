"""Every family of classifiers through every way to write it down: does the import compute the same, and does it find the features?

python -m tests.importers.matrix --out docs/matrix.md
"""

import contextlib
import io
import json
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click
import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static
from torch import fx, nn

from banscan import importers
from banscan.errors import BanscanError
from banscan.importers import TracedModel
from banscan.scanner.search.rounding import straighten
from tests.importers.architectures import FAMILIES, SIZE, images, make

Writer = Callable[[nn.Module, Path], None]
# relative RMS of the logits against the runtime that the file was written for, and of the image gradient against float64
PARITY, GRADIENT = 1e-4, 1e-4
# what a file of less precision may differ; its gradient is compared with that of the network before it lost it
COARSE = {"float16": (2e-2, 0.1), "bfloat16": (1e-4, 0.5), "8 bits": (5e-2, 1.0)}
# what a quantiser may change in a network
QUANTISED = 0.3


INTRODUCTION = f"""# Families and forms

Written by `make matrix` with PyTorch {torch.__version__}, onnx {onnx.__version__} and onnxruntime {onnxruntime.__version__}. A cell is
the relative RMS difference of the logits to the runtime that the file was written for (to the network itself for torch.export), on 5
images; at most {PARITY:.0e}, {COARSE["float16"][0]:.0e} for float16 and {COARSE["8 bits"][0]} for 8 bits. A bfloat16 file is compared
with its values in float32, because onnxruntime has no bfloat16 convolution on a CPU. A file fails as well when its gradient differs from
the network's in float64 by more than {GRADIENT:.0e} ({COARSE["float16"][1]} for float16, {COARSE["bfloat16"][1]} for bfloat16,
{COARSE["8 bits"][1]:.0f} for 8 bits), or when the feature layer or the classifier found is not the true one.
"""


@dataclass(frozen=True)
class Row:
    """One file: its errors, and what was wrong with it, or nothing; without any where PyTorch cannot write it."""

    family: str
    source: str
    parity: float | None
    gradient: float | None
    problem: str | None


def legacy(opset: int) -> Writer:
    def write(module: nn.Module, path: Path) -> None:
        axes = {"image": {0: "batch"}, "logits": {0: "batch"}}
        names = {"input_names": ["image"], "output_names": ["logits"], "dynamic_axes": axes}
        torch.onnx.export(module, (images(2),), str(path), dynamo=False, opset_version=opset, **names)  # type: ignore[arg-type]

    return write


def dynamo(opset: int) -> Writer:
    def write(module: nn.Module, path: Path) -> None:
        shapes = ({0: torch.export.Dim("batch")},)
        torch.onnx.export(module, (images(2),), str(path), dynamo=True, opset_version=opset, dynamic_shapes=shapes, verbose=False)

    return write


def traced(module: nn.Module, path: Path) -> None:
    torch.jit.trace(module, images(2), check_trace=False).save(str(path))


def scripted(module: nn.Module, path: Path) -> None:
    torch.jit.script(module).save(str(path))


def frozen(module: nn.Module, path: Path) -> None:
    torch.jit.freeze(torch.jit.trace(module, images(2), check_trace=False)).save(str(path))


def exported(module: nn.Module, path: Path) -> None:
    torch.export.save(torch.export.export(module, (images(2),), dynamic_shapes=({0: torch.export.Dim("batch")},)), path)


class _Calibration(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self.left = [{"image": images(8, seed).numpy()} for seed in range(4)]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return self.left.pop() if self.left else None


def quantised(form: QuantFormat) -> Writer:
    def write(module: nn.Module, path: Path) -> None:
        legacy(17)(module, path.with_suffix(".float"))
        quantize_static(path.with_suffix(".float"), path, _Calibration(), quant_format=form, per_channel=True)

    return write


def dynamic(module: nn.Module, path: Path) -> None:
    legacy(17)(module, path.with_suffix(".float"))
    quantize_dynamic(path.with_suffix(".float"), path)


def reduced(dtype: torch.dtype, opset: int) -> Writer:
    """As models of half the size are deployed: all of it, image and logits included."""

    def write(module: nn.Module, path: Path) -> None:
        if dtype == torch.float16 and any(isinstance(layer, nn.MultiheadAttention) for layer in module.modules()):
            raise NotImplementedError("PyTorch 2.13 ends with a segmentation fault")
        shapes = ({0: torch.export.Dim("batch")},)
        example = (images(2).to(dtype),)
        torch.onnx.export(module.to(dtype), example, str(path), dynamo=True, opset_version=opset, dynamic_shapes=shapes, verbose=False)

    return write


SOURCES: dict[str, tuple[str, Writer]] = {
    **{f"ONNX {opset}, old exporter": (".onnx", legacy(opset)) for opset in (7, 8, 9, 10, 11, 13, 15, 17, 20)},
    **{f"ONNX {opset}, new exporter": (".onnx", dynamo(opset)) for opset in (18, 20, 21, 23)},
    "TorchScript, traced": (".pt", traced),
    "TorchScript, scripted": (".pt", scripted),
    "TorchScript, frozen": (".pt", frozen),
    "torch.export": (".pt2", exported),
    "ONNX 18, float16": (".onnx", reduced(torch.float16, 18)),
    "ONNX 23, bfloat16": (".onnx", reduced(torch.bfloat16, 23)),
    "ONNX 17, 8 bits QDQ": (".onnx", quantised(QuantFormat.QDQ)),
    "ONNX 17, 8 bits QOperator": (".onnx", quantised(QuantFormat.QOperator)),
    "ONNX 17, 8 bits dynamic": (".onnx", dynamic),
}


def write(family: str, source: str, folder: Path, made: Callable[[str], nn.Module] = make) -> Path | None:
    """The file, or None where PyTorch itself cannot write this family so, or writes something else."""
    suffix, writer = SOURCES[source]
    path = folder / f"model{suffix}"
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            writer(made(family), path)
        except Exception:
            return None
        if suffix != ".onnx" or "bfloat16" in source:
            return path
        coarse = [QUANTISED if precision == "8 bits" else most for precision, (most, _) in COARSE.items() if precision in source]
        return path if _faithful(path, made(family), *coarse) else None


def _faithful(path: Path, truth: nn.Module, most: float = 1e-3) -> bool:
    """Is it ONNX, and the network? Below opset 11 the old exporter writes operators that came later, and other resizing."""
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception:
        return False
    entry = session.get_inputs()[0]
    answer = session.run(None, {entry.name: images(5).numpy().astype(np.float16 if "float16" in entry.type else np.float32)})[0]
    with torch.no_grad():
        expected = truth(images(5)).numpy()
    return bool(np.linalg.norm(answer - expected) < most * np.linalg.norm(expected))


def check(family: str, source: str, path: Path) -> Row:
    """Imports a file and compares logits, gradient and feature layer with the truth."""
    _, shape, layers = FAMILIES[family]
    try:
        model = importers.load(path, size=(SIZE, SIZE))
        parity = difference(model, make(family))
        gradient = gradient_error(model, make(family))
    except BanscanError as error:
        return Row(family, source, None, None, str(error).replace(str(path), "the file"))
    found = tuple(model.split(model.features)[0](images(2)).shape[1:])
    problem = None
    most, steepest = COARSE.get(model.source.precision, (PARITY, GRADIENT))
    if not parity <= most or not gradient <= steepest:
        problem = f"parity {parity:.1e}, gradient {gradient:.1e}"
    elif found != shape or len(model.classifier) != layers:
        problem = f"features {found} with a classifier of {len(model.classifier)}, truly {shape} and {layers}"
    return Row(family, source, parity, gradient, problem)


def difference(model: TracedModel, truth: nn.Module) -> float:
    """Relative RMS difference of the logits to the file's own runtime, or to the network that was written where there is none."""
    compared = importers.parity(model, images(5))
    if compared is not None:
        return compared.rms
    with torch.no_grad():
        ours, theirs = model.outputs(model.logits(images(5))), truth(images(5))
    return float((ours - theirs).norm() / theirs.norm())


def gradient_error(model: TracedModel, truth: nn.Module) -> float:
    """Relative RMS difference of the image gradient of a sum of the outputs to that of the original in float64."""
    x = images(3)
    ours, theirs = x.clone().requires_grad_(), x.double().requires_grad_()
    # as a search has it: straight through roundings
    tail = None if model.tail is None else _straight(model.tail)
    model = replace(model, module=_straight(model.module), tail=tail)
    logits = model.outputs(model.logits(ours))
    weight = torch.linspace(-1, 1, logits.shape[1])
    (logits * weight).sum().backward()
    (truth.double()(theirs) * weight.double()).sum().backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    return float((ours.grad - theirs.grad).norm() / theirs.grad.norm())


def _straight(module: fx.GraphModule) -> fx.GraphModule:
    graph = fx.Graph()
    graph.output(graph.graph_copy(module.graph, {}))
    return straighten(fx.GraphModule(module, graph))


def page(rows: list[Row]) -> str:
    """The matrix as Markdown: parity of each file, a word where there is none."""
    lines = [*INTRODUCTION.splitlines(), "", f"| family | {' | '.join(SOURCES)} |", "| --- " * (1 + len(SOURCES)) + "|"]
    cells = {(r.family, r.source): r for r in rows}
    for family in FAMILIES:
        shown = []
        for source in SOURCES:
            row = cells.get((family, source))
            written = row is not None and (row.parity is not None or row.problem is not None)
            shown.append("–" if not written else f"{row.parity:.0e}" if row.problem is None else "fails")
        lines.append(f"| {family} | {' | '.join(shown)} |")
    failed = [r for r in rows if r.problem is not None]
    files = [r for r in rows if r.parity is not None or r.problem is not None]
    worst = max((r.parity for r in rows if r.parity is not None and r.problem is None), default=float("nan"))
    lines += [
        "",
        f"{len(files) - len(failed)} of {len(files)} files; largest relative RMS difference {worst:.0e}. – : PyTorch cannot write it.",
    ]
    lines += ["", *(f"- {r.family}, {r.source}: {r.problem}" for r in failed)]
    return "\n".join(lines).rstrip() + "\n"


@click.command()
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--rows", type=click.Path(path_type=Path, dir_okay=False), help="Keep finished rows there; a second run goes on from them.")
@click.option("--only", default="", help="Part of a source's name.")
def main(out: Path | None, rows: Path | None, only: str) -> None:
    """Check every family in every source."""
    done = [Row(**json.loads(line)) for line in rows.read_text().splitlines()] if rows and rows.exists() else []
    for source in SOURCES:
        for family in FAMILIES:
            if only not in source or any((r.family, r.source) == (family, source) for r in done):
                continue
            with tempfile.TemporaryDirectory() as folder:
                path = write(family, source, Path(folder))
                row = Row(family, source, None, None, None) if path is None else check(family, source, path)
            done.append(row)
            if rows:
                with rows.open("a") as file:
                    file.write(json.dumps(asdict(row)) + "\n")
            click.echo(f"{source:24s} {family:20s} {row.problem or ('ok' if path else 'cannot be written')}", err=True)
    text = page(done)
    if out is None:
        click.echo(text)
    else:
        out.write_text(text)


if __name__ == "__main__":
    main()
