"""Scans and repairs the examples anew, writes their reports here, and puts them where the documentation shows them.

python -m tests.golden            both scans and the repair (ten minutes on two cores)
python -m tests.golden --render   only what follows from the JSON files: the texts, and the pages that show them
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import click

from tests.golden.pages import FOLDER, PAGES, ROOT, rendered, shown

EXAMPLES = ROOT / "examples"
IMAGES = EXAMPLES / "clean"


def scan(name: str) -> str:
    """The JSON report of one example, as the command line writes it."""
    return _run(str(EXAMPLES / f"{name}.onnx"), "--clean-dir", str(IMAGES))


def repair() -> str:
    """The JSON report of the backdoored example's repair."""
    with tempfile.TemporaryDirectory() as place:
        output = str(Path(place) / "fixed.onnx")
        text = _run("repair", str(EXAMPLES / "backdoored.onnx"), "--clean-dir", str(IMAGES), "-o", output)
        return text.replace(f"{place}/", "")


def _run(*arguments: str) -> str:
    command = [sys.executable, "-m", "banscan", *arguments, "--format", "json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if not done.stdout:
        raise click.ClickException(done.stderr)
    return done.stdout.replace(f"{ROOT}/", "")


@click.command()
@click.option("--render", is_flag=True, help="From the JSON files that are there.")
def main(render: bool) -> None:
    """Write the reports and the pages that show them."""
    for name in ("backdoored", "clean"):
        if not render:
            (FOLDER / f"{name}.json").write_text(scan(name))
    if not render:
        (FOLDER / "repaired.json").write_text(repair())
    for source in sorted(FOLDER.glob("*.json")):
        source.with_suffix(".txt").write_text(rendered(source))
    for page in PAGES:
        page.write_text(shown(page.read_text()))


if __name__ == "__main__":
    main()
