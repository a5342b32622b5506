"""The documentation, which is installed with banscan: reports name pages of it, and not every machine has a network."""

from importlib.resources import files
from importlib.resources.abc import Traversable

from banscan.errors import UsageError

SUFFIX = ".md"
# of rows behind the pages, in a folder beside them
EVIDENCE = "evidence"


def names() -> tuple[str, ...]:
    """What the pages are called, those with evidence behind the others."""
    top = _folder()
    return tuple(sorted(_pages(top))) + tuple(f"{EVIDENCE}/{name}" for name in sorted(_pages(top / EVIDENCE)))


def text(name: str) -> str:
    """A page in Markdown; its name may be written as a report or a page does, docs/limits.md.

    Raises:
        UsageError: there is no such page.
    """
    known, asked = names(), name.split("#")[0].removeprefix("docs/").removesuffix(SUFFIX)
    if asked not in known:
        own = ", ".join(page for page in known if "/" not in page)
        raise UsageError(f"{name}: no such page; expected one of {own}, or one with numbers, as evidence/held")
    place = _folder()
    for part in f"{asked}{SUFFIX}".split("/"):
        place = place / part
    return place.read_text(encoding="utf-8")


def title(name: str) -> str:
    """The first line of a page, which says what it is about."""
    return text(name).splitlines()[0].lstrip("# ")


def _folder() -> Traversable:
    return files("banscan") / "docs"


def _pages(folder: Traversable) -> list[str]:
    return [place.name.removesuffix(SUFFIX) for place in folder.iterdir() if place.name.endswith(SUFFIX)] if folder.is_dir() else []
