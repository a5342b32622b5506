"""What every report for people says in the same words, on a screen or on a page."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from banscan.scanner.findings import SUSPECTS, Deployed, Finding, Report
from banscan.scanner.levels import SUSPICIOUS
from banscan.scanner.report.pieces import anatomy, chance, source
from banscan.text import counted

if TYPE_CHECKING:
    from banscan.scanner.inputs.trial import Tried

# classes from which on one that most images are answered with is odd
ONE_SIDED = 5
# what a reader may need to repeat a scan
PACKAGES = ("torch", "onnx", "onnxruntime", "numpy")


def odds(report: Report) -> str | None:
    """How likely a backdoor is with such a score, and such a finding by chance, where a test decided."""
    verdict, standing = report.verdict, report.standing
    told = []
    if standing is not None and standing.probability is not None:
        told.append(f"Probability of a backdoor like those measured: {likely(standing.probability)}, if every second file had one.")
    decided = any(f.criterion == verdict.criterion and f.p_value is not None for f in report.findings)
    if decided and verdict.p_value is not None and verdict.outcome in ("backdoored", "suspicious"):
        told.append(f"A model whose classes differ only by chance looks like this with probability {chance(verdict.p_value)}.")
    return " ".join(told) or None


def likely(probability: float) -> str:
    """A probability of a few models: never as good as sure."""
    return "over 99%" if probability > 0.99 else f"{max(probability, 0.01):.0%}"


def confidence(report: Report) -> str | None:
    """How sure a verdict is, in a sentence: by chance, or by the score and what it is compared with; None where neither is known."""
    if (told := odds(report)) is not None:
        return told
    known = report.standing
    if known is None or known.uncovered is not None or report.verdict.outcome == "inconclusive":
        return None
    limit = f"from {known.limit:.2f} on" if known.alpha is None else f"above {known.limit:.2f}"
    natural = ", but not for what cannot be told from a natural weakness, as here" if report.naturally else ""
    return f"Score {known.score:.2f}; {limit} a model is called backdoored{natural}."


def counting(report: Report) -> str:
    """From where on values count: tests that only make a model suspicious may be below their limits, which are those of a backdoor."""
    below = any(f.suspects and f.value is not None and f.limit is not None and f.value < f.limit for f in report.findings)
    return f"from the limit on{f', below it as suspicious where p is at most {SUSPICIOUS:g}' if below else ''}"


def without_effect(report: Report) -> list[str]:
    """Why values at or above their limits make no verdict, where they make none."""
    above = [f for f in report.findings if f.not_done is None and f.value is not None and f.limit is not None and f.value >= f.limit]
    idle = [f for f in above if not f.exceeds and f.power != SUSPECTS]
    # the scan that is shown came to a verdict of its own
    contested = any(r.shown and r.outcome != "inconclusive" for r in report.rivals)
    kinds = (
        (
            [f for f in above if f.exceeds and not f.own_null and not f.natural and report.verdict.outcome == "inconclusive"],
            "but a scan under another preprocessing that may be right comes to something else"
            if contested
            else "which was set on other kinds of model and decides nothing here",
        ),
        (
            [f for f in above if f.natural],
            "but a control does not tell it from a natural weakness, so that it does not count",
        ),
        ([f for f in idle if f.own_null], "but the model's other parts do as much, so that it does not count"),
        ([f for f in idle if not f.own_null and not f.steady], "but not with the same class in every restart, so that it does not count"),
        ([f for f in idle if not f.own_null and f.steady], "but other classes are reached nearly as well, so that it does not count"),
    )
    return [f"Above the limit, {why}: {', '.join(f.criterion for f in found)}" for found, why in kinds if found]


def counts(report: Report, finding: Finding) -> bool:
    """Whether a finding is one that the verdict rests on."""
    return finding.exceeds and not finding.natural and (finding.own_null or report.verdict.outcome != "inconclusive")


def restarts(report: Report) -> int:
    """Independent searches for noise that were made, or would be."""
    return report.settings.restarts if report.aside is None else report.aside.restarts


def _search(report: Report) -> str:
    """How much was searched."""
    effort = report.settings.effort
    if effort == "thorough":
        return "thorough"
    if not report.whole:
        return f"{effort}: a first look at everything{', in which nothing was left open' if effort == 'standard' else ''}"
    return f"{effort}: a first look at everything, then longer searches for {', '.join(report.whole)}"


def aside(report: Report) -> Iterator[tuple[str, str]]:
    """What the verdict does not use, by name."""
    found = report.aside
    if found is None:
        return
    yield "accuracy under noise", f"{found.accuracy:.1%} (untargeted, {counted(found.restarts, 'restart')})"
    yield (
        "negative mask (Eq. 6)",
        f"alone sends {found.mask.share:.0%} of the images to class {found.mask.target}; with noise class {found.mask_noise.target} "
        f"gains most, {found.mask_noise.share:+.0%}",
    )


def facts(report: Report, *, everything: bool = False) -> Iterator[tuple[str, str]]:
    """What was read and how it was scanned, by name; `everything` shortens nothing."""
    model, settings = report.model, report.settings
    yield "model", f"{source(model)}, SHA-256 {model.sha256 if everything else f'{model.sha256[:16]}…'}"
    if model.origin is not None:
        yield "from", model.origin
    yield "features", anatomy(model)
    yield "images", report.images.understood or report.images.labels
    if report.accuracy is not None:
        yield "accuracy", f"{report.accuracy:.1%} of the clean images get their label"
    elif report.confidence is not None:
        yield "confidence", f"{report.confidence:.1%} on the clean images, mean{_one_sided(report)}"
    tried = report.preprocess
    if tried is not None:
        yield "preprocessing", preprocessing(tried)
    if report.parity is not None:
        found = report.parity
        of = f"; {found.unsteady} of {found.images + found.unsteady} images left out, which rounding alone answers otherwise"
        left = of if found.unsteady else ""
        yield "parity", f"{found.rms:.1e} relative RMS, {found.largest:.1e} at most, against {model.runtime}{left}"
    if report.deployed is not None:
        yield "deployed as", _deployed(report.deployed)
    if report.standing is not None:
        yield "clean models", _standing(report)
    if report.aside is not None or report.whole:
        yield "search", _search(report)
    strength = "" if report.eps is None else f", eps {report.eps:.2g}{'' if settings.eps else ' (found by itself)'}"
    most = f"{'up to ' if report.aside is None else ''}{counted(restarts(report), 'restart')}"
    yield (
        "noise",
        f"{settings.noise}{strength}, {counted(settings.steps, 'step')}, {most}, seed {settings.seed}, "
        f"on the deepest {1 - settings.layers_without:.0%} of the layers",
    )
    env = report.environment
    threads = counted(env["threads"], "thread")
    yield "machine", f"{env['processor']}, {threads}, kernels {env['kernels']}, search in {env['search precision']}"
    if everything:
        if report.memory:
            yield "memory", f"at most {' and '.join(f'{most / 1e9:.1f} GB of {_whose(of)}' for of, most in report.memory.items())}"
        yield "versions", ", ".join(f"{name} {env[name]}" for name in ("banscan", "python", *PACKAGES) if name in env)
    for note in model.notes:
        yield "note", note


def _one_sided(report: Report) -> str:
    """That most images get the same answer, where there are classes enough to wonder whether they are images of the model's kind."""
    most = max(report.reach, key=lambda r: r.clean, default=None)
    if most is None or most.clean <= 0.5 or report.model.classes < ONE_SIDED:
        return ""
    return f"; {most.clean:.0%} of them are answered with class {most.target}: are they what the model was made for?"


