"""Text from files, made harmless: what a terminal would obey, what nobody sees, what takes all the room."""

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from banscan.text import ENCODED, NAME, plain, shown

HOSTILE = {
    "colour": "\x1b[31mred\x1b[0m",
    "title": "\x1b]0;title\x07",
    "title, ended by ST": "\x1b]2;title\x1b\\",
    "link": "\x1b]8;;http://example.org\x1b\\text\x1b]8;;\x1b\\",
    "clipboard": "\x1b]52;c;cm0gLXJm\x07",
    "one byte controls": "\x9b2J\x9d0;t\x9c\x85",
    "erased line": "shown\r\x1b[2K",
    "backspaces": "bad\b\b\bgood",
    "lines": "one\nNo backdoor found\r\nthree\x0b\x0c",
    "separators": "one\u2028two\u2029three",
    "right to left": "\u202egnp.exe\u202c",
    "isolates": "\u2066a\u2067b\u2068c\u2069",
    "marks of direction": "\u200e\u200f\u061c",
    "no width": "a\u200bb\u200cc\u200dd\u2060e\ufeff\u00ad",
    "fillers": "\u3164\u115f\u1160\uffa0\u2800",
    "variants": "a\ufe0f\U000e0100\u180b",
    "tags": "\U000e0001\U000e0041",
    "surrogate": "\ud800x\udfff",
    "undecoded bytes": b"name\xff\x1b.onnx".decode("utf-8", "surrogateescape"),
    "null": "a\0b",
    "delete": "a\x7fb",
    "private": "\ue000",
    "unassigned": "\U0010ffff\u0378",
    "a tower of marks": "e" + "\u0301" * 50,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_nothing_hostile_is_left(text: str) -> None:
    made = plain(text)
    assert made.isprintable()
    assert "\\" in made
    made.encode()
    assert plain(made) == made


def test_every_character_that_cannot_be_seen_is_escaped() -> None:
    for code in (*range(0x20), *range(0x7F, 0xA0), *range(0x200B, 0x2010), *range(0x2028, 0x202F), *range(0x2060, 0x2070), 0xFEFF):
        assert plain(chr(code)) == chr(code).encode("unicode_escape").decode()


@pytest.mark.parametrize(
    "text", ["", "class 3", "Größe 5 µm, ÷ – …", "止まれ", "стоп", "قف", "é", "e\u0301", "🚗", "[bold]x[/]", "C:\\new"]
)
def test_what_people_write_stays(text: str) -> None:
    assert plain(text) == text


@pytest.mark.parametrize("text", ["a" * 10**6, "\x1b" * 10**6, "\u202e" * 500, "word " * 10**5, "a" * 493], ids=range(5))
@pytest.mark.parametrize("most", [NAME, 500])
def test_long_texts_are_cut_in_the_middle(text: str, most: int) -> None:
    made = plain(f"begin{text}end", most)
    assert len(made) <= most
    assert made.startswith("begin")
    assert made.endswith("end")
    assert "…" in made
    assert plain("a" * most, most) == "a" * most


@dataclass(frozen=True)
class Inner:
    name: str
    where: Path
    values: tuple[tuple[str, ...], ...]
    rest: dict[str, object]


def test_a_whole_report_at_once() -> None:
    evil = "\x1b[2J"
    made = shown([Inner(evil, Path(f"a/{evil}"), ((evil, "b"),), {evil: (evil, None, 1.5, True)})])
    safe = "\\x1b[2J"
    assert made == [Inner(safe, Path(f"a/{safe}"), ((safe, "b"),), {safe: (safe, None, 1.5, True)})]


@pytest.mark.parametrize(("encoding", "expected"), [("ascii", "#- x ... -> \\xe9 \\u6b62"), ("latin-1", "#- × ... -> é \\u6b62")])
def test_other_encodings(encoding: str, expected: str) -> None:
    assert "█– × … → é 止".encode(encoding, ENCODED).decode(encoding) == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp437", "cp1252", "shift_jis", "koi8-r"])
def test_no_encoding_fails(encoding: str) -> None:
    everything = "".join(map(chr, range(0, sys.maxunicode, 7)))
    assert everything.encode(encoding, ENCODED)
