"""The families of classifiers with a head that tells a few patterns apart, in the forms that deployments have.

python -m tests.importers.fitted FOLDER
python -m bench.clean files FOLDER --source families
"""

from pathlib import Path

import click
import torch
from torch import nn

from bench.clean import drawn
from bench.dormant.fitted import fitted
from tests.importers.architectures import FAMILIES, SIZE, make
from tests.importers.matrix import write

FORMS = (
    "ONNX 11, old exporter",
    "ONNX 17, old exporter",
    "ONNX 20, new exporter",
    "TorchScript, traced",
    "TorchScript, scripted",
    "torch.export",
    "ONNX 18, float16",
    "ONNX 17, 8 bits QDQ",
    "ONNX 17, 8 bits QOperator",
    "ONNX 17, 8 bits dynamic",
)


def made(family: str) -> nn.Module:
    """A family that knows the patterns; one without a linear layer as it is drawn."""
    module = make(family)
    if not any(isinstance(m, nn.Linear) for m in module.modules()):
        return module
    pictures, labels = drawn(SIZE, SIZE, 3)
    with torch.no_grad():
        return fitted(module, torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255, labels, 10)


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--only", default="", help="Only families whose name contains this.")
def main(folder: Path, only: str) -> None:
    """Write every family in every form into FOLDER."""
    folder.mkdir(parents=True, exist_ok=True)
    for family in FAMILIES:
        for form in FORMS if only in family else ():
            path = write(family, form, folder, made)
            if path is not None:
                path.rename(folder / f"{family}, {form}{path.suffix}")


if __name__ == "__main__":
    main()
