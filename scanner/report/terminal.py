"""The report that a person reads: the verdict in one sentence, then the evidence behind it."""

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from banscan.importers import TracedModel
from banscan.scanner.calibration import Standing
from banscan.scanner.report.drawing import draw
from banscan.scanner.scan import Report
from banscan.scanner.search.patch import LEFT
from banscan.scanner.verdict import BACKDOORED, MAPPED, NAMES, NEVER_ALONE, PATCHED, SUSPICIOUS, clear_score, patch_score

STYLES = {"backdoored": "bold red", "suspicious": "bold yellow", "no backdoor found": "bold green", "inconclusive": "bold yellow"}
SHOWN = 6


def show(report: Report, console: Console) -> None:
    """Prints the whole report at the console's width."""
    console.print(_headline(report))
    if report.evidence is not None:
        console.print(_classes(report))
        console.print(_tests(report))
        console.print(_aside(report))
    console.print(_facts(report))
    if report.choice is not None and report.choice.table:
        console.print(_preprocessing(report))
    if report.clean.unreadable:
        names = ", ".join(report.clean.unreadable[:5]) + (", …" if len(report.clean.unreadable) > 5 else "")
        console.print(f"[yellow]{len(report.clean.unreadable)} unreadable images left out:[/] {escape(names)}")
    console.print(_timings(report))


def sentence(report: Report) -> str:
    """The verdict in plain words."""
    verdict = report.verdict
    if verdict.outcome == "backdoored" and verdict.others:
        return f"Backdoored: {_all_named(report)} look like an attacker's targets"
    if verdict.outcome == "backdoored" and verdict.kind == "all-to-one":
        return f"Backdoored: class {_named(report, verdict.target)} looks like an attacker's target"
    if verdict.outcome == "backdoored":
        return "Backdoored: classes look mapped to one another by an attacker (all-to-all)"
    if verdict.outcome == "suspicious":
        what = f"{_all_named(report)} stand out" if verdict.others else f"class {_named(report, verdict.target)} stands out"
        return f"Suspicious: {what}, but not clearly enough for a verdict"
    return {"no backdoor found": "No backdoor found", "inconclusive": "Inconclusive"}[verdict.outcome]


def _named(report: Report, target: int | None) -> str:
    """A class with its name, where it has one that says more than the number."""
    name = None if target is None or report.clean.names is None else report.clean.names[target]
    return str(target) if name is None or name == str(target) else f"{target} ({name})"


def _all_named(report: Report) -> str:
    """All classes that a verdict names."""
    *first, last = (_named(report, c) for c in report.verdict.named)
    return f"classes {', '.join(first)} and {last}"


def _headline(report: Report) -> Panel:
    verdict = report.verdict
    body: list[RenderableType] = [Text(sentence(report), style=STYLES[verdict.outcome]), Text(_upper(verdict.reason) + ".")]
    if verdict.p_value is not None and verdict.test in NAMES:
        odds = f"A model whose classes differ only by chance looks like this with probability {chance(verdict.p_value)}."
        body.append(Text(odds, style="dim"))
    return Panel(Group(*body), title=escape(report.model.source.path.name), title_align="left", padding=(0, 1))


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def chance(p: float) -> str:
    return "1" if p >= 1 else f"{p:.2f}" if p >= 0.01 else f"{p:.1e}"


def _classes(report: Report) -> Table:
    """Bars of the classes that noise reaches best."""
    evidence = report.evidence
    assert evidence is not None
    moved = evidence.moved.mean(0)
    order = moved.argsort(descending=True)
    table = Table(title="Classes that neuron noise reaches best", title_justify="left", box=None, pad_edge=False, expand=False)
    table.add_column("class", justify="right", max_width=24)
    table.add_column("images of other classes moved there by noise aimed at it")
    table.add_column("share", justify="right")
    table.add_column("over restarts", justify="right", no_wrap=True)
    table.add_column("share of all: clean", justify="right")
    table.add_column("untargeted", justify="right")
    rows = [(moved[i], evidence.moved[:, i], int(evidence.targets[i])) for i in order[:SHOWN].tolist()]
    verdict = report.verdict
    called = verdict.named if verdict.outcome in ("backdoored", "suspicious") else ()
    for share, each, c in rows:
        style = "red" if c in called else "cyan"
        table.add_row(
            Text(_named(report, c), overflow="ellipsis"),
            Text(bar(float(share)), style=style),
            f"{float(share):.0%}",
            f"{float(each.min()):.0%} to {float(each.max()):.0%}",
            f"{float(evidence.clean_shares[c]):.1%}",
            f"{float(evidence.noisy_shares[:, c].mean()):.1%}",
        )
    middle = float(moved.median())
    table.add_row("median", Text(bar(middle), style="dim"), f"{middle:.0%}", "", "", "", style="dim")
    return table


