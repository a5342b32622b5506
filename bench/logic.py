"""Backdoors in the logic of a graph, on several kinds of networks: which are found, and what the check costs where there is none.

python -m bench.logic --images examples/clean --out bench/results/logic.jsonl
"""

import platform
import tempfile
import time
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnxruntime
import torch
from torch.nn import functional as F

from banscan import importers
from banscan.errors import ModelError
from banscan.importers.structure.finding import Structure
from banscan.scanner import logic
from banscan.scanner.inputs import images as folder
from banscan.scanner.inputs.preprocess import CANDIDATES
from banscan.scanner.settings import Options
from bench import rows
from bench.tables import header
from bench.zoo import untrained
from bench.zoo.logic import DESIGN, HELD, VARIANTS, written

EXAMPLES = Path(__file__).parents[1] / "examples"
EXAMPLE = "example"
NONE, PICTURE = "none", "picture"
TARGET = 7
UNIT = CANDIDATES[0]
Array = np.ndarray


def pictures(place: Path, count: int, size: int) -> Array:
    """Clean images, uint8 [N, size, size, 3]."""
    seen = folder.load(place, importers.Input("image", "NCHW", 3, 32, 32), 43, Options(max_images=count)).images
    x = torch.from_numpy(seen).float().permute(0, 3, 1, 2)
    x = x if size == 32 else F.interpolate(x, size=(size, size), mode="bilinear")
    return np.ascontiguousarray(x.round().byte().permute(0, 2, 3, 1).numpy())


def answers(path: Path, images: Array) -> Array:
    """The classes [N] that a file answers, by onnxruntime alone, one image at a time."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.array([int(session.run(None, {name: image[None]})[0].argmax()) for image in images])


def found(path: Path, seen: Array) -> tuple[str, Structure | None, bool]:
    """What a scan makes of a file's structure before it looks at the network: outcome, structure, and whether the network was read."""
    try:
        model = importers.load(path)
    except ModelError:
        look = logic.look(path, None)
        if look is None:
            return "no image classifier", None, False
        apart = logic.apart(path, None, seen, look.input, UNIT)
        return _outcome(apart.structure, "not settled"), apart.structure, apart.model is not None
    structure, _ = logic.again(model, None, seen, UNIT)
    return _outcome(structure, "nothing found"), structure, True


def _outcome(structure: Structure, otherwise: str) -> str:
    return "backdoored" if structure.proofs else "suspicious" if structure.doubts else otherwise


def measured(base: Path, variant: str, seen: Array, work: Path) -> dict[str, Any]:
    """One row: a variant written onto a model."""
    model = onnx.load(str(base))
    path = work / f"{variant}.onnx"
    onnx.save(model if variant == NONE else written(model, variant, TARGET), str(path))
    x = UNIT(seen, "NCHW").numpy()
    clean = answers(base, x)
    row: dict[str, Any] = {"variant": variant, "held": variant in HELD}
    if variant != NONE:
        attacked = answers(path, VARIANTS[variant].trigger(x))
        # of another picture, the class that the network sees there
        aim = int(np.bincount(attacked).argmax()) if variant == PICTURE else TARGET
        row |= {"aim": aim, "asr": float((attacked[clean != aim] == aim).mean())}
        row["benign"] = float((answers(path, x) == clean).mean())
    begin = time.perf_counter()
    outcome, structure, read = found(path, seen)
    row |= {"outcome": outcome, "read": read, "seconds": time.perf_counter() - begin}
    if structure is not None and structure.proofs:
        row |= {"target": structure.proofs[0].target, "operator": structure.proofs[0].operator}
    if structure is not None:
        row["not_done"] = structure.not_done
    path.unlink()
    return row


def page(results: list[dict[str, Any]]) -> list[str]:
    """Markdown: variants by kind of network, then how many were found."""
    last = {(r["network"], r["variant"]): r for r in results}
    networks = list(dict.fromkeys(r["network"] for r in results))
    lines = header(["variant", *networks])
    for name in (NONE, *DESIGN, *HELD):
        own = [last.get((n, name)) for n in networks]
        if any(own):
            lines.append(f"| {name}{' (held out)' if name in HELD else ''} | {' | '.join('–' if r is None else _cell(r) for r in own)} |")
    lines.append("")
    for told, held in (("tried while the check was written", False), ("held out", True)):
        rows_ = [r for r in last.values() if r["variant"] != NONE and r["held"] == held and r["asr"] >= rows.WORKING]
        right = sum(r["outcome"] == "backdoored" and r.get("target") == r.get("aim", TARGET) for r in rows_)
        passed = sum(r["outcome"] in ("nothing found", "no image classifier") for r in rows_)
        lines.append(f"- {told}: {right} of {len(rows_)} that work are proved with their target, {passed} pass unnoticed")
    clean = [r for r in last.values() if r["variant"] == NONE]
    lines.append(f"- without logic: {sum(r['outcome'] != 'nothing found' for r in clean)} of {len(clean)} networks are called anything")
    if results:
        row = results[-1]
        versions = ", ".join(f"{k} {row[k]}" for k in ("torch", "onnx", "onnxruntime"))
        lines += ["", f"{row['machine']}, one thread, {versions}; commits {', '.join(dict.fromkeys(r['commit'] for r in results))}."]
    return lines


def _cell(row: dict[str, Any]) -> str:
    target = "" if row.get("target") is None else f" {row['target']} by {row['operator']}"
    asr = "" if "asr" not in row else f", ASR {row['asr']:.0%}"
    read = "" if row["read"] else ", network not read"
    return f"{row['outcome']}{target}{read}{asr}, {row['seconds']:.1f} s"


@click.command()
@click.option("--images", type=click.Path(path_type=Path, exists=True, file_okay=False), default=Path("examples/clean"), show_default=True)
@click.option(
    "--model", type=click.Path(path_type=Path, exists=True, dir_okay=False), default=Path("examples/clean.onnx"), show_default=True
)
@click.option("--out", type=click.Path(path_type=Path), required=True)
@click.option("--only", multiple=True, help="Variants; all where none is named.")
def main(images: Path, model: Path, out: Path, only: tuple[str, ...]) -> None:
    """Append a row for every network and variant that OUT does not have yet, and print the table."""
    torch.set_num_threads(1)
    done = {(r["network"], r["variant"]) for r in rows.read(out)}
    about = {"commit": rows.commit(), "machine": platform.machine(), "seed": 0}
    about |= {package: metadata.version(package) for package in ("torch", "onnx", "onnxruntime")}
    for network in (EXAMPLE, *untrained.KINDS):
        size = 32 if network == EXAMPLE else untrained.KINDS[network][1]
        wanted = [v for v in only or (NONE, *VARIANTS) if (network, v) not in done]
        if not wanted:
            continue
        seen = pictures(images, 64 if size == 32 else 24, size)
        with tempfile.TemporaryDirectory() as work, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            base = model
            if network != EXAMPLE:
                base = Path(work) / "base.onnx"
                untrained.write(network, UNIT(seen, "NCHW"), base)
            for variant in wanted:
                rows.append(out, {"network": network, **measured(base, variant, seen, Path(work)), **about})
    click.echo("\n".join(page(rows.read(out))))


if __name__ == "__main__":
    main()
