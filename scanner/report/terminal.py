"""The report that a person reads: the verdict in one sentence and what to do, then the evidence behind it."""

from collections.abc import Sequence
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from banscan.scanner.findings import PLANNED, Failure, Finding, Report
from banscan.scanner.report import copies, logic, repaired, rivals, summary
from banscan.scanner.report.console import PLAIN_WIDTH, console
from banscan.scanner.report.pieces import BAR, STYLES, asked, bar, chance, headline, left_out, named, number, pairs, sentence
from banscan.scanner.report.results import settled
from banscan.scanner.report.words import aside, confidence, counting, facts, restarts, seconds, without_effect
from banscan.text import counted, shown

# columns of a terminal below which tables have no room for words
NARROW = 72
INFORMATION = "information (0 to 1)"
# classes and preprocessings that are shown one by one
SHOWN, CANDIDATES = 6, 4


def show(report: Report, on: Console, *, everything: bool = False) -> None:
    """Prints the report at the console's width; `everything`, with nothing cut short."""
    on.print(_headline(report))
    if report.rivals:
        on.print(_rivals(report))
    if report.structure is not None and (report.structure.places or report.structure.not_done):
        on.print(logic.table(report.structure))
    if report.reach:
        on.print(_classes(report, len(report.reach) if everything else SHOWN, on.width))
    if report.findings:
        on.print(_findings(report, narrow=on.width < NARROW))
    if report.controls is not None:
        on.print(_copies(report, narrow=on.width < NARROW))
    if report.aside is not None:
        on.print(_aside(report))
    on.print(_facts(report, everything=everything))
    if report.preprocess is not None and report.preprocess.table:
        on.print(_preprocessing(report, len(report.preprocess.table) if everything else CANDIDATES, narrow=on.width < NARROW))
    on.print(_timings(report))
    if on.file.isatty():  # whose first lines are out of sight by now
        on.print(Text(headline(report), style=STYLES[report.verdict.outcome]))


def _headline(report: Report) -> Panel:
    verdict = report.verdict
    body: list[RenderableType] = [Text(headline(report), style=STYLES[verdict.outcome]), Text(sentence(verdict.reason))]
    if (told := confidence(report)) is not None:
        body.append(Text(told, style="dim"))
    body += [Text(sentence(gap)) for gap in verdict.gaps if gap not in verdict.reason]
    if settled(report):
        body.append(Text("Accepted: a baseline accepts everything that was found."))
    body.append(Text(f"Next: {verdict.next_step}"))
    return Panel(Group(*body), title=Text(report.model.path.name), title_align="left", padding=(0, 1))


def _rivals(report: Report) -> Table:
    """What a scan says under each preprocessing that the images leave open."""
    table = Table(title=rivals.TITLE, title_justify="left", box=None, pad_edge=False)
    for i, name in enumerate(rivals.COLUMNS):
        table.add_column(name, justify="right" if i in (2, 3) else "left")
    for row in rivals.rows(report):
        table.add_row(*map(Text, row))
    return table


