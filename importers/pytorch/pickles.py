"""The pickles of a TorchScript archive, checked by a machine that knows only the opcodes PyTorch writes, and builds nothing."""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from banscan.errors import ModelError
from banscan.importers.pytorch.table import Entry

LARGEST, MOST, DEEPEST, MAX = 4 << 20, 1_000_000, 100, 1 << 62
# names that TorchScript's own serialisation puts into its pickles; everything below __torch__ is the model's own classes
GLOBALS = frozenset({"collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter", "torch device"})
PICKLE_MODULE, OWN, NATIVE = "torch.jit._pickle", "__torch__", "__torch__.torch.classes"
# bytes of a value, by the storage that holds it
WIDTHS = {
    **dict.fromkeys(("Double", "Long", "ComplexFloat"), 8),
    **dict.fromkeys(("Float", "Int"), 4),
    **dict.fromkeys(("Half", "BFloat16", "Short"), 2),
    **dict.fromkeys(("Char", "Byte", "Bool"), 1),
}
QUANTISED = "it is quantised in PyTorch, which is not read; export the float model, or quantise it with onnxruntime"
PACKED = "its weights are packed for XNNPACK, which is not read; export the model as it was before optimize_for_mobile"
PLAIN = frozenset({"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"})
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
CONTAINERS = frozenset({"EMPTY_LIST", "EMPTY_DICT", "EMPTY_TUPLE"})
# how many values are taken off the stack to be put into the container below them
ADDED = {"APPEND": 1, "SETITEM": 2, "BUILD": 1}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(frozen=True)
class Global:
    """A name that the pickle asks for: module and attribute, with a blank between."""

    name: str


@dataclass(frozen=True)
class Value:
    """A value on the machine's stack: plain ones and tuples are known, of others only how deep they are nested."""

    known: Any = None
    depth: int = 0


class Machine:
    """Follows one pickle; `stored` gives the bytes that the archive holds of a storage by its key, None where there is none.

    Raises:
        ModelError: an opcode, a name or a storage that no classifier needs.
    """

    def __init__(self, where: str, stored: Callable[[str], int | None]) -> None:
        self.where, self.stored = where, stored
        self.stack: list[Value] = []
        self.marks: list[int] = []
        self.memo: dict[int, Value] = {}

    def run(self, data: bytes) -> None:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count > MOST:
                raise ModelError(f"{self.where} has more than {MOST:,} steps; the file is damaged or hostile")
            self.step(opcode.name, argument)

    def step(self, name: str, argument: Any) -> None:
        if name in PLAIN:
            self.push(argument)
        elif name in CONSTANTS:
            self.push(CONSTANTS[name])
        elif name in CONTAINERS:
            self.push(() if name == "EMPTY_TUPLE" else None)
        elif name in TUPLES:
            self.gather(self.taken(TUPLES[name]))
        elif name in ("TUPLE", "LIST"):
            self.gather(self.marked())
        elif name in ("APPENDS", "SETITEMS", "DICT"):
            self.put(self.marked(), onto=name != "DICT")
        elif name in ADDED:
            self.put(self.taken(ADDED[name]), onto=True)
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.top()
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name == "GLOBAL":
            check_global(self.where, str(argument))
            self.push(Global(str(argument)))
        elif name in ("REDUCE", "NEWOBJ"):
            called, given = self.taken(2)
            if not isinstance(called.known, Global):
                raise ModelError(f"{self.where} calls what is no name; refused")
            self.put([given], onto=False)
        elif name == "BINPERSID":
            self.storage(self.taken(1)[0].known)
        elif name == "MARK":
            self.marks.append(len(self.stack))
        elif name not in ("PROTO", "STOP"):
            raise ModelError(f"{self.where} has the step {name}, which no classifier needs; refused")

    def push(self, known: Any) -> None:
        self.stack.append(Value(known))

    def top(self) -> Value:
        return self.stack[-1]

    def taken(self, count: int) -> list[Value]:
        if len(self.stack) - (self.marks[-1] if self.marks else 0) < count:
            raise IndexError("its stack is empty")
        taken = self.stack[-count:]
        del self.stack[-count:]
        return taken

    def marked(self) -> list[Value]:
        start = self.marks.pop()
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def gather(self, parts: list[Value]) -> None:
        """A tuple of values; one that holds tuples itself is not looked into."""
        plain = len(parts) <= 5 and not any(isinstance(p.known, tuple) for p in parts)
        self.stack.append(Value(tuple(p.known for p in parts) if plain else None, self.deeper(parts)))

    def put(self, parts: list[Value], *, onto: bool) -> None:
        """Values that go into the container below them, or make a new object."""
        below = self.taken(1) if onto else []
        self.stack.append(Value(None, max([self.deeper(parts), *(b.depth for b in below)])))

    def deeper(self, parts: list[Value]) -> int:
        depth = 1 + max((p.depth for p in parts), default=0)
        if depth > DEEPEST:
            raise ModelError(f"{self.where} is nested more than {DEEPEST} deep; the file is damaged or hostile")
        return depth

    def storage(self, given: Any) -> None:
        """A tensor's bytes: ("storage", its type, its key, its device, how many values)."""
        told = isinstance(given, tuple) and len(given) == 5 and given[0] == "storage" and isinstance(given[1], Global)
        if not told or not isinstance(given[2], str) or not isinstance(given[4], int):
            raise ModelError(f"{self.where} asks for an object that is no tensor; refused")
        kind = given[1].name.removeprefix("torch ").removesuffix("Storage")
        if kind.startswith(("Q", "Quantized")):
            raise ModelError(QUANTISED)
        held = self.stored(given[2])
        if kind not in WIDTHS or held is None or not 0 <= given[4] * WIDTHS[kind] <= held:
            raise ModelError(f"{self.where} has a tensor ({kind}) with other values than the archive holds; the file is damaged")
        self.push(None)


def check(where: str, data: bytes, stored: Callable[[str], int | None]) -> None:
    """Raises ModelError for a pickle, named by `where`, that is damaged or holds more than tensors, numbers and the model's objects."""
    if len(data) > LARGEST:
        raise ModelError(f"{where} has more than {LARGEST:,} bytes; the file is damaged or hostile")
    try:
        Machine(where, stored).run(data)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise ModelError(f"{where} is damaged ({error}); save the model again with torch.jit.save") from error


def check_global(where: str, wanted: str) -> None:
    """Raises ModelError for a name that is neither a tensor's nor one of the model's own classes."""
    module, _, attribute = wanted.partition(" ")
    if module == f"{NATIVE}.xnnpack":
        raise ModelError(PACKED)
    if module.startswith(NATIVE):
        raise ModelError(QUANTISED if ".quantized" in module else f"{where} asks for PyTorch's own {module}.{attribute}; refused")
    plain = module == "torch" and attribute.endswith("Storage")
    if not (plain or wanted in GLOBALS or module in (PICKLE_MODULE, OWN) or module.startswith(f"{OWN}.")):
        raise ModelError(f"{where} asks for {module}.{attribute}, which no classifier needs; refused")


def sizes(entries: dict[str, Entry], folder: str, *, shapes: bool = False) -> Callable[[str], int | None]:
    """Key of a storage → the bytes that the archive holds of it in `folder`; where only `shapes` are kept it holds none and may say so."""

    def stored(key: str) -> int | None:
        entry = entries.get(f"{folder}/{key}")
        return None if entry is None else MAX if shapes and entry.size == 0 else entry.size

    return stored
