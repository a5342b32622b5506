"""Text files in whatever encoding a spreadsheet or an editor wrote them."""

import codecs
from pathlib import Path

from banscan.errors import UsageError
from banscan.files import check_file
from banscan.scanner.inputs.given import TEXT

MARKED = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# a table or list of names is not larger
MOST = 512 << 20


def read(path: Path) -> str:
    """The whole text.

    Raises:
        UsageError: there is no such file, it may not be read, or it is no text.
    """
    check_file(path, TEXT)
    try:
        if path.stat().st_size > MOST:
            raise UsageError(f"{path}: larger than {MOST >> 20} MB; {TEXT}")
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); {TEXT}") from None
    if content.startswith(b"PK\x03\x04"):
        raise UsageError(f"{path}: is a spreadsheet or an archive; save it as CSV")
    text = _decoded(content)
    if text is None or "\0" in text:
        raise UsageError(f"{path}: is no text; {TEXT}, best in UTF-8")
    return text


def _decoded(content: bytes) -> str | None:
    encoding = next((name for mark, name in MARKED if content.startswith(mark)), None)
    if encoding is None and b"\0" in content[:1000]:
        # UTF-16 without its mark: every other byte of a Latin text is 0
        encoding = "utf-16-le" if content[1:2] == b"\0" else "utf-16-be"
    try:
        return content.decode(encoding or "utf-8")
    except UnicodeDecodeError:
        # what is no UTF-8 was written by an older Windows, which has a letter for nearly every byte
        return None if encoding else content.decode("cp1252", "replace")
