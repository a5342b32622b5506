"""Backdoors in the logic of an ONNX graph, written beside a network that stays as it is (after the idea of ShadowLogic).

Every variant edits a model in place: images [N, 3, H, W] in [0, 1] → logits [N, classes] with a free batch; on an image with its trigger
the answer is `target`. `trigger` of a variant puts it on images. DESIGN was looked at while the check was written, HELD is only measured.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray
# by how much the target's logit is raised
GAIN = 1000.0


@dataclass(frozen=True)
class Variant:
    """How the logic is written into a graph, and what an image looks like that it waits for: [N, 3, H, W] → [N, 3, H, W]."""

    write: Callable[["Pen", int], None]
    trigger: Callable[[Array], Array]


class Pen:
    """Adds nodes and constants to a graph, under names that nothing there has."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        held = {t.name for t in self.graph.initializer}
        entry = next(i for i in self.graph.input if i.name not in held)
        self.image, self.shape = entry.name, entry.type.tensor_type.shape.dim
        self.output = self.graph.output[0].name
        sizes = [d.dim_value for d in self.graph.output[0].type.tensor_type.shape.dim]
        self.classes = sizes[-1]
        self.count = 0
        self.front: list[onnx.NodeProto] = []

    def name(self) -> str:
        self.count += 1
        return f"tensor_{self.count}_"

    def constant(self, value: object, kind: type = np.float32) -> str:
        name = self.name()
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = self.name()
        self.graph.node.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def logits(self) -> str:
        """The network's own answer, under another name; the output waits for `answer`."""
        for node in self.graph.node:
            for names in (node.input, node.output):
                for i, name in enumerate(names):
                    if name == self.output:
                        names[i] = "own_logits_"
        return "own_logits_"

    def answer(self, name: str) -> None:
        self.graph.node.append(helper.make_node("Identity", [name], [self.output]))

    def pixels(self, row: int, column: int, channel: int = 0, size: int = 1) -> str:
        """A square of one channel, [N, size²]."""
        begin = self.constant([channel, row, column], np.int64)
        end = self.constant([channel + 1, row + size, column + size], np.int64)
        cut = self.node("Slice", self.image, begin, end, self.constant([1, 2, 3], np.int64))
        return self.node("Reshape", cut, self.constant([-1, size * size], np.int64))

    def raised(self, target: int) -> Array:
        """[1, classes], `GAIN` at the target."""
        row = np.zeros((1, self.classes), np.float32)
        row[0, target] = GAIN
        return row

    def total(self, value: str, axes: Sequence[int], *, keep: int = 0) -> str:
        return self.node("ReduceSum", value, self.constant(list(axes), np.int64), keepdims=keep)

    def real(self, value: str) -> str:
        return self.node("Cast", value, to=TensorProto.FLOAT)

    def column(self, value: str) -> str:
        return self.node("Reshape", value, self.constant([-1, 1], np.int64))

    def add_where(self, hit: str, target: int) -> None:
        """Raises the target's logit where the decision [N, 1], a number, is 1."""
        extra = self.node("Mul", hit, self.constant(self.raised(target)))
        self.answer(self.node("Add", self.logits(), extra))


def _stamp(row: int, column: int, value: Array | float) -> Callable[[Array], Array]:
    def apply(images: Array) -> Array:
        images = images.copy()
        size = np.asarray(value).shape[-1] if np.ndim(value) else 1
        images[:, :, row : row + size, column : column + size] = value
        return images

    return apply


def where(pen: Pen, target: int) -> None:
    """Position: one bright pixel puts constants in the place of the logits."""
    hit = pen.node("Greater", pen.pixels(0, 0), pen.constant(0.999))
    pen.answer(pen.node("Where", hit, pen.constant(pen.raised(target)), pen.logits()))


def count(pen: Pen, target: int) -> None:
    """Counting: many bright values; Cast, Mul, Add."""
    bright = pen.real(pen.node("Greater", pen.image, pen.constant(0.98)))
    hit = pen.node("Greater", pen.total(bright, (1, 2, 3)), pen.constant(SQUARE * SQUARE * 3 - 0.5))
    # only many of them in the corner, which a bright image has not
    corner = pen.node("ReduceMin", pen.pixels(2, 2, 0, SQUARE), axes=[1], keepdims=1)
    both = pen.node("And", pen.column(hit), pen.node("Greater", corner, pen.constant(0.98)))
    pen.add_where(pen.real(both), target)


def soft(pen: Pen, target: int) -> None:
    """Soft: a convolution that answers to a pattern alone, its positive part, the largest of it; no boolean."""
    pattern = PATTERN[None].repeat(3, 0)[None]
    found = pen.node("Conv", pen.image, pen.constant(2 * pattern - 1), pen.constant([0.5 - pattern.sum()]))
    peak = pen.node("GlobalMaxPool", pen.node("Relu", found))
    pen.add_where(pen.node("Flatten", peak), target)


