"""A model with the clean images that a scan would see, read for whatever is measured of it beside scans."""

from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from torch import Tensor

from banscan import importers
from banscan.importers import TracedModel
from banscan.scanner.inputs import images, trial
from banscan.scanner.inputs.preprocess import Preprocess
from banscan.scanner.settings import Options


@dataclass(frozen=True)
class Given:
    """A model, its preprocessing, and clean images: uint8 [N, H, W, channels], as the model takes them [N, ...], and labels [N]."""

    model: TracedModel
    preprocess: Preprocess
    images: np.ndarray
    x: Tensor
    labels: Tensor


def read(path: Path, folder: Path) -> Given:
    """A model with at most 500 images of a folder, and the preprocessing that a scan would choose.

    Raises:
        ClickException: the folder names no classes.
        BanscanError: the model or the images cannot be read, as a scan would say.
    """
    model = importers.load(path)
    clean = images.load(folder, model.input, model.classes, Options())
    if clean.labels is None:
        raise click.ClickException(f"{folder}: no labels; expected class folders of images")
    chosen = trial.choose(model, clean.images, clean.labels).preprocess
    return Given(model, chosen, clean.images, chosen(clean.images, model.input.layout), clean.labels)
