"""A real browser for pages: what it says on its console, how wide a page becomes, and a picture of it."""

import html
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
FOUND = next((path for path in map(shutil.which, NAMES) if path is not None), None)
needs_browser = pytest.mark.skipif(FOUND is None, reason=f"needs a browser: none of {', '.join(NAMES)} is installed")
ALONE = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
)
CONSOLE = re.compile(r":CONSOLE[:(](.*)")


def opened(page: Path, *options: str) -> tuple[str, list[str]]:
    """Opens a page with a fresh profile; returns what the browser prints and the lines of its console."""
    assert FOUND is not None
    with tempfile.TemporaryDirectory() as profile:
        command = [FOUND, *ALONE, f"--user-data-dir={profile}", *options, page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, CONSOLE.findall(done.stderr)


def pictured(page: Path, picture: Path, *options: str, width: int = 1000, height: int = 1400) -> list[str]:
    """Takes a picture of a page; returns the lines of its console."""
    _, console = opened(page, f"--screenshot={picture}", f"--window-size={width},{height}", *options)
    return console


def width_in(page: Path, width: int) -> int:
    """How wide the contents of a page are in a window of this width, which is less than browsers' windows may have."""
    frame = page.with_name(f"framed-{page.name}")
    text = html.escape(page.read_text(encoding="utf-8"))
    script = "onload = () => { document.title = document.querySelector('iframe').contentDocument.documentElement.scrollWidth }"
    frame.write_text(f'<script>{script}</script><iframe style="border:0;width:{width}px;height:600px" srcdoc="{text}"></iframe>')
    told, _ = opened(frame, "--dump-dom")
    found = re.search(r"<title>(\d+)</title>", told)
    assert found is not None
    return int(found[1])
