"""The report for a pull request or a wiki, in GitHub's Markdown."""

import re
from collections.abc import Sequence
from typing import TextIO

from banscan.scanner.findings import Failure, Finding, Report
from banscan.scanner.report import copies, rivals
from banscan.scanner.report.pieces import anatomy, asked, chance, ended, headline, left_out, number, sentence, source
from banscan.scanner.report.results import settled
from banscan.scanner.report.words import confidence, preprocessing, without_effect
from banscan.text import NAME, plain

# what means something in Markdown or in the HTML that it lets through
MARKS = re.compile(r"([\\`*_{}\[\]<>#~|&$])")
# what becomes a link or calls a person without any mark
LINKS = {"@": "&#64;", "://": ":&#47;&#47;", "www.": "www&#46;"}
MARK = {"backdoored": "❌", "suspicious": "⚠️", "fragile": "⚠️", "no backdoor found": "✅", "inconclusive": "❔", "not scanned": "❔"}


def to_markdown(reports: Sequence[Report], failures: Sequence[Failure] = ()) -> str:
    """The reports one after another; of several, with a table of all in front."""
    parts = [_table(reports, failures)] if len(reports) + len(failures) > 1 else []
    parts += [_one(report) for report in reports]
    parts += [f"## {_name(failure.path)}: failed\n\n{_words(ended(failure.sentence))}\n" for failure in failures]
    return "\n".join(parts)


def _table(reports: Sequence[Report], failures: Sequence[Failure]) -> str:
    lines = ["| model | verdict | score |", "| --- | --- | --: |"]
    for report in reports:
        score = "–" if report.verdict.score is None else f"{report.verdict.score:.2f}"
        lines.append(f"| {_name(report.model.name)} | {MARK[report.verdict.outcome]} {_words(headline(report))} | {score} |")
    lines += [f"| {_name(failure.path)} | ❔ {_words(ended(failure.sentence))} | – |" for failure in failures]
    return "\n".join(lines) + "\n"


def _one(report: Report) -> str:
    verdict, model = report.verdict, report.model
    lines = [f"## {MARK[verdict.outcome]} {_name(model.name)}: {_words(headline(report))}", "", _words(sentence(verdict.reason)), ""]
    if settled(report):
        lines += ["**Accepted**: a baseline accepts everything that was found.", ""]
    gaps = [f"- {_words(sentence(gap))}" for gap in verdict.gaps if gap not in verdict.reason]
    lines += [*gaps, ""] if gaps else []
    sure = confidence(report)
    lines += [_words(sure), ""] if sure is not None else []
    lines += [f"**Next:** {_words(verdict.next_step)}", ""]
    if report.rivals:
        lines += [*_rows(rivals.TITLE, rivals.COLUMNS, list(rivals.rows(report))), ""]
    done = [finding for finding in report.findings if finding.not_done is None]
    if done:
        lines += ["| criterion | question | class | value | limit | p |", "| --- | --- | --: | --: | --: | --: |"]
        lines += [_row(finding) for finding in done]
        lines.append("")
    tried = list(copies.rows(report))
    if tried:
        lines += [*_rows(copies.title(report), copies.COLUMNS, tried), ""]
    lines += [f"- {_words(line)}" for line in (*without_effect(report), *left_out(report))]
    lines += [
        f"- Model: {_words(source(model))}, {_words(anatomy(model))}",
        f"- SHA-256: `{model.sha256}`",
        f"- Images: {_words(report.images.understood or report.images.labels)}",
    ]
    if report.accuracy is not None:
        lines.append(f"- Clean accuracy: {report.accuracy:.1%}")
    if report.preprocess is not None:
        chosen = report.preprocess.preprocess
        lines.append(f"- Preprocessing: {_words(preprocessing(report.preprocess) if chosen is None else chosen.name)}")
    lines.append(f"- banscan {_words(str(report.environment.get('banscan', '')))}, seed {report.settings.seed}")
    return "\n".join(lines) + "\n"


def _rows(title: str, columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """A table with its title."""
    head = [f"{title}:", "", f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]
    return head + [f"| {' | '.join(map(_words, row))} |" for row in rows]


def _row(finding: Finding) -> str:
    value, limit = (None if v is None else number(finding, v) for v in (finding.value, finding.limit))
    p = None if finding.p_value is None else chance(finding.p_value)
    name = f"**{finding.criterion}**" if finding.exceeds else finding.criterion
    cells = (name, _words(asked(finding)), ", ".join(map(str, finding.classes)), value, limit, p)
    return f"| {' | '.join(cell or '–' for cell in cells)} |"


def _name(path: object) -> str:
    return _words(plain(str(path), NAME))


def _words(text: str) -> str:
    """A text as Markdown shows it, whatever is in it."""
    text = MARKS.sub(r"\\\1", plain(text))
    for link, shown in LINKS.items():
        text = text.replace(link, shown)
    return text


def write(report: Report, stream: TextIO) -> None:
    """Writes one report."""
    write_many((report,), (), stream)


def write_many(reports: Sequence[Report], failures: Sequence[Failure], stream: TextIO) -> None:
    """Writes several into one document."""
    stream.write(to_markdown(reports, failures))
