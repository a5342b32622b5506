"""How pages are made: every value is escaped, a page loads nothing and runs nothing, and a notebook shows it in a frame of its own."""

import base64
import hashlib
import html
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from banscan.scanner.report.pieces import sentence

FOLDER = Path(__file__).parent
# of the frame in a notebook, in pixels
FRAME = 720


def rendered(name: str, **values: Any) -> str:
    """The page of this template with these values; its Content-Security-Policy forbids all but its own style and pictures in it."""
    style = (FOLDER / "style.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    page: str = _environment().get_template(name).render(style=style, policy=policy, **values)
    return page.encode("utf-8", "backslashreplace").decode("utf-8")


def framed(page: str, said: str, height: int = FRAME) -> str:
    """A page in a frame, with what it says in one line above it: neither the notebook's styles nor the page's reach the other."""
    line = html.escape(said)
    return (
        f"<p>banscan: {line}</p>"
        f'<iframe sandbox title="banscan: {line}" width="100%" height="{height}" srcdoc="{html.escape(page)}"></iframe>'
    )


@cache
def _environment() -> Environment:
    """Every value is escaped; a value that is missing is an error."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "sentence": sentence,
        "percent": lambda share: f"{share:.0%}",
        "ticked": _ticked,
        "png": lambda data: f"data:image/png;base64,{base64.b64encode(data).decode()}",
    }
    return environment


def _ticked(text: str) -> Markup:
    """A text in which what stands between backquotes is code."""
    return Markup("").join(Markup("<code>{}</code>").format(part) if i % 2 else escape(part) for i, part in enumerate(text.split("`")))
