"""Images that a script can make: characters, lines of text, pages, codes, strokes, leaves, programs."""

import string
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

Drawn = tuple[int | None, Image.Image]
Generator = np.random.Generator
WORDS = ("invoice", "total", "order", "street", "payment", "number", "customer", "delivery", "account", "amount", "date", "service")


def drawn(kind: str, count: int, seed: int = 0) -> list[Drawn]:
    """`count` images with their classes, None where a kind has none; the same ones for the same seed and version of Pillow."""
    return [KINDS[kind](np.random.default_rng([seed, i]), i) for i in range(count)]


def letter(rng: Generator, i: int) -> Drawn:
    """A letter, black on white, 28 x 28; classes 1 to 26, as in EMNIST, where 0 is no letter."""
    c = i % 26
    text = (string.ascii_uppercase if rng.random() < 0.5 else string.ascii_lowercase)[c]
    return c + 1, _written(rng, text, 112).resize((28, 28), Image.Resampling.LANCZOS)


def stored(rng: Generator, i: int) -> Drawn:
    """The same letters as EMNIST's files store theirs: bright on black, rows and columns changed over."""
    c, image = letter(rng, i)
    return c, ImageOps.invert(image).transpose(Image.Transpose.TRANSPOSE)


def line(rng: Generator, i: int) -> Drawn:
    """A line of text, 48 x 192, upright or upside down: classes 0 and 1."""
    size = int(rng.integers(22, 32))
    text = " ".join(str(rng.choice(WORDS)) for _ in range(2)) + f" {rng.integers(1, 9999)}"
    paper = int(rng.integers(190, 256))
    image = Image.new("RGB", (192, 48), (paper, paper, int(paper * 0.95)))
    ink = tuple(int(v) for v in rng.integers(0, 90, 3))
    ImageDraw.Draw(image).text((int(rng.integers(2, 14)), int(rng.integers(4, 14))), text, fill=ink, font=ImageFont.load_default(size))
    image = _noisy(rng, image, 6)
    return i % 2, image.rotate(180) if i % 2 else image


def page(rng: Generator, i: int) -> Drawn:
    """A page of text turned clockwise by 0, 90, 180 or 270 degrees: classes 0 to 3; 320 x 320 as if photographed squarely."""
    image = Image.new("L", (320, 320), int(rng.integers(215, 256)))
    pen = ImageDraw.Draw(image)
    left, top, size = int(rng.integers(12, 34)), int(rng.integers(10, 30)), int(rng.integers(9, 14))
    pen.text((left, top), str(rng.choice(WORDS)).upper(), fill=20, font=ImageFont.load_default(size + 8))
    y = top + size + 18
    while y < 300:
        words = [str(rng.choice(WORDS)) for _ in range(int(rng.integers(2, 8)))]
        pen.text((left, y), " ".join(words).capitalize() + ".", fill=int(rng.integers(10, 70)), font=ImageFont.load_default(size))
        y += size + int(rng.integers(4, 9)) + (size if rng.random() < 0.15 else 0)
    turned = _noisy(rng, image.convert("RGB"), 5).rotate(float(rng.uniform(-1, 1)), fillcolor=(230, 230, 230))
    return i % 4, turned.rotate(-90 * (i % 4))


def code(rng: Generator, i: int) -> Drawn:
    """Five digits on a pale ground with lines across, 50 x 155; the class is the first digit's."""
    digits = [int(v) for v in rng.integers(0, 10, 5)]
    digits[0] = i % 10
    image = Image.new("RGB", (155, 50), tuple(int(v) for v in rng.integers(215, 256, 3)))
    pen = ImageDraw.Draw(image)
    for k, digit in enumerate(digits):
        ink = tuple(int(v) for v in rng.integers(0, 120, 3))
        place = (10 + 27 * k + int(rng.integers(-3, 4)), 6 + int(rng.integers(-4, 5)))
        pen.text(place, str(digit), fill=ink, font=ImageFont.load_default(int(rng.integers(27, 35))))
    for _ in range(3):
        ends = [int(v) for v in (0, rng.integers(0, 50), 155, rng.integers(0, 50))]
        pen.line(ends, fill=tuple(int(v) for v in rng.integers(90, 200, 3)))
    return digits[0], _noisy(rng, image, 8)


def strokes(rng: Generator, i: int) -> Drawn:
    """A sketch of a few strokes, white on black, 384 x 384: rays, a house, a flower, a pencil and whatever comes of it; no classes."""
    image = Image.new("L", (384, 384), 255)
    pen = ImageDraw.Draw(image)
    cx, cy, r = (float(v) for v in (*rng.uniform(150, 234, 2), rng.uniform(50, 110)))
    width = int(rng.integers(3, 8))
    petals, turn = int(rng.integers(3, 11)), float(rng.uniform(0, 6.3))
    angles = turn + np.arange(petals) * 2 * np.pi / petals
    if i % 3 == 0:
        pen.ellipse([cx - r / 2, cy - r / 2, cx + r / 2, cy + r / 2], outline=0, width=width)
    for a in angles:
        x, y = cx + r * np.cos(a), cy + r * np.sin(a)
        if i % 3 == 0:
            pen.line([cx + 0.6 * (x - cx), cy + 0.6 * (y - cy), x + 0.4 * (x - cx), y + 0.4 * (y - cy)], fill=0, width=width)
        elif i % 3 == 1:
            pen.ellipse([x - r / 3, y - r / 3, x + r / 3, y + r / 3], outline=0, width=width)
    if i % 3 == 2:
        pen.polygon([(cx + r * float(np.cos(a)), cy + r * float(np.sin(a))) for a in angles], outline=0, width=width)
        pen.line([cx, cy, cx + float(rng.uniform(-140, 140)), cy + 140], fill=0, width=width)
    return None, ImageOps.invert(image)


