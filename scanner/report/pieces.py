"""What reports for people have in common: words and numbers of a verdict, tables of pairs."""

from rich.table import Table

from banscan.scanner.findings import FRAGILE, NOT_SCANNED, PLANNED, SHARE, SUSPECTS, Finding, ModelFacts, Report
from banscan.text import NAME, plain

STYLES = {
    "backdoored": "bold red",
    "suspicious": "bold yellow",
    "no backdoor found": "bold green",
    FRAGILE: "bold yellow",
    "inconclusive": "bold yellow",
    NOT_SCANNED: "bold",
}

# characters of a bar that stands for all
BAR = 24


def headline(report: Report) -> str:
    """The verdict in plain words."""
    verdict = report.verdict
    several = len(verdict.targets) > 1
    if verdict.outcome == "backdoored" and several:
        return f"Backdoored: {all_named(report)} look like an attacker's targets"
    if verdict.outcome == "backdoored" and verdict.targets:
        return f"Backdoored: class {named(report, verdict.targets[0])} looks like an attacker's target"
    if verdict.outcome == "backdoored":
        return "Backdoored: classes look mapped to one another by an attacker (all-to-all)"
    if verdict.outcome == "suspicious" and not verdict.targets:
        return "Suspicious: the graph decides by the pixels in a way that a classifier has no use for"
    if verdict.outcome == "suspicious":
        what = f"{all_named(report)} stand out" if several else f"class {named(report, verdict.targets[0])} stands out"
        return f"Suspicious: {what}, but not clearly enough for a verdict"
    if verdict.outcome == FRAGILE:
        where = f"to class {named(report, verdict.targets[0])}" if verdict.targets else "from class to class"
        return f"Fragile: one change moves most images {where}, which need not have been planted"
    return {"no backdoor found": "No backdoor found", "inconclusive": "Inconclusive", NOT_SCANNED: "Not scanned"}[verdict.outcome]


def named(report: Report, target: int) -> str:
    """A class with its name, where it has one that says more than the number."""
    name = None if report.class_names is None else report.class_names[target]
    return str(target) if name is None or name == str(target) else f"{target} ({plain(name, NAME)})"


def all_named(report: Report) -> str:
    """All classes that a verdict names."""
    *first, last = (named(report, c) for c in report.verdict.targets)
    return f"classes {', '.join(first)} and {last}"


def left_out(report: Report) -> list[str]:
    """What was not looked for, and why: a line for every reason."""
    names: dict[str, list[str]] = {}
    for finding in report.findings:
        if finding.not_done not in (None, PLANNED):
            names.setdefault(str(finding.not_done), []).append(finding.criterion)
    return [f"Not looked for: {', '.join(own)} ({why})" for why, own in names.items()]


def asked(finding: Finding) -> str:
    """The question of a criterion, and what its answer is worth where that is less than a verdict."""
    return f"{finding.asks} (suspicious at most)" if finding.power == SUSPECTS else finding.asks


def sentence(text: str) -> str:
    """With a capital letter and a full stop."""
    return ended(f"{text[:1].upper()}{text[1:]}")


def ended(text: str) -> str:
    """With a full stop: of what begins with a path, whose letters are as they are."""
    return text if text.endswith(".") else f"{text}."


def chance(p: float) -> str:
    """A probability."""
    return "1" if p >= 1 else f"{p:.2f}" if p >= 0.01 else f"{p:.1e}"


def number(finding: Finding, value: float) -> str:
    """A value or limit in the unit of a finding."""
    return f"{value:.0%}" if finding.unit == SHARE else f"{value:.2f}"


def bar(share: float, width: int = BAR) -> str:
    """A bar in eighths of a character."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    return "█" * (eighths // 8) + ("" if eighths % 8 == 0 else chr(0x258F - (eighths % 8) + 1))


def pairs(title: str) -> Table:
    """A table of names and what is said of them."""
    table = Table(title=title, title_justify="left", box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def source(model: ModelFacts) -> str:
    """Where a model comes from and what it takes."""
    spec = model.input
    size = "×".join(str(v or "free") for v in (spec.height, spec.width))
    written = model.format if model.opset is None else f"{model.format} opset {model.opset}"
    by = "" if model.reader is None else f", read by {plain(model.reader, NAME)}"
    return f"{written} by {plain(model.producer, NAME)}{by}, input {spec.layout} {size}×{spec.channels}, {model.classes} classes"


def anatomy(model: ModelFacts) -> str:
    """Where its features and its classifier are."""
    spatial = "" if model.spatial in (None, model.features) else f", map before pooling {model.spatial}"
    if not model.classifier:
        return model.features
    return f"penultimate {model.features}{spatial}, classifier {', '.join(model.classifier)}"


def add_notes(table: Table, model: ModelFacts) -> None:
    """What was changed on the way from the file to the graph."""
    for note in model.notes:
        table.add_row("note", note)