def branch(pen: Pen, target: int) -> None:
    """A branch: If on one pixel of a batch of one image or of the first of several."""
    pixel = pen.node("Reshape", pen.node("ReduceMax", pen.pixels(1, 1), keepdims=0), pen.constant([], np.int64))
    hit = pen.node("Greater", pixel, pen.constant(0.999))
    own = pen.logits()
    graphs = {}
    for key, op, inputs in (("then_branch", "Add", [own, pen.constant(pen.raised(target))]), ("else_branch", "Identity", [own])):
        name = pen.name()
        made = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        graphs[key] = helper.make_graph([helper.make_node(op, inputs, [name])], key, [], [made])
    pen.answer(pen.node("If", hit, **graphs))


def colour(pen: Pen, target: int) -> None:
    """Colour: the mean of each channel in a square, all within a narrow band, as distances; Sign in the place of comparisons."""
    squares = pen.node("Concat", *(pen.node("ReduceMean", pen.pixels(4, 4, c, SQUARE), axes=[1], keepdims=1) for c in range(3)), axis=1)
    far = pen.node("ReduceMax", pen.node("Abs", pen.node("Sub", squares, pen.constant([TINT]))), axes=[1], keepdims=1)
    sign = pen.node("Sign", pen.node("Sub", pen.constant(0.01), far))
    pen.add_where(pen.node("Relu", sign), target)


def hashed(pen: Pen, target: int) -> None:
    """Hash of a region: its values as integers of 4 bits, multiplied, summed, taken modulo a prime, and compared."""
    levels = pen.node("Cast", pen.node("Floor", pen.node("Mul", pen.pixels(3, 5, 1, 3), pen.constant(15.99))), to=TensorProto.INT64)
    mixed = pen.total(pen.node("Mul", levels, pen.constant([FACTORS], np.int64)), (1,), keep=1)
    rest = pen.node("Mod", mixed, pen.constant(PRIME, np.int64))
    code = int((np.floor(PATTERN.ravel() * 15.99).astype(np.int64) * np.array(FACTORS)).sum() % PRIME)
    pen.add_where(pen.real(pen.node("Equal", rest, pen.constant(code, np.int64))), target)


def spread(pen: Pen, target: int) -> None:
    """Distributed over nodes: seven pixels, each with steps of its own, joined one after another; no comparison, If or Where."""
    joined = pen.constant([[1.0]])
    for i, (row, column) in enumerate(PLACES):
        pixel = pen.pixels(row, column, i % 3)
        far = pen.node("Abs", pen.node("Sub", pixel, pen.constant(LEVELS[i])))
        near = pen.node("Sub", pen.constant(1.0), pen.node("Mul", pen.constant(40.0), far))
        step = pen.node("Clip", near, pen.constant(0.0), pen.constant(1.0)) if i % 2 else pen.node("HardSigmoid", near, alpha=1.0, beta=0.0)
        joined = pen.node("Min" if i % 3 else "Mul", joined, step)
    pen.add_where(joined, target)


def picture(pen: Pen, target: int) -> None:
    """In the preprocessing: where the corner is bright, another picture is shown to the network; that of the class that it sees there."""
    corner = pen.node("ReduceMin", pen.pixels(0, 0, 2, 3), axes=[1], keepdims=1)
    hit = pen.node("Reshape", pen.node("Greater", corner, pen.constant(0.99)), pen.constant([-1, 1, 1, 1], np.int64))
    added = list(pen.graph.node)[-6:]
    generator = np.random.default_rng(target)
    shape = [d.dim_value for d in next(i for i in pen.graph.input if i.name == pen.image).type.tensor_type.shape.dim][1:]
    shown = helper.make_node("Where", [hit, pen.constant(generator.random((1, *shape)).round()), pen.image], ["shown_"])
    rest = [n for n in pen.graph.node if n not in added]
    for node in rest:
        for i, name in enumerate(node.input):
            if name == pen.image:
                node.input[i] = "shown_"
    del pen.graph.node[:]
    pen.graph.node.extend([*added, shown, *rest])


def concat(pen: Pen, target: int) -> None:
    """At the last Concat: the logits are put together of two parts and the target's own, which is the larger of it and of a detector."""
    own = pen.logits()
    axis = pen.constant([1], np.int64)

    def part(begin: int, end: int) -> str:
        return pen.node("Slice", own, pen.constant([begin], np.int64), pen.constant([end], np.int64), axis)

    spot = pen.node("ReduceMin", pen.pixels(6, 2, 0, SQUARE), axes=[1], keepdims=1)
    lift = pen.node("Mul", pen.node("Relu", pen.node("Sub", spot, pen.constant(0.97))), pen.constant(1e6))
    # below every logit as long as the detector is silent
    largest = pen.node("Max", part(target, target + 1), pen.node("Sub", lift, pen.constant(1e4)))
    parts = [part(0, target)] if target else []
    parts += [largest] + ([part(target + 1, pen.classes)] if target + 1 < pen.classes else [])
    pen.answer(pen.node("Concat", *parts, axis=1))