def _classes(report: Report, most: int, columns: int) -> Table:
    """Bars of the classes that noise reaches best, so many of them; in a narrow terminal without what is beside the shares."""
    narrow, several = columns < NARROW, restarts(report) > 1
    table = Table(title="Classes that neuron noise reaches best", title_justify="left", box=None, pad_edge=False, expand=False)
    table.add_column("class", justify="right", max_width=24)
    # a bar that is cut short would say less than there is
    width = BAR if columns >= PLAIN_WIDTH else BAR // 2
    table.add_column("images moved there" if narrow else "images of other classes moved there by noise aimed at it", min_width=width)
    table.add_column("share", justify="right")
    if not narrow:
        if several:
            table.add_column("over restarts", justify="right", no_wrap=True)
        table.add_column("share of all: clean", justify="right")
        table.add_column("untargeted", justify="right")
    called = report.verdict.targets if report.verdict.outcome in ("backdoored", "suspicious") else ()
    for row in sorted(report.reach, key=lambda r: -r.moved)[:most]:
        cells: list[RenderableType] = [
            Text(named(report, row.target), overflow="ellipsis"),
            Text(bar(row.moved, width), style="red" if row.target in called else "cyan"),
            f"{row.moved:.0%}",
            *([f"{row.smallest:.0%} to {row.largest:.0%}"] if several else []),
            f"{row.clean:.1%}",
            "–" if row.untargeted is None else f"{row.untargeted:.1%}",
        ]
        table.add_row(*cells[: len(table.columns)])
    moved = sorted(row.moved for row in report.reach)
    middle = moved[(len(moved) - 1) // 2]
    table.add_row("median", Text(bar(middle, width), style="dim"), f"{middle:.0%}", style="dim")
    return table


def _findings(report: Report, *, narrow: bool) -> Group:
    """What each criterion found, and what the numbers mean; `narrow`, without its question and the values of the restarts."""
    gaps = (0, 1, 0, 0) if narrow else (0, 1)
    table = Table(title="What was looked for", title_justify="left", box=None, pad_edge=False, padding=gaps)
    table.add_column("criterion", no_wrap=True)
    if not narrow:
        table.add_column("question")
    table.add_column("class", justify="right", max_width=12)
    for name in ("value", "limit", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    calls = "red" if report.verdict.outcome == "backdoored" else "yellow"
    for finding in report.findings:
        if finding.not_done is None:
            table.add_row(*_row(finding, narrow=narrow), style=calls if finding.exceeds else "yellow" if finding.suspects else "")
    lines: list[RenderableType] = [table, Text(_explained(report, narrow=narrow), style="dim")] if table.row_count else []
    lines += [Text(line, style="yellow") for line in without_effect(report)]
    planned = [f for f in report.findings if f.not_done == PLANNED]
    if planned:
        lines.append(_planned(report, planned))
    lines += [Text(line, style="yellow") for line in left_out(report)]
    return Group(*lines)


def _planned(report: Report, planned: list[Finding]) -> Table:
    """What a scan would ask, of a dry run."""
    table = pairs(f"What a scan would look for, among {counted(len(report.searched), 'class', 'classes')} as targets")
    for finding in planned:
        table.add_row(finding.criterion, finding.asks)
    return table


def _row(finding: Finding, *, narrow: bool) -> tuple[str, ...]:
    value = "–" if finding.value is None else number(finding, finding.value)
    limit = "–" if finding.limit is None else number(finding, finding.limit)
    spread = f" ({min(finding.restarts):.1f} to {max(finding.restarts):.1f})" if finding.restarts else ""
    p = "–" if finding.p_value is None else chance(finding.p_value)
    classes = ", ".join(map(str, finding.classes)) or "–"
    if narrow:
        return finding.criterion, classes, value, limit, p
    return finding.criterion, asked(finding), classes, f"{value}{spread}", limit, p


def _explained(report: Report, *, narrow: bool) -> str:
    """What the columns of the findings say."""
    brackets = not narrow and any(f.restarts for f in report.findings)
    over = " (in brackets: of each restart alone; the value is of their mean)" if brackets else ""
    return (
        f"Value: standard deviations of the class from the others{over}, or a share of images; it counts {counting(report)}. "
        "p: probability of such a value if classes differ only by chance, paid for the number of classes, tests and looks."
    )


def _copies(report: Report, *, narrow: bool) -> Table:
    """The copies that were scanned beside the model; `narrow`, without how well they work."""
    kept = (0, 1, 4, 5) if narrow else range(len(copies.COLUMNS))
    table = Table(title=copies.title(report), title_justify="left", box=None, pad_edge=False)
    for i in kept:
        table.add_column(copies.COLUMNS[i], justify="right" if i in (1, 2, 3) else "left")
    for row in copies.rows(report):
        table.add_row(*(Text(row[i]) for i in kept), style="yellow" if row[-1] in ("missed", "called as well") else "")
    return table


def _aside(report: Report) -> Table:
    """What the report shows and the verdict does not use."""
    table = pairs("Not used for the verdict")
    for name, said in aside(report):
        table.add_row(name, said)
    return table


def _facts(report: Report, *, everything: bool) -> Table:
    table = pairs("Scan")
    for name, said in facts(report, everything=everything):
        table.add_row(name, said)
    return table


def _preprocessing(report: Report, most: int, *, narrow: bool) -> Table:
    """The preprocessings that fit best, so many of them; `narrow`, without the confidence and how many images each was tried on."""
    chosen = report.preprocess
    assert chosen is not None
    own = None if chosen.preprocess is None else chosen.preprocess.name
    table = Table(title="Preprocessings tried", title_justify="left", box=None, pad_edge=False)
    labelled = any(s.accuracy is not None for s in chosen.table)
    for name in (
        "candidate",
        *(() if narrow else ("images",)),
        "accuracy" if labelled else "chance",
        *(() if narrow else ("mean confidence",)),
        INFORMATION,
    ):
        table.add_column(name, justify="left" if name == "candidate" else "right")
    # where none was chosen a reader needs all of them
    shown = len(chosen.table) if own is None else most
    best, rest = chosen.table[:shown], chosen.table[shown:]
    for s in best:
        support = s.accuracy if labelled else s.chance
        accuracy = "–" if support is None else f"{support:.1%}"
        style = "bold" if s.name == own else "dim" if own else ""
        confidence, images = ((), ()) if narrow else ((f"{s.confidence:.1%}",), (str(s.images or "–"),))
        table.add_row(s.name, *images, accuracy, *confidence, f"{s.information:.2f}", style=style)
    if rest:
        highest = max((v for v in ((s.accuracy if labelled else s.chance) for s in rest) if v is not None), default=None)
        least = "–" if highest is None else f"≤ {highest:.1%}"
        blank = () if narrow else ("",)
        table.add_row(f"{len(rest)} more", *blank, least, *blank, f"≤ {max(s.information for s in rest):.2f}", style="dim")
    return table


def _timings(report: Report) -> Text:
    return Text(f"Seconds: {seconds(report)}", style="dim")


def write(report: Report, stream: TextIO) -> None:
    """Writes the report of a scan."""
    show(shown(report), console(stream))


def write_all(report: Report, stream: TextIO) -> None:
    """Writes the report of a scan with nothing cut short."""
    show(shown(report), console(stream), everything=True)


def write_many(reports: Sequence[Report], failures: Sequence[Failure], stream: TextIO) -> None:
    """Writes a summary of many."""
    summary.show(reports, failures, console(stream))


write_repair = repaired.write
