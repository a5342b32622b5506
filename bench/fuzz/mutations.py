"""How an intact file becomes a mutant: by its bytes, its protobuf, its archive, its code and its JSON. Everything is drawn by a seed."""

import io
import json
import random
import re
import zipfile
from collections.abc import Callable
from typing import Any

import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from bench.fuzz.files import entries

NUMBERS = (-(2**63), -(2**31), -1, 0, 1, 2, 3, 7, 255, 2**16, 2**31 - 1, 2**31, 2**40, 2**63 - 1)
TEXTS = ("", "x", "image", "out", "\x1b[2J", "\ud800", "../../evil", "\0", "🙂", "a" * 5000, "[bold]", "{0.__class__}")
OPERATORS = tuple(s.name for s in onnx.defs.get_all_schemas() if s.domain == "")
# what may stand in code, beside what stands there already
CODE = (
    *("torch", "torch.save", "torch.from_file", "ops.aten.from_file", "self", "x", "None", "True", "annotate(int, 0)", "9" * 400),
    *(
        "torch.format",
        '"{0.__class__}"',
        "(2 ** 999999)",
        '("a" * 99999999)',
        "[0] * 99999999",
        "while True:",
        "if torch.size(x, 0) == 64:",
    ),
    *(
        "return x",
        "raise AssertionError",
        "del x",
        "torch.pow(9, 99999)",
        "x.requires_grad",
        "__torch__",
        "uninitialized(Tensor)",
        "]",
        ")",
    ),
)
Mutate = Callable[[bytes, random.Random], bytes]


def of_bytes(data: bytes, draw: random.Random) -> bytes:
    """One to four changes of bytes: another value, a part left out, doubled, moved or overwritten, the end cut off."""
    made = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        at = draw.randrange(max(1, len(made)))
        size = min(len(made) - at, draw.choice((1, 2, 4, 8, 64, 512)))
        kind = draw.randrange(7)
        if kind == 0 and made:
            made[at] ^= 1 << draw.randrange(8)
        elif kind == 1:
            made[at : at + size] = draw.randbytes(size)
        elif kind == 2:
            del made[at : at + size]
        elif kind == 3:
            made[at:at] = made[at : at + size]
        elif kind == 4:
            other = draw.randrange(max(1, len(made)))
            made[other:other] = made[at : at + size]
        elif kind == 5:
            made[at : at + 8] = draw.choice(NUMBERS).to_bytes(8, draw.choice(("little", "big")), signed=True)
        elif draw.random() < 0.3:
            del made[at:]
    return bytes(made)


def of_protobuf(data: bytes, draw: random.Random) -> bytes:
    """One to three changes of fields of an ONNX model, anywhere in it."""
    model = onnx.ModelProto()
    model.ParseFromString(data)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        _change(draw.choice(_messages(model)), model, draw)
    return bytes(model.SerializeToString())


def _messages(message: Message) -> list[Message]:
    found = [message]
    field: Any
    for field, value in message.ListFields():
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in value if field.is_repeated else [value]:
                found += _messages(inner)
    return found


def _change(message: Message, model: onnx.ModelProto, draw: random.Random) -> None:
    """Changes one field of one message."""
    if isinstance(message, onnx.NodeProto) and draw.random() < 0.4:
        _change_node(message, model, draw)
        return
    field: Any = draw.choice(list(message.DESCRIPTOR.fields))
    value = getattr(message, field.name)
    if field.is_repeated:
        kind = draw.randrange(4)
        if kind == 0 and len(value):
            del value[draw.randrange(len(value))]
        elif kind == 1 and len(value) and field.type == FieldDescriptor.TYPE_MESSAGE:
            value.add().CopyFrom(draw.choice(value))
        elif kind == 2 and len(value) > 1 and field.type != FieldDescriptor.TYPE_MESSAGE:
            a, b = draw.randrange(len(value)), draw.randrange(len(value))
            value[a], value[b] = value[b], value[a]
        elif field.type != FieldDescriptor.TYPE_MESSAGE:
            value.append(_scalar(field, draw))
    elif field.type == FieldDescriptor.TYPE_MESSAGE or draw.random() < 0.1:
        message.ClearField(field.name)
    else:
        setattr(message, field.name, _scalar(field, draw))


def _change_node(node: onnx.NodeProto, model: onnx.ModelProto, draw: random.Random) -> None:
    """Another operator, other inputs, or another attribute."""
    kind = draw.randrange(4)
    names = [o for n in model.graph.node for o in n.output] + [t.name for t in model.graph.initializer] + ["image"]
    if kind == 0:
        node.op_type = draw.choice(OPERATORS)
    elif kind == 1 and node.input:
        node.input[draw.randrange(len(node.input))] = draw.choice(names)
    elif kind == 2 and node.attribute:
        attribute = draw.choice(node.attribute)
        attribute.i, attribute.f = draw.choice(NUMBERS), draw.choice((0.0, -1.0, float("nan"), float("inf"), 1e-30))
        if len(attribute.ints):
            attribute.ints[draw.randrange(len(attribute.ints))] = draw.choice(NUMBERS)
    else:
        name = draw.choice(("axis", "axes", "group", "pads", "strides", "mode", "auto_pad", "keepdims", "to", "alpha", "transA", "perm"))
        given: Any = draw.choice((draw.choice(NUMBERS), [draw.choice(NUMBERS)] * 4, 0.5, "SAME_UPPER", "reflect"))
        node.attribute.append(onnx.helper.make_attribute(name, given))