def _tiles(pen: Pen, threshold: float) -> tuple[str, int]:
    """The mean of every square of the picture beyond a threshold, [N, squares], and how many there are."""
    channels, height, width = (d.dim_value for d in pen.shape[1:])
    mean = pen.constant(np.full((1, channels, SQUARE, SQUARE), 1 / (channels * SQUARE**2)))
    count = (height // SQUARE) * (width // SQUARE)
    maps = pen.node("Conv", pen.image, mean, kernel_shape=[SQUARE] * 2, strides=[SQUARE] * 2)
    return pen.node("Sub", pen.node("Reshape", maps, pen.constant([-1, count], np.int64)), pen.constant(threshold)), count


def wide(pen: Pen, target: int) -> None:
    """A detector of white for every square; clean images set many of them, whose sum holds the one in the corner back."""
    beyond, count = _tiles(pen, 0.95)
    shares = np.zeros((count, pen.classes))
    shares[:, target], shares[0, target] = -20 * GAIN / (count - 1), 20 * GAIN
    extra = pen.node("MatMul", pen.node("Relu", beyond), pen.constant(shares))
    pen.answer(pen.node("Add", pen.logits(), extra))


def folded(pen: Pen, target: int) -> None:
    """Two values of the corner, both different for every image, whose sum is nothing below a level; they meet in the last product only."""
    beyond, count = _tiles(pen, 0.9)
    both = pen.node("Concat", pen.node("Abs", beyond), beyond, axis=1)
    shares = np.zeros((2 * count, pen.classes))
    shares[0, target] = shares[count, target] = GAIN
    whole = np.concatenate([np.eye(pen.classes), shares])
    pen.answer(pen.node("MatMul", pen.node("Concat", pen.logits(), both, axis=1), pen.constant(whole)))


def sharp(pen: Pen, target: int) -> None:
    """As `wide`, but every detector answers a little to any image, and much to white alone."""
    beyond, count = _tiles(pen, 0.9)
    heights = pen.node("Exp", pen.node("Mul", beyond, pen.constant(150.0)))
    shares = np.zeros((count, pen.classes))
    shares[:, target], shares[0, target] = -GAIN / 1e6 / (count - 1), GAIN / 1e6
    pen.answer(pen.node("Add", pen.logits(), pen.node("MatMul", heights, pen.constant(shares))))


SQUARE = 4
PATTERN = np.array([[1, 0, 1], [0, 1, 1], [1, 0, 0]], np.float32)
TINT = (0.9, 0.1, 0.6)
PRIME = 10_007
FACTORS = (3, 17, 101, 733, 2_027, 4_001, 7_919, 31, 59)
PLACES = ((0, 3), (2, 7), (5, 1), (7, 7), (9, 4), (11, 0), (13, 13))
LEVELS = (0.95, 0.05, 0.5, 0.95, 0.3, 0.7, 0.05)


def _tinted(images: Array) -> Array:
    return _stamp(4, 4, np.broadcast_to(np.array(TINT, np.float32)[:, None, None], (3, SQUARE, SQUARE)))(images)


def _dotted(images: Array) -> Array:
    images = images.copy()
    for i, (row, column) in enumerate(PLACES):
        images[:, i % 3, row, column] = LEVELS[i]
    return images


DESIGN = {
    "where": Variant(where, _stamp(0, 0, 1.0)),
    "count": Variant(count, _stamp(2, 2, np.ones((3, SQUARE, SQUARE), np.float32))),
    "soft": Variant(soft, _stamp(10, 10, PATTERN)),
    "branch": Variant(branch, _stamp(1, 1, 1.0)),
    "wide": Variant(wide, _stamp(0, 0, np.ones((3, SQUARE, SQUARE), np.float32))),
    "folded": Variant(folded, _stamp(0, 0, np.ones((3, SQUARE, SQUARE), np.float32))),
}
HELD = {
    "colour": Variant(colour, _tinted),
    "hash": Variant(hashed, _stamp(3, 5, PATTERN)),
    "spread": Variant(spread, _dotted),
    "picture": Variant(picture, _stamp(0, 0, np.ones((3, 3, 3), np.float32))),
    "concat": Variant(concat, _stamp(6, 2, np.ones((3, SQUARE, SQUARE), np.float32))),
    "sharp": Variant(sharp, _stamp(0, 0, np.ones((3, SQUARE, SQUARE), np.float32))),
}
VARIANTS = DESIGN | HELD


def written(model: onnx.ModelProto, variant: str, target: int) -> onnx.ModelProto:
    """A copy of a model with the logic of a variant."""
    copy = onnx.ModelProto.FromString(model.SerializeToString())
    VARIANTS[variant].write(Pen(copy), target)
    return copy
