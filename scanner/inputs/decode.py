"""One image file: told by its content, decoded to 8 bits, turned upright, brought to the model's size."""

import logging
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from banscan.scanner.inputs import words

# Pillow's other readers run programs (EPS), or take for an image what is none
READ = ("PNG", "JPEG", "MPO", "PPM", "BMP", "DIB", "WEBP", "TIFF", "GIF", "AVIF", "JPEG2000", "PCX", "SGI", "QOI")
# those whose first bytes leave no doubt, for files whose name says nothing
SIGNED = ("PNG", "JPEG", "MPO", "BMP", "WEBP", "TIFF", "GIF", "AVIF", "JPEG2000", "QOI")
# where EXIF data say how the camera was held
ORIENTATION = 0x0112
EIGHT, SIXTEEN = 255, 65535
# how the files of the usual formats begin
BEGIN = (b"\x89PNG", b"\xff\xd8", b"II*\0", b"MM\0*", b"RIFF", b"GIF8", b"BM")
LFS = b"version https://git-lfs"
# a strip this many times longer than the model's image is cut before it is scaled
LONG = 16

# Pillow logs what it does not like of a file, which would reach the terminal where nobody asked for logs
logging.getLogger("PIL").addHandler(logging.NullHandler())


class UnreadableError(Exception):
    """A file that cannot be decoded; the message says why, in words that go on after "cannot be read, "."""


def readers(names: tuple[str, ...]) -> list[str]:
    """Those of Pillow's formats that this installation has."""
    Image.init()
    return [name for name in names if name in Image.OPEN]


def suffixes() -> frozenset[str]:
    """Of the files that can be decoded here."""
    return words.IMAGES if readers(("AVIF",)) else words.IMAGES - {".avif", ".avifs"}


def is_image(path: Path) -> bool:
    """Whether a file begins like an image, whatever its name is."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=readers(SIGNED)):
                return True
    except Exception:  # Pillow raises whatever a damaged header leads its readers to
        return False


def picture(path: Path, channels: int) -> tuple[Image.Image, bool]:
    """An upright picture in mode "L" for one channel, "RGB" otherwise, and whether the file holds further ones.

    Transparency is dropped, not blended, as PIL's `convert("RGB")` does it in training code.

    Raises:
        UnreadableError: the file is empty, damaged, too large or no image.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # the format of a .tga file has no mark of its own
            names = ("TGA",) if path.suffix.lower() == ".tga" else READ
            with Image.open(path, formats=readers(names)) as opened:
                several = opened.format != "MPO" and bool(getattr(opened, "is_animated", False))
                opened.load()
                return _eight_bits(_upright(opened)).convert("L" if channels == 1 else "RGB"), several
    except (UnreadableError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UnreadableError(f"more than {(Image.MAX_IMAGE_PIXELS or 0) // 1_000_000} million pixels: scale them down") from None
    except Exception as error:  # Pillow raises whatever a damaged file leads its decoders to
        raise UnreadableError(_why(path, error)) from None


def _why(path: Path, error: Exception) -> str:
    try:
        with path.open("rb") as file:
            start = file.read(len(LFS))
    except OSError as denied:
        return str(denied.strerror)
    if not start:
        return "empty"
    if start == LFS:
        return "git-LFS pointers: fetch the images with `git lfs pull`"
    if isinstance(error, UnidentifiedImageError):
        return "of a kind that is not decoded here: save them with 8 bits" if start.startswith(BEGIN) else "no image by its content"
    return "damaged or cut off"


def _upright(opened: Image.Image) -> Image.Image:
    """As a viewer shows it: cameras store how they were held instead of turning the pixels."""
    try:
        return opened if opened.getexif().get(ORIENTATION, 1) == 1 else ImageOps.exif_transpose(opened)
    except Exception:  # damaged EXIF data are no reason to lose the pixels
        return opened


def _eight_bits(opened: Image.Image) -> Image.Image:
    """A grey picture of more bits in 8; converted as it is, it would be cut off at 255 and be all white."""
    if opened.mode[0] not in "IF":
        return opened
    values = np.asarray(opened)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= SIXTEEN):
        raise UnreadableError("values below 0, above 65535 or not finite: save them with 8 bits")
    if opened.mode == "F" and high <= 1:
        values = np.rint(values * EIGHT)
    elif high > EIGHT:
        values = values // (SIXTEEN // EIGHT)
    return Image.fromarray(values.astype(np.uint8))


def fit(opened: Image.Image, height: int, width: int) -> np.ndarray:
    """Scales the shorter side to the model's size and cuts out the middle: uint8 [height, width] or [height, width, 3]."""
    if opened.size != (width, height):
        ratio = max(width / opened.width, height / opened.height)
        if max(opened.width * ratio / width, opened.height * ratio / height) > LONG:
            opened, ratio = _middle(opened, height, width), max(width / opened.width, height / opened.height)
        scaled = max(width, round(opened.width * ratio)), max(height, round(opened.height * ratio))
        opened = opened.resize(scaled, Image.Resampling.BILINEAR)
        left, top = (opened.width - width) // 2, (opened.height - height) // 2
        opened = opened.crop((left, top, left + width, top + height))
    return np.asarray(opened)


def _middle(opened: Image.Image, height: int, width: int) -> Image.Image:
    """The middle of a long strip, in the shape of the model's image."""
    ratio = min(opened.width / width, opened.height / height)
    w, h = max(1, round(width * ratio)), max(1, round(height * ratio))
    left, top = (opened.width - w) // 2, (opened.height - h) // 2
    return opened.crop((left, top, left + w, top + h))