def _scalar(field: Any, draw: random.Random) -> Any:
    if field.type == FieldDescriptor.TYPE_STRING:
        return draw.choice([t for t in TEXTS if t.isprintable() or "\ud800" not in t])
    if field.type == FieldDescriptor.TYPE_BYTES:
        return draw.randbytes(draw.choice((0, 1, 4, 64)))
    if field.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE):
        return draw.choice((0.0, -1.0, 1e30, float("nan"), float("inf")))
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return draw.choice([v.number for v in field.enum_type.values])
    narrow = field.cpp_type in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_UINT32)
    signed = field.cpp_type in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64)
    return draw.choice([n for n in NUMBERS if (signed or n >= 0) and (not narrow or -(2**31) <= n < 2**31)])


def of_archive(data: bytes, draw: random.Random) -> bytes:
    """An archive written anew with an entry changed, doubled, left out, renamed, or packed in another way."""
    held = entries(data)
    if not held:
        return of_bytes(data, draw)
    at, kind = draw.randrange(len(held)), draw.randrange(7)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for i, (info, content) in enumerate(held):
            name, packing = info.filename, zipfile.ZIP_STORED
            if i == at:
                if kind == 0:
                    continue
                if kind == 1:
                    content = of_bytes(content, draw)
                elif kind == 2:
                    name = draw.choice(
                        (name + "x", "../" + name, "/" + name, name.upper(), draw.choice(held)[0].filename, name.replace("/", "\\"))
                    )
                elif kind == 3:
                    packing = draw.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
                elif kind == 4:
                    archive.writestr(name, of_bytes(content, draw))
                elif kind == 5:
                    content = content * draw.choice((2, 1000)) if len(content) < 10_000 else b""
            archive.writestr(zipfile.ZipInfo(name), content, packing)
    made = buffer.getvalue()
    if kind == 6:  # two tables of contents, or bytes of the last one changed
        made = data + made if draw.random() < 0.5 else made[:-60] + of_bytes(made[-60:], draw)
    return made


def of_text(data: bytes, draw: random.Random) -> bytes:
    """The code or JSON in an archive with words, lines or values changed; or such a file itself."""
    held = entries(data)
    texts = [i for i, (info, _) in enumerate(held) if info.filename.endswith((".py", ".json"))]
    if not texts:
        return _words(data.decode(errors="replace"), draw).encode(errors="replace")
    at = draw.choice(texts)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for i, (info, content) in enumerate(held):
            if i == at:
                change = _json if info.filename.endswith(".json") and draw.random() < 0.7 else _words
                content = change(content.decode(), draw).encode(errors="replace")
            archive.writestr(zipfile.ZipInfo(info.filename), content)
    return buffer.getvalue()


def _words(text: str, draw: random.Random) -> str:
    """One to three words replaced, or lines left out, doubled or put elsewhere."""
    for _ in range(draw.choice((1, 1, 2, 3))):
        if draw.random() < 0.6:
            words = list(re.finditer(r"\w+(?:\.\w+)*|[^\w\s]", text))
            if words:
                chosen = draw.choice(words)
                other = draw.choice((draw.choice(CODE), draw.choice(words)[0]))
                text = text[: chosen.start()] + other + text[chosen.end() :]
        else:
            lines = text.split("\n")
            i, j = draw.randrange(len(lines)), draw.randrange(len(lines))
            lines[i : i + draw.randrange(2)] = [lines[j]] * draw.randrange(3)
            text = "\n".join(lines)
    return text


def _json(text: str, draw: random.Random) -> str:
    """One value anywhere replaced or left out."""
    document = json.loads(text)
    holders: list[Any] = []
    waiting: list[Any] = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict | list) and value:
            holders.append(value)
            waiting += value.values() if isinstance(value, dict) else value
    if not holders:
        return text
    holder = draw.choice(holders)
    key: Any = draw.choice(list(holder)) if isinstance(holder, dict) else draw.randrange(len(holder))
    if draw.random() < 0.3:
        del holder[key]
    else:
        holder[key] = draw.choice((*NUMBERS, *TEXTS, None, True, [], {}, 0.5, draw.choice(holders)))
    try:
        return json.dumps(document)
    except (ValueError, RecursionError):  # a value that holds itself
        return "[" * 100_000


# what can be done to files of each kind
KINDS: dict[str, tuple[Mutate, ...]] = {
    "onnx": (of_bytes, of_protobuf, of_protobuf, of_protobuf),
    "script": (of_bytes, of_archive, of_text, of_text),
    "pt2": (of_bytes, of_archive, of_text, of_text),
    "image": (of_bytes,),
    "table": (of_bytes, of_text),
    "names": (of_bytes, of_text),
}


def mutant(kind: str, data: bytes, seed: str) -> bytes:
    """The mutant of an intact file that a seed stands for."""
    draw = random.Random(seed)
    return draw.choice(KINDS[kind])(data, draw)
