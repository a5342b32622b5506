"""From a report's JSON to its text, and into the pages that show it."""

import io
import json
import re
from pathlib import Path

from banscan.scanner.repair.result import Repair
from banscan.scanner.report import formats
from banscan.scanner.report.json import REPAIR_SCHEMA, made, read

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "repair.md")
BLOCK = re.compile(r"(<!-- report: (\w+) -->\n```text\n).*?(```\n<!-- /report -->)", re.DOTALL)


def rendered(source: Path) -> str:
    """What the terminal shows of the report in a JSON file, at the width of a pipe."""
    text, stream = source.read_text(), io.StringIO()
    terminal = formats.named("terminal")
    document = json.loads(text)
    if document["schema"] == REPAIR_SCHEMA:
        terminal.repair(made(Repair, document), stream)
    else:
        terminal.scan(read(text), stream)
    return stream.getvalue()


def shown(page: str) -> str:
    """A page with the reports in it as they are in this folder."""
    return BLOCK.sub(lambda block: block[1] + (FOLDER / f"{block[2]}.txt").read_text() + block[3], page)
