"""What paths a run is given, and what is expected of each; looked at before anything is loaded."""

from collections.abc import Iterable
from pathlib import Path

from banscan import files
from banscan.scanner.places import place

IMAGES, MODELS = "expected a folder of clean images", "expected a folder of clean models"
TEXT, CALIBRATION = "expected a text file", "expected a file that `banscan calibrate` wrote"


def check(
    model: Path | None = None,
    texts: Iterable[Path | None] = (),
    calibration: Path | None = None,
    images: Path | None = None,
    models: Path | None = None,
) -> None:
    """Raises UsageError for the first of these that is not there, or not of the kind that it has to be."""
    if model is not None:
        (place.check if place.elsewhere(model) else files.check_model)(model)
    if images is not None:
        files.check_folder(images, IMAGES)
    if models is not None:
        files.check_folder(models, MODELS)
    for path in texts:
        if path is not None:
            files.check_file(path, TEXT)
    if calibration is not None:
        files.check_file(calibration, CALIBRATION)
