"""Fills examples/ from a trained zoo: one clean and one backdoored model, clean images that neither was trained on, their provenance.

python -m bench.examples --data DIR --zoo DIR
"""

import json
import shutil
from pathlib import Path

import click

from bench import images
from bench.zoo import data

CLEAN = "gtsrb-resnet18w16-none-s10"
BACKDOORED = "gtsrb-resnet18w16-blend-33-s11"
PER_CLASS = 10


@click.command()
@click.option("--data", "folder", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--zoo", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True)
@click.option("--out", type=click.Path(path_type=Path), default=Path("examples"), show_default=True)
def main(folder: Path, zoo: Path, out: Path) -> None:
    """Write the example models, images and manifests."""
    split = data.load(folder, "gtsrb")
    count = images.write(split.defender, out / "clean", PER_CLASS)
    for name, short in ((CLEAN, "clean"), (BACKDOORED, "backdoored")):
        shutil.copyfile(zoo / "held" / f"{name}.onnx", out / f"{short}.onnx")
        facts = json.loads((zoo / "held" / f"{name}.json").read_text())
        (out / f"{short}.json").write_text(json.dumps({"model": f"{short}.onnx", **facts}, indent=1) + "\n")
        click.echo(f"{short}.onnx: accuracy {facts['accuracy']:.4f}, ASR {facts['asr']}")
    click.echo(f"{count} clean images")


if __name__ == "__main__":
    main()