def leaf(rng: Generator, i: int) -> Drawn:
    """A leaf with or without spots on soil or paper, 224 x 224; no classes."""
    ground = rng.integers(60, 200, 3)
    image = _noisy(rng, Image.new("RGB", (224, 224), tuple(int(v) for v in ground)), 22).filter(ImageFilter.GaussianBlur(1.5))
    pen = ImageDraw.Draw(image)
    green = (int(rng.integers(30, 110)), int(rng.integers(100, 180)), int(rng.integers(20, 80)))
    w, h = (float(v) for v in (rng.uniform(36, 66), rng.uniform(75, 102)))
    t = np.linspace(0, np.pi, 40)
    edge = 112 + w * np.sin(t) * (1 + 0.06 * rng.standard_normal(40))
    points = [*zip(edge, 112 - h * np.cos(t), strict=True), *zip((224 - edge)[::-1], (112 - h * np.cos(t))[::-1], strict=True)]
    pen.polygon([(float(x), float(y)) for x, y in points], fill=green)
    pen.line([112, 112 - h, 112, 112 + h], fill=tuple(int(0.7 * v) for v in green), width=3)
    for k in range(-3, 4):
        pen.line([112, 112 + k * h / 5, 112 + w * 0.7, 90 + k * h / 5], fill=tuple(int(0.8 * v) for v in green))
        pen.line([112, 112 + k * h / 5, 112 - w * 0.7, 90 + k * h / 5], fill=tuple(int(0.8 * v) for v in green))
    brown = (int(rng.integers(90, 180)), int(rng.integers(60, 120)), int(rng.integers(10, 60)))
    for _ in range(int(rng.integers(0, 25)) if i % 4 else 0):
        x, y, r = (float(v) for v in (rng.normal(112, w * 0.4), rng.normal(112, h * 0.4), rng.uniform(2, 9)))
        pen.ellipse([x - r, y - r, x + r, y + r], fill=brown)
    return None, _noisy(rng, image.rotate(float(rng.uniform(-60, 60)), fillcolor=tuple(int(v) for v in ground)), 7)


def program(rng: Generator, i: int) -> Drawn:
    """Bytes as grey pixels, as a picture of a program: zeros, text, repeating records and noise in bands, 256 x 256; no classes."""
    bands: list[np.ndarray] = []
    while sum(len(b) for b in bands) < 256:
        rows, form = int(rng.integers(8, 70)), int(rng.integers(4))
        if form == 0:
            bands.append(np.zeros((rows, 256)))
        elif form == 1:
            bands.append(rng.integers(32, 123, (rows, 256)))
        elif form == 2:
            record = rng.integers(0, 256, int(rng.integers(4, 33)))
            bands.append(np.resize(record, rows * 256).reshape(rows, 256))
        else:
            bands.append(rng.integers(0, 256, (rows, 256)))
    return None, Image.fromarray(np.concatenate(bands)[:256].astype(np.uint8))


def digit(rng: Generator, i: int) -> Drawn:
    """A printed digit, black on white, 32 x 32; classes 0 to 9."""
    image = Image.new("L", (32, 32), 255)
    place = (16 + float(rng.uniform(-1.5, 1.5)), 16 + float(rng.uniform(-1.5, 1.5)))
    weight = int(rng.integers(0, 2))
    ImageDraw.Draw(image).text(
        place, str(i % 10), fill=0, font=ImageFont.load_default(float(rng.uniform(24, 34))), anchor="mm", stroke_width=weight, stroke_fill=0
    )
    return i % 10, _noisy(rng, image, 10)


def symbol(rng: Generator, i: int) -> Drawn:
    """A sign drawn by hand, white on black, 224 x 224; no classes."""
    signs = string.ascii_letters + string.digits + "+-=<>/|()[]{}~%&@#?!"
    return None, ImageOps.invert(_written(rng, signs[i % len(signs)], 224))


KINDS: dict[str, Callable[[Generator, int], Drawn]] = {
    "codes": code,
    "digits": digit,
    "leaves": leaf,
    "letters": letter,
    "lines": line,
    "pages": page,
    "programs": program,
    "stored": stored,
    "strokes": strokes,
    "symbols": symbol,
}


def _written(rng: Generator, text: str, side: int) -> Image.Image:
    """Text in the middle of a white square, turned, sheared and of uneven weight, as written by a hand."""
    image = Image.new("L", (side, side), 255)
    font = ImageFont.load_default(side * float(rng.uniform(0.62, 0.85)))
    weight = int(rng.integers(0, 1 + side // 28))
    ImageDraw.Draw(image).text((side / 2, side / 2), text, fill=0, font=font, anchor="mm", stroke_width=weight, stroke_fill=0)
    shear = float(rng.uniform(-0.25, 0.25))
    data = (1, shear, -shear * side / 2, 0, 1, 0)
    image = image.transform((side, side), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR, fillcolor=255)
    return image.rotate(float(rng.uniform(-14, 14)), Image.Resampling.BILINEAR, fillcolor=255).filter(ImageFilter.GaussianBlur(side / 90))


def _noisy(rng: Generator, image: Image.Image, deviation: float) -> Image.Image:
    pixels = np.asarray(image).astype(np.float64)
    return Image.fromarray((pixels + deviation * rng.standard_normal(pixels.shape)).clip(0, 255).astype(np.uint8))
