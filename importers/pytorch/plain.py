"""The user's TorchScript archive written anew, with nothing in it that was not checked: PyTorch opens this file, never the user's own."""

import zipfile
from pathlib import Path

from banscan.errors import ModelError
from banscan.importers.pytorch import code, pickles
from banscan.importers.pytorch.container import Container

PICKLES = {"data.pkl": "data", "constants.pkl": "constants", "traced_inputs.pkl": "traced_inputs"}
TEXTS = frozenset({"version", "byteorder", ".data/version"})
# tensors, and files that the author added, which a repaired file keeps
FOLDERS = ("data/", "constants/", "traced_inputs/", "extra/")
SMALL = 64
# bytes of all the code, and of all the pickles
CODE, PICKLED = 8 << 20, 4 << 20
PROGRAM = "code/"


def rewrite(path: Path, folder: Path) -> Path:
    """Checks a TorchScript archive and writes what TorchScript needs of it into `folder`; the path of the new archive.

    Raises:
        ModelError: the archive is damaged, or holds more than a classifier needs: pickles that name anything else than tensors, code that
            runs while it is loaded.
    """
    out = folder / "model.pt"
    with Container(path) as container, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as new:
        left = {"code": CODE, "pickles": PICKLED}
        for name in container.entries:
            data = _checked(container, name, left)
            if data is not None:
                new.writestr(_plain(f"model/{name}"), data)
            elif name.startswith(FOLDERS):
                with new.open(_plain(f"model/{name}"), "w", force_zip64=True) as target:
                    for part in container.chunks(name):
                        target.write(part)
    return out


def _plain(name: str) -> zipfile.ZipInfo:
    """Without a date and the user's permissions."""
    return zipfile.ZipInfo(name)


def _checked(container: Container, name: str, left: dict[str, int]) -> bytes | None:
    """The bytes of an entry that is looked into; None for all others."""
    where = f"{container.path}: {name}"
    if name in PICKLES:
        data = container.read(name, left["pickles"])
        left["pickles"] -= len(data)
        pickles.check(where, data, pickles.sizes(container.entries, PICKLES[name], shapes=name == "traced_inputs.pkl"))
        return data
    if name.startswith(PROGRAM) and name.endswith(".py"):
        data = container.read(name, left["code"])
        left["code"] -= len(data)
        try:
            code.check(where, data.decode())
        except UnicodeDecodeError as error:
            raise ModelError(f"{where} is no text; save the model again with torch.jit.save") from error
        return data
    return container.read(name, SMALL) if name in TEXTS else None