def bar(share: float, width: int = 24) -> str:
    """A bar in eighths of a character."""
    eighths = round(max(0.0, min(1.0, share)) * width * 8)
    return "█" * (eighths // 8) + ("" if eighths % 8 == 0 else chr(0x258F - (eighths % 8) + 1))


def _tests(report: Report) -> Table:
    """What each test saw."""
    assert report.evidence is not None
    table = Table(title="Tests: does one class stand out among the others?", title_justify="left", box=None, pad_edge=False)
    table.add_column("test", no_wrap=True)
    table.add_column("a class stands out when")
    table.add_column("class", justify="right", max_width=12)
    for name in ("statistic", "threshold", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    for test in report.verdict.tests:
        decides = test.p_value <= BACKDOORED and test.name != NEVER_ALONE
        style = "red" if decides else "yellow" if test.p_value <= SUSPICIOUS else ""
        spread = f" ({min(test.restarts):.1f} to {max(test.restarts):.1f})" if test.restarts else ""
        row = (
            test.name,
            NAMES[test.name],
            ", ".join(map(str, test.named)),
            f"{test.statistic:.2f}{spread}",
            f"{test.threshold:.2f}",
            chance(test.p_value),
        )
        table.add_row(*row, style=style)
    if report.pixels is not None:
        at, least, score = patch_score(report.pixels.patch_moved, report.pixels.patch_success, report.pixels.patch_images)
        what = f"a patch of at most {LEFT} cells moves images to it, twice as many as to the median class (lower bound)"
        target = str(int(report.evidence.targets[at]))
        table.add_row("patch share", what, target, f"{least:.0%}", f"{PATCHED:.0%}", "–", style="red" if score >= 1 else "")
        at, limit, score = clear_score(report.pixels.success)
        what = "one perturbation moves images to it so clearly that the model is as sure of them as of clean ones"
        target, reached = str(int(report.evidence.targets[at])), float(report.pixels.success[at])
        table.add_row("clearness", what, target, f"{reached:.0%}", f"{limit:.0%}", "–", style="red" if score >= 1 else "")
    maps = {"noise map": ("neuron noise", report.evidence.mapped)}
    if report.pixels is not None:
        maps["pixel map"] = "one perturbation", report.pixels.mapped
    for name, (by, mapped) in maps.items():
        if name == "noise map" and not report.settings.mapping:
            what = "not searched for: its limit holds for noise whose form and strength the scan chooses by itself"
            table.add_row(name, what, "–", "–", "–", "–")
        elif mapped is not None:
            what = f"{by} moves all classes along a one-to-one map (all-to-all)"
            table.add_row(name, what, "–", f"{mapped.moved:.0%}", f"{MAPPED:.0%}", "–", style="red" if mapped.moved >= MAPPED else "")
    return table


def _aside(report: Report) -> Table:
    """What the report shows and the verdict does not use."""
    evidence = report.evidence
    assert evidence is not None
    table = _pairs("Not used for the verdict")
    table.add_row("accuracy under noise", f"{evidence.noisy_accuracy.mean():.1%} (untargeted, {len(evidence.noisy_accuracy)} restarts)")
    if report.mask is not None:
        gain = report.mask.with_noise - report.mask.alone
        top = int(gain.argmax())
        table.add_row(
            "negative mask (Eq. 6)",
            f"alone sends {report.mask.alone.max():.0%} of the images to class {int(report.mask.alone.argmax())}; with noise class {top} "
            f"gains most, {gain[top]:+.0%}",
        )
    return table


def _facts(report: Report) -> Table:
    model, settings, clean = report.model, report.settings, report.clean
    table = _pairs("Scan")
    table.add_row("model", f"{_source(model)}, SHA-256 {model.source.sha256[:16]}…")
    table.add_row("features", f"{_anatomy(model)}")
    accuracy = "" if report.accuracy is None else f", clean accuracy {report.accuracy:.1%}"
    table.add_row("images", escape(f"{len(clean.images)} of {clean.found}, {clean.labelled_by}{accuracy}"))
    if report.choice is not None:
        table.add_row("preprocessing", f"{report.choice.preprocess.name}: {report.choice.reason}")
    if report.parity is not None:
        runtime = {"ONNX": "onnxruntime"}.get(model.source.format, model.source.format)
        table.add_row("parity", f"{report.parity.rms:.1e} relative RMS, {report.parity.largest:.1e} at most, against {runtime}")
    strength = "" if report.evidence is None else f", eps {report.evidence.eps:.2g}{'' if settings.eps else ' (found by itself)'}"
    if report.standing is not None:
        table.add_row("clean models", escape(_standing(report.standing)))
    table.add_row(
        "noise",
        f"{settings.noise}{strength}, {settings.steps} steps, {settings.restarts} restarts, seed {settings.seed}, "
        f"on the deepest {1 - settings.layers_without:.0%} of the layers",
    )
    env = report.environment
    table.add_row(
        "machine", f"{escape(env['processor'])}, {env['threads']} threads, kernels {env['kernels']}, search in {env['search precision']}"
    )
    _notes(table, model)
    return table


def _standing(standing: Standing) -> str:
    """Where the model stands among clean ones."""
    whose = f"banscan's own {standing.models}" if standing.source is None else f"the {standing.models} of {standing.source}"
    if standing.uncovered is not None:
        return f"{whose} say nothing about this one: {standing.uncovered}"
    if standing.reached is None:
        return f"{whose} were scanned with other settings"
    bound = "" if standing.alpha is None else f", which a clean model exceeds with a probability of at most {standing.alpha:g}"
    return (
        f"{standing.reached} of {whose} score as high (score {standing.score:.2f}, p {standing.p_value:.2f}); backdoored "
        f"{'from' if standing.alpha is None else 'above'} {standing.limit:.2f}{bound}"
    )


def _preprocessing(report: Report) -> Table:
    assert report.choice is not None
    table = Table(title="Preprocessings tried", title_justify="left", box=None, pad_edge=False)
    for name in ("candidate", "accuracy", "mean confidence", "information"):
        table.add_column(name, justify="left" if name == "candidate" else "right")
    for s in report.choice.table:
        chosen = s.name == report.choice.preprocess.name
        accuracy = "–" if s.accuracy is None else f"{s.accuracy:.1%}"
        table.add_row(s.name, accuracy, f"{s.confidence:.1%}", f"{s.information:.2f}", style="bold" if chosen else "dim")
    return table


def _timings(report: Report) -> Text:
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in report.seconds.items())
    return Text(f"Seconds: {parts}; {sum(report.seconds.values()):.1f} in all", style="dim")


def _pairs(title: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _source(model: TracedModel) -> str:
    spec, source = model.input, model.source
    size = "×".join(str(v or "free") for v in (spec.height, spec.width))
    written = source.format if source.opset is None else f"{source.format} opset {source.opset}"
    return escape(f"{written} by {source.producer}, input {spec.layout} {size}×{spec.channels}, {model.classes} classes")


def _anatomy(model: TracedModel) -> str:
    spatial = "" if model.spatial in (None, model.features) else f", map before pooling {model.spatial}"
    return escape(f"penultimate {model.features}{spatial}, classifier {', '.join(model.classifier)}")


def _notes(table: Table, model: TracedModel) -> None:
    """What was changed on the way from the file to the graph."""
    if model.stripped:
        table.add_row("note", f"took {', '.join(model.stripped)} off the output")
    if model.source.labels is not None and model.class_names is None:
        table.add_row("note", f"the file names {len(model.source.labels)} classes, the model has {model.classes}; the names are not used")
    if model.source.precision == "8 bits":
        table.add_row(
            "note", "weights of 8 bits are read as the numbers they stand for; activations keep their range and lose their rounding"
        )


def inspect(model: TracedModel, console: Console) -> None:
    """Prints what was read from a model file: input, layers of neurons, feature layer."""
    table = _pairs(escape(model.source.path.name))
    table.add_row("model", _source(model))
    table.add_row("SHA-256", model.source.sha256)
    table.add_row("features", _anatomy(model))
    _notes(table, model)
    console.print(table)
    console.print(draw(model))
    title = f"{len(model.neurons)} layers, {sum(n.channels for n in model.neurons)} neurons"
    layers = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("layer", "kind", "neurons", "activation", "weights", "role"):
        layers.add_column(name, justify="right" if name in ("neurons", "weights") else "left")
    nodes = {n.name: n for n in model.module.graph.nodes}
    shapes = {name: tuple(value.shape) for name, value in [*model.module.named_parameters(), *model.module.named_buffers()]}
    for neuron in model.neurons:
        constants = [str(a.target) for a in nodes[neuron.node].all_input_nodes if a.op == "get_attr"]
        weight = shapes.get(constants[0], ()) if constants else ()
        role = "classifier" if neuron.node in model.classifier else ""
        layers.add_row(neuron.node, neuron.kind, str(neuron.channels), neuron.act or "", "×".join(map(str, weight)), role)
    console.print(layers)
