"""docs/speed.md, from the rows of whole scans, of the search, of the time left and of other detectors."""

from pathlib import Path

from bench import progress, rows
from bench.baselines import table as rivals
from bench.speed import table as search
from bench.whole import passes
from bench.whole import table as whole

HEAD = """# Speed

What `make bench` (on a CPU) and `make bench-gpu` measured, from the rows in `bench/results/whole.jsonl` and `bench/results/speed.jsonl`;
both write this page. Other detectors' times are from `bench/results/baselines-examples.jsonl` (`make demo-baselines`).
"""
RIVALS = """## Other detectors

What other detectors take on the same two examples, with the same images, in seconds of one processor beside other work, each to its own
verdict. Most of them run with a part of their authors' steps ([which, and what each is](evidence/baselines-examples.md)), so that with all
of them they take longer. banscan's scans in the first table are whole processes on two processors, which is at most twice their seconds
of one. A dash: not run to its end.
"""
NOTHING = "Nothing was measured yet (`make bench`).\n"


def write(doc: Path, scans: Path, searches: Path) -> None:
    """Writes the page from the rows in these files, and in progress.jsonl and baselines-examples.jsonl beside the first."""
    counted = (passes.INTRO, passes.table())
    watched = rows.read(scans.with_name("progress.jsonl"))
    told = (progress.INTRO, progress.table(watched)) if watched else ()
    others = rows.read(scans.with_name("baselines-examples.jsonl"))
    beside = (RIVALS, rivals.costs(others)) if others else ()
    parts = (
        HEAD,
        whole.INTRO,
        whole.tables(rows.read(scans)) or NOTHING,
        *counted,
        *told,
        *beside,
        search.INTRO,
        search.tables(rows.read(searches)),
    )
    doc.write_text("\n".join(part for part in parts if part))
