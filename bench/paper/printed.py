"""What the paper prints, from `printed.toml` beside this file, and what its words are called here."""

import tomllib
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_suffix(".toml")
DETECTION, REPAIR = "detection", "repair"
AVERAGE, CLEAN = "Average", "No Attack"
SETS = {"CIFAR-10": "cifar10", "GTSRB": "gtsrb", "Tiny-ImageNet": "tinyimagenet", "ImageNet200": "imagenet200"}
ARCHS = {"ResNet18": "resnet18", "VGG16": "vgg16", "DenseNet121": "densenet121", "ViT": "vit"}
ATTACKS = {
    CLEAN: "none",
    "BadNets": "badnets",
    "Blend": "blend",
    "WaNet": "wanet",
    "IAD": "iad",
    "Bpp": "bpp",
    "Adap-Patch": "adap-patch",
    "SSDT": "ssdt",
}
ALL_TO_ALL = "-All"


@dataclass(frozen=True)
class Key:
    """Which models a line of a table is about; `settings` is what Table 7 changes."""

    set: str
    arch: str
    attack: str
    all_to_all: bool = False
    settings: str | None = None


@dataclass(frozen=True)
class Line:
    """A line of a table.

    Attributes:
        at: its place, as the paper names it.
        printed: a pair for each method: models called backdoored and success in percent, or benign accuracy and ASR in percent; nan where
            nothing is printed.
        spread: of these, where the paper prints it.
        key: None for an average.
    """

    at: tuple[str, ...]
    printed: tuple[tuple[float, float], ...]
    spread: tuple[tuple[float, float], ...]
    key: Key | None


@dataclass(frozen=True)
class Table:
    """One of the paper's tables; `models` is how many each line has, 0 where it is not said."""

    number: int
    title: str
    kind: str
    methods: tuple[str, ...]
    models: int
    lines: tuple[Line, ...]

    def line(self, *at: str) -> Line:
        """The line at this place.

        Raises:
            KeyError: there is none.
        """
        for line in self.lines:
            if line.at == at:
                return line
        raise KeyError(at)


@dataclass(frozen=True)
class Seconds:
    """How long the paper's text says that a detection takes."""

    method: str
    set: str
    arch: str
    printed: float


@dataclass(frozen=True)
class Figure:
    """One of the paper's figures; their points are not printed, but for some seconds."""

    number: int
    title: str
    seconds: tuple[Seconds, ...]


def read() -> tuple[tuple[Table, ...], tuple[Figure, ...]]:
    """All tables and figures, by number."""
    known = tomllib.loads(FILE.read_text())
    figures = (Figure(f["number"], f["title"], tuple(Seconds(**s) for s in f.get("seconds", ()))) for f in known["figure"])
    return tuple(map(_table, known["table"])), tuple(figures)


def _table(entry: dict[str, Any]) -> Table:
    methods = tuple(entry["methods"])
    lines = []
    for row in entry["rows"]:
        printed = tuple((float(a), float(b)) for a, b in row["printed"])
        if len(printed) != len(methods):
            raise ValueError(f"{FILE.name}: table {entry['number']} has {len(printed)} pairs at {row['at']}; expected {len(methods)}")
        spread = tuple((float(a), float(b)) for a, b in row.get("spread", [[nan, nan]] * len(methods)))
        lines.append(Line(tuple(row["at"]), printed, spread, _key(entry, tuple(row["at"]))))
    return Table(entry["number"], entry["title"], entry["kind"], methods, entry.get("models", 0), tuple(lines))


def _key(entry: dict[str, Any], at: tuple[str, ...]) -> Key | None:
    if at == (AVERAGE,):
        return None
    kept = {"set": entry.get("set"), "arch": entry.get("arch"), "attack": entry.get("attack")}
    settings = None
    aim = False
    for word in at:
        if word in SETS:
            kept["set"] = SETS[word]
        elif word in ARCHS:
            kept["arch"] = ARCHS[word]
        elif word.removesuffix(ALL_TO_ALL) in ATTACKS:
            kept["attack"], aim = ATTACKS[word.removesuffix(ALL_TO_ALL)], word.endswith(ALL_TO_ALL)
        else:
            settings = word
    if None in kept.values():
        raise ValueError(f"{FILE.name}: table {entry['number']} does not say data set, architecture and attack at {at}")
    return Key(str(kept["set"]), str(kept["arch"]), str(kept["attack"]), aim, settings)
