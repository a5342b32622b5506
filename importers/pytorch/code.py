"""The code of a TorchScript archive, looked at before PyTorch parses it: nothing in it may run while it is loaded.

What it calls when it is run is not judged here but in the loaded graph, where every operator is resolved. Loading runs three things: a
class's `__setstate__`, default values of arguments, and values of a class's constants. The scan is linear; it knows the part of the syntax
that PyTorch itself writes and refuses the rest.
"""

import re
from collections.abc import Iterator

from banscan.errors import ModelError

LARGEST, DEEPEST, LONGEST_LINE = 8 << 20, 100, 20_000
TOKEN = re.compile(
    r'(?P<string>"(?:[^"\\\n]|\\[^\n])*"(?!")|\'(?:[^\'\\\n]|\\[^\n])*\'(?!\'))|(?P<name>[A-Za-z_][A-Za-z_0-9]*)'
    r"|(?P<number>[0-9][0-9A-Za-z_.]*)|(?P<newline>\n)|(?P<space> +)|(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<other>[-+*/%@<>=!~&|^.,:])"
)
# names that may stand in a value which is there before anything runs
LITERALS = frozenset({"True", "False", "None", "inf", "nan", "infj", "nanj", "annotate", "List", "Dict", "Tuple", "Optional"})
LITERALS |= {"int", "float", "bool", "str", "Tensor", "Final"}
# never a classifier's; a call of it that nothing reads would not be in the graph
FILES = frozenset({"from_file", "save"})
HOOKS = ("__forward_hooks__", "__forward_pre_hooks__")
# what a line of a class or a module may begin with, apart from the names that it gives values to
BEGINNINGS = ("def", "class", "import")

Token = tuple[str, str]


def check(where: str, text: str) -> None:
    """Raises ModelError for code that runs while it is loaded, or that is not as PyTorch writes it."""
    if len(text) > LARGEST:
        raise ModelError(f"{where} has more than {LARGEST:,} characters; the file is damaged or hostile")
    # the indentations of the definitions that the line is in, innermost last; None for a class
    inside: list[tuple[int, str]] = []
    for indent, line in statements(where, text):
        while inside and inside[-1][0] >= indent:
            inside.pop()
        first = line[0][1]
        if any(kind == "name" and token in ("def", "class") for kind, token in line[1:]):
            raise ModelError(f"{where} has two definitions in a line, which PyTorch does not write; refused")
        for (_, before), (_, name), (_, behind) in zip(line, line[1:], line[2:], strict=False):
            if before == "." and name in FILES and behind == "(":
                raise ModelError(f"{where} calls {name}, which no classifier needs; refused")
        if first == "def":
            check_definition(where, line)
        elif not any(kind == "def" for _, kind in inside):
            check_declaration(where, line)
        if first in ("def", "class"):
            inside.append((indent, first))


def statements(where: str, text: str) -> Iterator[tuple[int, list[Token]]]:
    """The lines, as far as brackets join them, with their indentation."""
    place, depth, indent, line = 0, 0, 0, list[Token]()
    while place < len(text):
        found = TOKEN.match(text, place)
        if found is None or found.lastgroup is None:
            raise ModelError(f"{where} is not as PyTorch writes it, near character {place:,}; save the model again with torch.jit.save")
        kind, value, place = found.lastgroup, found.group(), found.end()
        if kind == "newline":
            if depth == 0 and line:
                yield indent, line
                line = []
            indent = indent if depth else 0
        elif kind == "space":
            indent = indent if depth or line else len(value)
        else:
            depth += (kind == "open") - (kind == "close")
            if not 0 <= depth <= DEEPEST or indent > 2 * DEEPEST or len(line) > LONGEST_LINE:
                raise ModelError(f"{where} is nested or joined beyond what a classifier needs; the file is damaged or hostile")
            line.append((kind, value))
    if line:
        yield indent, line


def check_definition(where: str, line: list[Token]) -> None:
    """A function or method: neither its name nor its default values may make it run."""
    name = line[1][1] if len(line) > 1 else ""
    if name in ("__setstate__", "__getstate__"):
        raise ModelError(f"{where}: a class of the model runs code while it is loaded ({name}); refused")
    depth, value = 0, False
    for kind, token in line[2:]:
        depth += (kind == "open") - (kind == "close")
        if depth <= 1 and token in ("=", ",", ")"):
            value = token == "="
        elif value:
            check_literal(where, kind, token)


def check_declaration(where: str, line: list[Token]) -> None:
    """What stands in a class or a module itself: types, and values that are there without computing them."""
    first = line[0][1]
    if first in BEGINNINGS or line[0][0] == "string":
        return
    if line[0][0] != "name":
        raise ModelError(f"{where} has a line that PyTorch does not write; save the model again with torch.jit.save")
    if first in HOOKS and any(kind == "string" for kind, _ in line):
        raise ModelError(f"{where}: the model runs hooks around its layers, which cannot be read; remove them and save it again")
    value = False
    for kind, token in line:
        if value and first != "__annotations__":
            check_literal(where, kind, token)
        value = value or token == "="


def check_literal(where: str, kind: str, token: str) -> None:
    """Raises ModelError for a part of a value that would have to be computed."""
    if kind == "name" and token not in LITERALS:
        raise ModelError(f"{where}: a default value or constant is computed while the model is loaded ({token}); refused")
