"""The hook for pre-commit: whether model files can be read, and whether anything in their graphs decides by the pixels.

It has no images, so that it tells nothing of backdoors in weights: those take a scan.
"""

import sys
from pathlib import Path

from banscan import reader
from banscan.errors import BanscanError
from banscan.scanner.cli import codes, main
from banscan.scanner.cli.console import destination, work
from banscan.scanner.cli.streams import say

# of a file in whose graph something decides by the pixels: as of *suspicious*
FOUND = codes.EXIT["suspicious"]


def run() -> int:
    """Looks at the files that are named, and returns the exit code of the gravest."""
    names = [word for word in sys.argv[1:] if word != "--debug"]
    with work():
        reader.start()
        return codes.joined(_looked_at(Path(name)) for name in names)


def _looked_at(path: Path) -> int:
    from banscan.scanner import logic
    from banscan.scanner.report import logic as shown
    from banscan.scanner.report.console import console
    from banscan.scanner.settings import Options

    try:
        found = logic.inspected(path, None, Options())
    except BanscanError as error:
        say(f"Error: {error}")
        return error.exit_code
    if not found.places:
        return 0
    with destination(None) as stream:
        shown.show(str(path), found, console(stream))
    return FOUND


if __name__ == "__main__":
    main.main(run)
