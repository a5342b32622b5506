"""One image file: orientation, modes, bit depths, damage."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from banscan import UsageError
from banscan.importers import Input
from banscan.scanner.inputs import decode, images
from banscan.scanner.settings import Options
from tests.scanner.inputs.pictures import load, picture

T = Image.Transpose
# what turns an upright picture into what a camera stores with each orientation
STORED = {
    1: None,
    2: T.FLIP_LEFT_RIGHT,
    3: T.ROTATE_180,
    4: T.FLIP_TOP_BOTTOM,
    5: T.TRANSPOSE,
    6: T.ROTATE_90,
    7: T.TRANSVERSE,
    8: T.ROTATE_270,
}
PIXELS = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)


def decoded(path: Path, channels: int = 3) -> np.ndarray:
    return np.asarray(decode.picture(path, channels)[0])


def deep_png(path: Path, values: np.ndarray) -> None:
    """A PNG of 16 bits, which Pillow does not write in colour."""
    height, width, channels = values.shape

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    kind = {1: 0, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "jpg"])
def test_pictures_are_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    upright = Image.fromarray(PIXELS[:4, :4]).resize((32, 32), Image.Resampling.BICUBIC)
    stored, turn = upright, STORED[orientation]
    if turn is not None:
        stored = upright.transpose(turn)
    exif = Image.Exif()
    exif[decode.ORIENTATION] = orientation
    more = {"webp": {"lossless": True}, "jpg": {"quality": 99}}.get(suffix, {})
    stored.save(tmp_path / f"a.{suffix}", exif=exif, **more)
    difference = np.abs(decoded(tmp_path / f"a.{suffix}").astype(int) - np.asarray(upright))
    assert difference.mean() < (5 if suffix == "jpg" else 1e-9)


def test_damaged_exif_data_are_no_reason_to_lose_the_pixels(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\0\0\0\xffbroken")
    assert (decoded(tmp_path / "a.png") == PIXELS).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_in_colour(tmp_path: Path, channels: int) -> None:
    values = np.resize(PIXELS, (16, 16, channels))
    deep_png(tmp_path / "a.png", values.astype(np.uint16) * 257)
    assert (decoded(tmp_path / "a.png") == (values[..., :3] if channels > 1 else values)).all()


@pytest.mark.parametrize(
    ("kind", "factor"), [("float32", 1 / 255), ("float32", 1), ("float32", 257), ("int32", 1), ("uint16", 1), ("uint16", 257)]
)
def test_grey_of_other_ranges(tmp_path: Path, kind: str, factor: float) -> None:
    grey = PIXELS[..., 0].copy()
    grey[0, 0] = 255
    Image.fromarray((grey.astype(np.float64) * factor).astype(kind)).save(tmp_path / "a.tif")
    assert (decoded(tmp_path / "a.tif", 1) == grey).all()


@pytest.mark.parametrize("value", [-1.0, float("nan"), 1e9])
def test_grey_without_a_meaning_in_eight_bits(tmp_path: Path, value: float) -> None:
    Image.fromarray(np.full((4, 4), value, np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(decode.UnreadableError, match="save them with 8 bits"):
        decode.picture(tmp_path / "a.tif", 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK"])
def test_modes(tmp_path: Path, mode: str) -> None:
    """What `convert("RGB")` makes of a file; transparency is dropped, not blended."""
    picture_ = Image.fromarray(PIXELS).convert("RGB").convert("P" if mode == "PA" else mode)
    if mode in ("LA", "RGBA"):
        picture_.putalpha(Image.fromarray(PIXELS[..., 1]))
    suffix = "tif" if mode in ("CMYK", "PA") else "png"
    more = {"transparency": bytes(range(256))} if mode == "P" else {}
    try:
        picture_.convert(mode).save(tmp_path / f"a.{suffix}", **more)
    except OSError:
        pytest.skip(f"no format holds {mode}")
    with Image.open(tmp_path / f"a.{suffix}") as opened:
        opened.info.pop("transparency", None)
        expected = np.asarray(opened.convert("RGB"))
    assert (decoded(tmp_path / f"a.{suffix}") == expected).all()
    if mode == "RGBA":
        assert (expected == PIXELS).all()


@pytest.mark.parametrize("suffix", ["tif", "gif", "png", "webp"])
def test_of_several_pictures_the_first_counts(tmp_path: Path, suffix: str) -> None:
    first, second = (Image.new("RGB", (16, 16), (value, value, value)) for value in (200, 20))
    more = {"lossless": True} if suffix == "webp" else {}
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[second], **more)
    clean = load(tmp_path, 5)
    assert int(clean.images[0, 0, 0, 0]) == 200
    assert clean.left_out == ("the first picture of 1 file with several",)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-LFS pointers"),
        (b"<html>not found</html>", "no image by its content"),
        (b"II*\0" + bytes(40), "of a kind that is not decoded here"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image by its content"),
    ],
)
def test_why_a_file_cannot_be_read(tmp_path: Path, content: bytes, why: str) -> None:
    picture(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(content)
    assert f"1 file cannot be read, {why}" in load(tmp_path, 5).understood
    (tmp_path / "good.png").unlink()
    with pytest.raises(UsageError, match=f"its only image file cannot be read: 1 file cannot be read, {why}"):
        load(tmp_path, 5)


def test_nothing_is_said_on_stderr(tmp_path: Path) -> None:
    """By a process of its own: pytest takes over the logs of this one."""
    Image.fromarray(PIXELS).save(tmp_path / "a.tif")
    content = (tmp_path / "a.tif").read_bytes()
    samples = content.index(struct.pack("<HHI", 277, 3, 1)) + 8
    (tmp_path / "a.tif").write_bytes(content[:samples] + struct.pack("<H", 2048) + content[samples + 2 :])
    code = "import sys, pathlib; from banscan.scanner.inputs import decode; print(decode.is_image(pathlib.Path(sys.argv[1])))"
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.tif")], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_huge_pictures_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "good.png")
    picture(tmp_path / "huge.png", size=(40, 40))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert "1 file cannot be read, more than 0 million pixels" in load(tmp_path, 5).understood


def test_long_strips_are_cut_before_they_are_scaled() -> None:
    """Scaled to the model's height first, this one would have 45 thousand million pixels."""
    strip = Image.new("L", (200_000, 1))
    strip.paste(255, (99_990, 0, 100_010, 1))
    assert decode.fit(strip, 224, 224).shape == (224, 224)
    assert decode.fit(strip, 224, 224).min() == 255


def test_others_take_the_places_of_files_that_cannot_be_read(tmp_path: Path) -> None:
    for i in range(40):
        picture(tmp_path / f"{i:02d}.png", i)
    for i in range(0, 40, 2):
        (tmp_path / f"{i:02d}.png").write_bytes(b"")
    clean = load(tmp_path, 5, max_images=18)
    assert len(clean.images) == 18
    assert (clean.images[:, 0, 0, 0] % 2 == 1).all()
    assert (np.diff(clean.images[:, 0, 0, 0].astype(int)) > 0).all()


def test_the_size_is_asked_for_where_images_would_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(tmp_path / "a.png", size=(64, 48))
    free = Input("x", "NCHW", 3, None, None)
    monkeypatch.setattr(images, "MOST", 1000)
    with pytest.raises(UsageError, match=r"64×48 .* --size"):
        images.load(tmp_path, free, 5, Options())
    assert images.load(tmp_path, free, 5, Options(size=16)).images.shape == (1, 16, 16, 3)


def test_a_size_that_the_model_does_not_take_is_told(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    assert load(tmp_path, 5, size=24).left_out == ("--size 24 not used, the model takes 16×16 only",)
    assert load(tmp_path, 5, size=16).left_out == ()
