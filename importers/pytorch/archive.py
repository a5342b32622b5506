"""What PyTorch writes is a zip archive with code and pickles in it: looked at, without running anything, before it is loaded."""

import ast
import pickletools
import zipfile
from pathlib import Path

from banscan.errors import ModelError, UsageError

LARGEST = 8 << 30
# stored tensors hardly compress; more than this is a zip bomb
RATIO = 200
# names that TorchScript's own serialisation puts into its pickles; everything below __torch__ is the model's own classes
GLOBALS = frozenset({"collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter", "torch device"})
PICKLE_MODULES = frozenset({"torch.jit._pickle"})
# calls that a classifier has no use for: they touch files, print, or change the process
DENIED = frozenset(
    {"save", "load", "from_file", "_save", "_load", "set_num_threads", "set_num_interop_threads", "print", "system", "_print"}
)
NAMESPACES = frozenset({"prim", "aten"})


def kind(path: Path) -> str | None:
    """What PyTorch wrote, told by content: "TorchScript", "torch.export" or "pickle"; None for any other file.

    Raises:
        ModelError: a zip archive whose table of contents is damaged.
    """
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            start = file.read(2)
        # pickle protocol 2 and later, as torch.save wrote before it wrote zip archives
        return "pickle" if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05") else None
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ModelError(f"{path}: a damaged archive ({error}); save the model again") from error
    if any(n.endswith("/constants.pkl") for n in names) and any("/code/" in n for n in names):
        return "TorchScript"
    if any("/models/" in n and n.endswith(".json") for n in names) or any(n.endswith("serialized_exported_program.json") for n in names):
        return "torch.export"
    return "pickle" if any(n.endswith("data.pkl") for n in names) else None


def check_unnamed(path: Path, logits: str | None) -> None:
    """Raises UsageError where an output is asked for by name: those of PyTorch's files have none."""
    if logits is not None:
        raise UsageError(f"{path}: --logits names an output of an ONNX file; this is none")


def check_script(path: Path) -> None:
    """Refuses a TorchScript archive that holds more than a classifier needs.

    Raises:
        ModelError: sizes that cannot be, pickles that name anything else than tensors, code that runs while loading or touches files.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            check_members(path, archive)
            for info in archive.infolist():
                if info.filename.endswith(".pkl"):
                    _check_pickle(path, info.filename, archive.read(info))
                elif "/code/" in info.filename and info.filename.endswith(".py"):
                    _check_code(path, archive.read(info).decode())
    except (zipfile.BadZipFile, UnicodeDecodeError, EOFError, OSError) as error:
        raise ModelError(f"{path}: a damaged archive ({error}); save the model again with torch.jit.save") from error


def check_members(path: Path, archive: zipfile.ZipFile) -> None:
    """Raises ModelError for names that leave the archive and for sizes that cannot be."""
    infos = archive.infolist()
    if any(i.filename.startswith(("/", "\\")) or ".." in Path(i.filename).parts for i in infos):
        raise ModelError(f"{path}: the archive names files outside itself; refused")
    if sum(i.file_size for i in infos) > LARGEST or any(i.file_size > RATIO * max(1, i.compress_size) for i in infos):
        raise ModelError(f"{path}: the archive unpacks to more than it can hold; the file is damaged or hostile")


def _check_pickle(path: Path, name: str, data: bytes) -> None:
    strings: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "GLOBAL":
                _check_global(path, name, str(argument))
            elif opcode.name == "STACK_GLOBAL":
                _check_global(path, name, " ".join(strings[-2:]))
            elif isinstance(argument, str):
                strings.append(argument)
            elif opcode.name == "INST":
                raise ModelError(f"{path}: {name} builds objects; refused")
    except (ValueError, IndexError) as error:
        raise ModelError(f"{path}: {name} is damaged ({error}); save the model again with torch.jit.save") from error


def _check_global(path: Path, name: str, wanted: str) -> None:
    module, _, attribute = wanted.partition(" ")
    plain = module == "torch" and attribute.endswith("Storage")
    if not (plain or wanted in GLOBALS or module in PICKLE_MODULES or module == "__torch__" or module.startswith("__torch__.")):
        raise ModelError(f"{path}: {name} asks for {module}.{attribute}, which no classifier needs; refused")


def _check_code(path: Path, text: str) -> None:
    """TorchScript is written in Python's syntax; it is parsed, not run."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ModelError(f"{path}: its code cannot be parsed; save the model again with torch.jit.save") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name in ("__setstate__", "__getstate__"):
            raise ModelError(f"{path}: a class of the model runs code while it is loaded ({node.name}); refused")
        if isinstance(node, ast.Attribute):
            owner, names = _chain(node)
            outside = owner == "ops" and len(names) >= 2 and names[0] not in NAMESPACES
            if outside or (owner in ("torch", "ops") and names and names[-1] in DENIED):
                raise ModelError(f"{path}: its code calls {owner}.{'.'.join(names)}, which no classifier needs; refused")


def _chain(node: ast.Attribute) -> tuple[str | None, list[str]]:
    names: list[str] = []
    value: ast.expr = node
    while isinstance(value, ast.Attribute):
        names.append(value.attr)
        value = value.value
    return (value.id if isinstance(value, ast.Name) else None), names[::-1]
