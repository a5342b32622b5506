"""docs/speed.md, from the rows of whole scans and of the search."""

from pathlib import Path

from bench import progress, rows
from bench.speed import table as search
from bench.whole import passes
from bench.whole import table as whole

HEAD = """# Speed

What `make bench` (on a CPU) and `make bench-gpu` measured, from the rows in `bench/results/whole.jsonl` and `bench/results/speed.jsonl`;
both write this page.
"""
NOTHING = "Nothing was measured yet (`make bench`).\n"


def write(doc: Path, scans: Path, searches: Path) -> None:
    """Writes the page from the rows in these files, and in progress.jsonl beside the first."""
    counted = (passes.INTRO, passes.table())
    watched = rows.read(scans.with_name("progress.jsonl"))
    told = (progress.INTRO, progress.table(watched)) if watched else ()
    parts = (
        HEAD,
        whole.INTRO,
        whole.tables(rows.read(scans)) or NOTHING,
        *counted,
        *told,
        search.INTRO,
        search.tables(rows.read(searches)),
    )
    doc.write_text("\n".join(part for part in parts if part))