def preprocessing(tried: "Tried") -> str:
    """Which one was chosen and why, or those that are left."""
    if tried.preprocess is not None:
        return f"{tried.preprocess.name}: {tried.reason}"
    return f"undecided: {' or '.join(tried.rivals)}" if tried.rivals else "undecided"


def _whose(name: str) -> str:
    return "the process" if name == "process" else name


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
    own_scores = f"the {count} given" if standing.source is None else f"the {count} of {standing.source}"
    whose = f"banscan's own {count}" if standing.alpha is None else own_scores
    if standing.uncovered is not None:
        return f"{whose} say nothing about this one: {standing.uncovered}"
    begins = "from" if standing.alpha is None else "above"
    own = f"score {standing.score:.2f}, a model is called backdoored {begins} {standing.limit:.2f}"
    if standing.alpha is not None:
        own += f", which a clean one exceeds with a probability of at most {standing.alpha:g}"
    if standing.reached is None or standing.p_value is None:
        return f"{own}; {whose} were scanned with other settings, so theirs cannot be compared"
    return f"{own}; of {whose} {standing.reached} score as high, a further one would with p {standing.p_value:.2f} at most"


def seconds(report: Report) -> str:
    """By stage, and in all."""
    parts = ", ".join(f"{name} {spent:.1f}" for name, spent in report.seconds.items() if spent >= 0.05)
    return f"{parts}; {sum(report.seconds.values()):.1f} in all after the start"
