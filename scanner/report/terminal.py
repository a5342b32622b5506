"""The report that a person reads: the verdict in one sentence and what to do, then the evidence behind it."""

from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from banscan.scanner.findings import PLANNED, SUSPECTS, Deployed, Finding, Report
from banscan.scanner.report import logic, repaired
from banscan.scanner.report.console import console
from banscan.scanner.report.format import Format
from banscan.scanner.report.pieces import STYLES, add_notes, anatomy, bar, chance, headline, named, number, pairs, sentence, source
from banscan.text import counted, shown

# classes and preprocessings that are shown one by one
SHOWN, CANDIDATES = 6, 4


def show(report: Report, on: Console) -> None:
    """Prints the whole report at the console's width."""
    on.print(_headline(report))
    if report.structure is not None and (report.structure.places or report.structure.not_done):
        on.print(logic.table(report.structure))
    if report.reach:
        on.print(_classes(report))
    if report.findings:
        on.print(_findings(report))
    if report.aside is not None:
        on.print(_aside(report))
    on.print(_facts(report))
    if report.preprocess is not None and report.preprocess.table:
        on.print(_preprocessing(report))
    on.print(_timings(report))


def _headline(report: Report) -> Panel:
    verdict = report.verdict
    body: list[RenderableType] = [Text(headline(report), style=STYLES[verdict.outcome]), Text(sentence(verdict.reason))]
    decided = next((f for f in report.findings if f.criterion == verdict.criterion and f.p_value is not None), None)
    if decided is not None and verdict.p_value is not None and verdict.outcome in ("backdoored", "suspicious"):
        odds = f"A model whose classes differ only by chance looks like this with probability {chance(verdict.p_value)}."
        body.append(Text(odds, style="dim"))
    body += [Text(sentence(gap)) for gap in verdict.gaps if gap not in verdict.reason]
    body.append(Text(f"Next: {verdict.next_step}"))
    return Panel(Group(*body), title=Text(report.model.path.name), title_align="left", padding=(0, 1))


