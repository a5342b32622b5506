"""What the paper does not say, from the same rows: the right target, both forms of noise, clean models by recipe, other methods."""

from collections.abc import Sequence
from statistics import mean, median

from bench.paper.cells import NAMES, USUAL, interval
from bench.paper.printed import ATTACKS
from bench.paper.store import OURS, PAPER, Mend, Scan, Store
from bench.tables import header, rate

WORDS = {name: word for word, name in ATTACKS.items()}
FORMS = {"normalised": "normalised (by what the neurons do on clean images)", "paper": "Eq. 3 as printed"}


def section(known: Store, methods: set[str]) -> list[str]:
    """All tables; `methods` are those that the paper prints."""
    return [
        *_titled("The right target required", _targets(known.scans)),
        *_titled("Both forms of noise", _forms(known.scans)),
        *_titled("Clean models by recipe", _clean(known.scans)),
        *_titled("Methods that the paper does not compare", _others(known.scans, methods)),
        *_titled("Repairs with fewer images", _few(known.mends)),
    ][:-1]


def _titled(title: str, lines: list[str]) -> list[str]:
    return [f"## {title}", "", *(lines or ["no rows"]), ""]


def _usual(scans: Sequence[Scan]) -> list[Scan]:
    """Of measuring models: those of baselines, and our own with the settings that fill the paper's cells."""
    return [s for s in scans if not s.tried and (s.method != OURS or (s.form, s.effort) == USUAL)]


def _targets(scans: Sequence[Scan]) -> list[str]:
    """Called at all, as the paper counts, beside called with the right target or map."""
    attacked = [s for s in _usual(scans) if s.right is not None]
    keys = sorted({(s.method != OURS, s.method, s.model.attack, s.model.all_to_all) for s in attacked})
    lines = header(["method", "attack", "called backdoored", "and with the right target or map", "networks"]) if keys else []
    for _, method, attack, all_to_all in keys:
        own = [s for s in attacked if (s.method, s.model.attack, s.model.all_to_all) == (method, attack, all_to_all)]
        networks = ", ".join(sorted({f"{NAMES.get(s.model.set, s.model.set)} {s.model.arch}w{s.model.width}" for s in own}))
        name = WORDS.get(attack, attack) + (", all-to-all" if all_to_all else "")
        lines.append(f"| {method} | {name} | {rate(s.flagged for s in own)} | {rate(bool(s.right) for s in own)} | {networks} |")
    return lines


def _forms(scans: Sequence[Scan]) -> list[str]:
    """Our scans of the same models with either form of noise; every network's batch norm is folded into its weights."""
    ours = [s for s in scans if s.method == OURS and s.part == PAPER]
    by_form = {form: {s.model.name: s for s in ours if s.form == form} for form in FORMS}
    shared = set.intersection(*(set(own) for own in by_form.values()))
    if not shared:
        return []
    lines = header(["noise", "attacked, called backdoored", "and with the right target", "clean, called backdoored", "median s"])
    for form, text in FORMS.items():
        own = [by_form[form][name] for name in sorted(shared)]
        lines.append(f"| {text} | {_told(own)} | {median(s.seconds for s in own):.0f} |")
    return lines


def _told(scans: Sequence[Scan]) -> str:
    """Attacked models called backdoored, with the right target, and clean ones called backdoored: three cells."""
    attacked, clean = ([s for s in scans if (s.right is None) == wanted] for wanted in (False, True))
    return f"{rate(s.flagged for s in attacked)} | {rate(bool(s.right) for s in attacked)} | {rate(s.flagged for s in clean)}"


def _clean(scans: Sequence[Scan]) -> list[str]:
    """Clean models called backdoored, by method, data set and network; those that settings were tried on apart."""
    clean = [s for s in scans if s.right is None]
    told = [s for s in clean if s.method != OURS or s.form == USUAL[0]]
    keys = sorted(set(map(_recipe, told)))
    columns = ["method", "models", "effort", "data set", "network", "called backdoored", "95 %", "median s"]
    lines = header(columns) if keys else []
    for key in keys:
        own = [s for s in told if _recipe(s) == key]
        _, method, tried, effort, name, arch, width = key
        flagged = sum(s.flagged for s in own)
        which = "settings were tried on them" if tried else "only measured"
        lines.append(
            f"| {method} | {which} | {effort or '–'} | {NAMES.get(name, name)} | {arch}, width {width} | {flagged} of {len(own)} | "
            f"{interval(flagged, len(own))} | {median(s.seconds for s in own):.0f} |"
        )
    return lines


def _recipe(scan: Scan) -> tuple[bool, str, bool, str, str, str, int]:
    """What clean models are put together by."""
    one = scan.model
    return scan.method != OURS, scan.method, scan.tried, scan.effort, one.set, one.arch, one.width


def _others(scans: Sequence[Scan], methods: set[str]) -> list[str]:
    """Baselines beside those of the paper."""
    others = sorted({s.method for s in scans} - methods)
    lines = header(["method", "attacked, called backdoored", "and with the right target", "clean, called backdoored"]) if others else []
    for method in others:
        own = [s for s in scans if s.method == method]
        lines.append(f"| {method} | {_told(own)} |")
    return lines


def _few(mends: Sequence[Mend]) -> list[str]:
    """Repairs that were given few images, beside those of the same models with more."""
    lines: list[str] = []
    for method in ("ban", "finetune"):
        both = [{m.model.name: m for m in mends if m.part == part and m.settings == method} for part in ("repair", "repair-few")]
        shared = sorted(both[0].keys() & both[1].keys())
        for by_name in both if shared else ():
            own = [by_name[name] for name in shared]
            accuracy, rates = (f"{100 * mean(m.before[j] for m in own):.1f} → {100 * mean(m.after[j] for m in own):.1f}" for j in (0, 1))
            lines.append(f"| {method} | {median(m.images for m in own):.0f} | {len(own)} | {accuracy} | {rates} |")
    return [*header(["method", "images tuned on, median", "models", "BA", "ASR"]), *sorted(lines)] if lines else []
