"""What PyTorch wrote, told by the names in the zip archive; nothing is opened for that."""

from pathlib import Path

from banscan.errors import ModelError
from banscan.importers.pytorch import container


def kind(path: Path) -> str | None:
    """What PyTorch wrote, told by content: "TorchScript", "torch.export" or "pickle"; None for any other file.

    Raises:
        ModelError: a zip archive whose table of contents is damaged, or one of PyTorch's kinds that is not read.
    """
    names = container.names(path)
    if names is None:
        with path.open("rb") as file:
            start = file.read(2)
        # pickle protocol 2 and later, as torch.save wrote before it wrote zip archives
        return "pickle" if start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05") else None
    if any("/aotinductor/" in n for n in names):
        raise ModelError(f"{path}: a package of compiled code (AOTInductor), which is never loaded; save the torch.export program instead")
    if any(n.endswith("/constants.pkl") for n in names) and any("/code/" in n for n in names):
        return "TorchScript"
    if any("/models/" in n and n.endswith(".json") for n in names):
        return "torch.export"
    if any(n.endswith("serialized_exported_program.json") for n in names):
        raise ModelError(
            f"{path}: a torch.export archive of an older PyTorch, whose weights are a pickle; load and save it with 2.8 or newer"
        )
    return "pickle" if any(n.endswith("data.pkl") for n in names) else None