def _classes(report: Report) -> Table:
    """Bars of the classes that noise reaches best."""
    table = Table(title="Classes that neuron noise reaches best", title_justify="left", box=None, pad_edge=False, expand=False)
    table.add_column("class", justify="right", max_width=24)
    table.add_column("images of other classes moved there by noise aimed at it")
    table.add_column("share", justify="right")
    table.add_column("over restarts", justify="right", no_wrap=True)
    table.add_column("share of all: clean", justify="right")
    table.add_column("untargeted", justify="right")
    called = report.verdict.targets if report.verdict.outcome in ("backdoored", "suspicious") else ()
    for row in sorted(report.reach, key=lambda r: -r.moved)[:SHOWN]:
        table.add_row(
            Text(named(report, row.target), overflow="ellipsis"),
            Text(bar(row.moved), style="red" if row.target in called else "cyan"),
            f"{row.moved:.0%}",
            f"{row.smallest:.0%} to {row.largest:.0%}" if report.settings.restarts > 1 else "–",
            f"{row.clean:.1%}",
            "–" if row.untargeted is None else f"{row.untargeted:.1%}",
        )
    moved = sorted(row.moved for row in report.reach)
    middle = moved[(len(moved) - 1) // 2]
    table.add_row("median", Text(bar(middle), style="dim"), f"{middle:.0%}", "", "", "", style="dim")
    return table


def _findings(report: Report) -> Group:
    """What each criterion found, and what the numbers mean."""
    table = Table(title="What was looked for", title_justify="left", box=None, pad_edge=False)
    table.add_column("criterion", no_wrap=True)
    table.add_column("question")
    table.add_column("class", justify="right", max_width=12)
    for name in ("value", "limit", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    left_out: dict[str, list[str]] = {}
    calls = "red" if report.verdict.outcome == "backdoored" else "yellow"
    for finding in report.findings:
        if finding.not_done is None:
            table.add_row(*_row(finding), style=calls if finding.exceeds else "yellow" if finding.suspects else "")
        elif finding.not_done != PLANNED:
            left_out.setdefault(finding.not_done, []).append(finding.criterion)
    lines: list[RenderableType] = [table, Text(_explained(report), style="dim")] if table.row_count else []
    lines += [Text(line, style="yellow") for line in _without_effect(report)]
    planned = [f for f in report.findings if f.not_done == PLANNED]
    if planned:
        lines.append(_planned(report, planned))
    lines += [Text(f"Not looked for: {', '.join(names)} ({why})", style="yellow") for why, names in left_out.items()]
    return Group(*lines)


def _planned(report: Report, planned: list[Finding]) -> Table:
    """What a scan would ask, of a dry run."""
    table = pairs(f"What a scan would look for, among {counted(len(report.searched), 'class', 'classes')} as targets")
    for finding in planned:
        table.add_row(finding.criterion, finding.asks)
    return table


def _without_effect(report: Report) -> list[str]:
    """Why values at or above their limits make no verdict, where they make none."""
    above = [f for f in report.findings if f.not_done is None and f.value is not None and f.limit is not None and f.value >= f.limit]
    idle = [f for f in above if not f.exceeds and f.power != SUSPECTS]
    kinds = (
        (
            [f for f in above if f.exceeds and not f.own_null and report.verdict.outcome == "inconclusive"],
            "which was set on other kinds of model and decides nothing here",
        ),
        (
            [f for f in above if f.control is not None and not f.control.planted],
            "but a copy tuned on clean images does not tell it from a natural weakness, so that it does not count",
        ),
        ([f for f in idle if f.own_null], "but the model's other parts do as much, so that it does not count"),
        ([f for f in idle if not f.own_null and not f.steady], "but not with the same class in every restart, so that it does not count"),
        ([f for f in idle if not f.own_null and f.steady], "but other classes are reached nearly as well, so that it does not count"),
    )
    return [f"Above the limit, {why}: {', '.join(f.criterion for f in found)}" for found, why in kinds if found]


def _row(finding: Finding) -> tuple[str, str, str, str, str, str]:
    value = "–" if finding.value is None else number(finding, finding.value)
    limit = "–" if finding.limit is None else number(finding, finding.limit)
    spread = f" ({min(finding.restarts):.1f} to {max(finding.restarts):.1f})" if finding.restarts else ""
    p = "–" if finding.p_value is None else chance(finding.p_value)
    classes = ", ".join(map(str, finding.classes)) or "–"
    alone = "" if finding.power != SUSPECTS else " (suspicious at most)"
    return finding.criterion, f"{finding.asks}{alone}", classes, f"{value}{spread}", limit, p


def _explained(report: Report) -> str:
    """What the columns of the findings say."""
    over = " (in brackets: over the restarts)" if any(f.restarts for f in report.findings) else ""
    return (
        f"Value: how far the class is from the others, in standard deviations{over}, or a share of images; it counts from the limit on. "
        "p: probability of such a value when classes differ only by chance, paid for the number of classes and tests."
    )


def _aside(report: Report) -> Table:
    """What the report shows and the verdict does not use."""
    found = report.aside
    assert found is not None
    table = pairs("Not used for the verdict")
    table.add_row("accuracy under noise", f"{found.accuracy:.1%} (untargeted, {counted(found.restarts, 'restart')})")
    table.add_row(
        "negative mask (Eq. 6)",
        f"alone sends {found.mask.share:.0%} of the images to class {found.mask.target}; with noise class {found.mask_noise.target} "
        f"gains most, {found.mask_noise.share:+.0%}",
    )
    return table


def _facts(report: Report) -> Table:
    model, settings = report.model, report.settings
    table = pairs("Scan")
    table.add_row("model", f"{source(model)}, SHA-256 {model.sha256[:16]}…")
    table.add_row("features", anatomy(model))
    table.add_row("images", report.images.understood or report.images.labels)
    if report.accuracy is not None:
        table.add_row("accuracy", f"{report.accuracy:.1%} of the clean images get their label")
    elif report.confidence is not None:
        table.add_row("confidence", f"{report.confidence:.1%} on the clean images, mean")
    tried = report.preprocess
    if tried is not None:
        table.add_row("preprocessing", "undecided" if tried.preprocess is None else f"{tried.preprocess.name}: {tried.reason}")
    if report.parity is not None:
        table.add_row("parity", f"{report.parity.rms:.1e} relative RMS, {report.parity.largest:.1e} at most, against {model.runtime}")
    if report.deployed is not None:
        table.add_row("deployed as", _deployed(report.deployed))
    if report.standing is not None:
        table.add_row("clean models", _standing(report))
    strength = "" if report.eps is None else f", eps {report.eps:.2g}{'' if settings.eps else ' (found by itself)'}"
    table.add_row(
        "noise",
        f"{settings.noise}{strength}, {counted(settings.steps, 'step')}, {counted(settings.restarts, 'restart')}, seed {settings.seed}, "
        f"on the deepest {1 - settings.layers_without:.0%} of the layers",
    )
    env = report.environment
    threads = counted(env["threads"], "thread")
    table.add_row("machine", f"{env['processor']}, {threads}, kernels {env['kernels']}, search in {env['search precision']}")
    add_notes(table, model)
    return table


def _deployed(found: Deployed) -> str:
    """What was scanned in place of the file, and what the file itself shows."""
    score = "" if found.score is None else f", score {found.score:.2f}"
    lost = f"; {found.gains.share:.1%} go to class {found.gains.target}" if found.agreement < 1 else ""
    return (
        f"{found.kind}: what is said here is of that file; {found.agreement:.1%} of the clean images get the class that the file as it is "
        f"gives them{lost}. The file as it is: {found.outcome}{score}"
    )


def _standing(report: Report) -> str:
    """Where the model stands among clean ones."""
    standing = report.standing
    assert standing is not None
    count = counted(standing.models, "clean model")
    whose = f"banscan's own {count}" if standing.source is None else f"the {count} of {standing.source}"
    if standing.uncovered is not None:
        return f"{whose} say nothing about this one: {standing.uncovered}"
    begins = "from" if standing.alpha is None else "above"
    own = f"score {standing.score:.2f}, a model is called backdoored {begins} {standing.limit:.2f}"
    if standing.alpha is not None:
        own += f", which a clean one exceeds with a probability of at most {standing.alpha:g}"
    if standing.reached is None or standing.p_value is None:
        return f"{own}; {whose} were scanned with other settings, so theirs cannot be compared"
    return f"{own}; of {whose} {standing.reached} score as high, a further one would with p {standing.p_value:.2f} at most"


def _preprocessing(report: Report) -> Table:
    chosen = report.preprocess
    assert chosen is not None
    own = None if chosen.preprocess is None else chosen.preprocess.name
    table = Table(title="Preprocessings tried", title_justify="left", box=None, pad_edge=False)
    for name in ("candidate", "accuracy", "mean confidence", "information"):
        table.add_column(name, justify="left" if name == "candidate" else "right")
    # where none was chosen a reader needs all of them
    shown = len(chosen.table) if own is None else CANDIDATES
    best, rest = chosen.table[:shown], chosen.table[shown:]
    for s in best:
        accuracy = "–" if s.accuracy is None else f"{s.accuracy:.1%}"
        style = "bold" if s.name == own else "dim" if own else ""
        table.add_row(s.name, accuracy, f"{s.confidence:.1%}", f"{s.information:.2f}", style=style)
    if rest:
        most = max((s.accuracy for s in rest if s.accuracy is not None), default=None)
        least = "–" if most is None else f"≤ {most:.1%}"
        table.add_row(f"{len(rest)} more", least, "", f"≤ {max(s.information for s in rest):.2f}", style="dim")
    return table


def _timings(report: Report) -> Text:
    spent = {name: seconds for name, seconds in report.seconds.items() if seconds >= 0.05}
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in spent.items())
    return Text(f"Seconds: {parts}; {sum(report.seconds.values()):.1f} in all", style="dim")


def _write(report: Report, stream: TextIO) -> None:
    show(shown(report), console(stream))


FORMAT = Format("terminal", _write, repaired.write)
