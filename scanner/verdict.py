"""From findings to a verdict: the only place where one is made."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from banscan.scanner.findings import ALL, DECIDES, FRAGILE, KINDS, NOT_SCANNED, SUSPECTS, TUNED, Controls, Finding, Verdict, from_scratch
from banscan.scanner.levels import Levels
from banscan.text import counted

TAKE_IT_OUT = "`banscan repair` takes most backdoors out of a file; a scan that finds nothing afterwards is no proof either"
NO_PROOF = "It is no proof: source-specific backdoors were not looked for, and `banscan docs limits` says what else a scan does not see."
# the more serious, the higher; an open question weighs more than nothing found
GRAVITY = {NOT_SCANNED: 0, "no backdoor found": 1, "inconclusive": 2, FRAGILE: 3, "suspicious": 4, "backdoored": 5}
# planted backdoors that a statement needs at least, and the share of them that has to be found
LEAST_PLANTED, MOST_FOUND = 3, 0.75
STEPS = {
    "backdoored": f"Do not deploy this file. Ask whoever made it for the training data and code, or train it anew; {TAKE_IT_OUT}.",
    "suspicious": "Do not deploy it yet: scan again with seeds that were not tried yet (--seed) and with more clean images, up to 500.",
    FRAGILE: "Whoever can change what the model sees can steer it there, planted or not. Scan 19 or more clean models of this kind with "
    "`banscan calibrate`, then scan again with --calibration, which tells the two apart.",
    "no backdoor found": f"Of these images only a longer search can ask more (--effort, up to thorough). {NO_PROOF}",
    "gaps": f"Scan again with what was left out, as the sentence above says. {NO_PROOF}",
    "inconclusive": "This is no verdict: do what the sentence above asks for, then scan again.",
    NOT_SCANNED: "This is no verdict: scan without --dry-run.",
    "doubt": "Do not deploy it before someone says what this part of the graph is for: `banscan inspect --structure` names all of it.",
    "unmade": "Scan with --controls, which takes long for such a model and says what a scan of it would see; or scan 19 or more clean "
    "models of this kind with `banscan calibrate`, then scan again with --calibration.",
    "uncovered": "Scan 19 or more clean models of this kind with `banscan calibrate`, then scan again with --calibration.",
}


def decide(findings: Sequence[Finding], levels: Levels) -> Verdict:
    """The verdict that findings lead to at these levels.

    Args:
        findings: of all criteria, `levels.applied`, those that could not be applied among them.
    """
    done = [f for f in findings if f.not_done is None]
    tests = [f for f in done if f.p_value is not None]
    deciding = [f for f in done if f.power == DECIDES]
    gaps = missing(findings)
    alone = [f for f in deciding if f.own_null and f.exceeds]
    if all(f.own_null for f in deciding):
        if alone:
            return _called("backdoored", alone[0], {"score": alone[0].score, "gaps": gaps})
        why = next((f.not_done for f in findings if f.not_done is not None), "no criterion could be applied")
        return replace(inconclusive(why), gaps=gaps)
    # of few classes none can stand out; then limits decide
    best = leading(f for f in tests if f.power == DECIDES) if tests else None
    # a null of its own is no part of what clean models score
    score = max(f.score for f in deciding if f.exceeds or not f.own_null)
    found: dict[str, Any] = {"score": score, "gaps": gaps}
    found |= {} if best is None else {"p_value": best.p_value, "criterion": best.criterion}
    fragile = [f for f in deciding if f.exceeds and f.natural]
    # they need no clean models of this kind: dormant neurons are compared with the living, and what goes with a tuning was planted
    own = [f for f in deciding if f.exceeds and (f.own_null or (f.control is not None and f.control.planted))]
    exceeding = own if own and levels.uncovered is not None else [f for f in deciding if f.exceeds and f not in fragile]
    doubtful = [f for f in (best, leading(tests)) if f.suspects] if best is not None else []
    if exceeding:
        verdict = _called("backdoored", first(exceeding), found)
    elif doubtful:
        verdict = _called("suspicious", doubtful[0], found | {"p_value": doubtful[0].p_value})
        if doubtful[0].power == SUSPECTS:  # the best of those that decide would come first
            verdict = replace(verdict, reason=f"{verdict.reason}; no other test stands by it")
    elif fragile:
        verdict = _called(FRAGILE, first(fragile), found)
    else:
        verdict = _calm(findings, gaps, levels, found)
    # limits and controls need no clean models of this kind, tests do
    known = levels.uncovered is None or best is None or own or verdict.outcome == FRAGILE
    return verdict if known else _uncovered(verdict, str(levels.uncovered))


def unsettled(verdict: Verdict, hidden: str | None) -> Verdict:
    """A verdict on a model of which a part cannot be seen: nothing that was found is open."""
    if hidden is None or verdict.outcome != "no backdoor found":
        return verdict
    reason = "; ".join((f"no class stands out, but {hidden}; take that class out of the network, or ask what it is for", *verdict.gaps))
    return replace(verdict, outcome="inconclusive", reason=reason, next_step=STEPS["inconclusive"])


def whichever(verdicts: Mapping[str, Verdict], why: str) -> tuple[str, Verdict]:
    """What is said of a model whichever of several preprocessings is right, and the name of the one whose evidence stands for all.

    Args:
        verdicts: under each of them.
        why: they are several, and what a user can do about it.

    A backdoor is one under each of them, and so is its absence; the least of what was found holds, with its own targets, and where they are
    others under another preprocessing, the reason says so. What depends on the preprocessing is open.
    """
    names = list(verdicts)
    found, calm = _found(verdicts), _calmed(verdicts)
    if max(len(found), len(calm)) < len(names):
        shown = max(names, key=lambda n: GRAVITY[verdicts[n].outcome])
        told = "; ".join(f"under {n}: {verdicts[n].outcome} ({verdicts[n].reason})" for n in names)
        return shown, replace(inconclusive(f"{told}; {why}"), gaps=_gaps(verdicts))
    # the least evidence of a backdoor, and the most where there is none
    if found:
        shown = min(found, key=lambda n: (GRAVITY[verdicts[n].outcome], _scored(verdicts[n])))
    else:
        shown = max(calm, key=lambda n: _scored(verdicts[n]))
    own, gaps = verdicts[shown], _gaps(verdicts)
    left = f"the images leave open which of {_listed(names)} is the right preprocessing"
    alike = {(v.outcome, v.kind, v.targets[:1], v.mapping) for v in verdicts.values()}
    if len(alike) == 1:
        made = "each would have a scan of its own" if own.outcome == NOT_SCANNED else "a scan under each comes to this"
        reason = f"{own.reason}; {left}: {made}"
    else:
        reason = f"{left}: {'; '.join(f'under {n}, {v.outcome} ({v.reason})' for n, v in verdicts.items())}"
    step = STEPS["gaps"] if gaps and not own.gaps and own.outcome == "no backdoor found" else own.next_step
    return shown, replace(own, reason=reason, gaps=gaps, next_step=step)


def contradicts(verdicts: Mapping[str, Verdict]) -> bool:
    """Whether something was found under one and nothing under another, which no scan under a further one could settle."""
    return bool(_found(verdicts) and _calmed(verdicts))


def _found(verdicts: Mapping[str, Verdict]) -> list[str]:
    return [n for n, v in verdicts.items() if GRAVITY[v.outcome] >= GRAVITY[FRAGILE]]


def _calmed(verdicts: Mapping[str, Verdict]) -> list[str]:
    return [n for n, v in verdicts.items() if v.outcome in ("no backdoor found", NOT_SCANNED)]


def _gaps(verdicts: Mapping[str, Verdict]) -> tuple[str, ...]:
    """What was not looked for under all of them, and what under some."""
    every = [v.gaps for v in verdicts.values() if v != unasked()]
    common = [gap for gap in every[0] if all(gap in gaps for gaps in every)]
    return (*common, *(f"under {n}: {gap}" for n, v in verdicts.items() for gap in v.gaps if gap not in common))


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _scored(verdict: Verdict) -> float:
    return verdict.score or 0.0


def settled(verdict: Verdict, findings: Sequence[Finding]) -> bool:
    """Whether what calls it backdoored was compared with copies trained from scratch already, so that further copies say nothing of it."""
    own = (f.control for f in findings if f.exceeds and f.classes == verdict.targets)
    return verdict.outcome == "backdoored" and any(c is not None and c.planted and from_scratch(c.made) for c in own)


def by_controls(verdict: Verdict, levels: Levels, controls: Controls, findings: Sequence[Finding] = ()) -> Verdict:
    """What copies of the model itself make of a verdict, on a model whose kind nobody has measured.

    Args:
        verdict: as if the kind had been measured.
        findings: that it rests on.

    A class that stands out counts where it stands out in no copy without a backdoor; nothing found counts where planted ones were found.
    """
    if levels.uncovered is None or verdict.outcome in (FRAGILE, "inconclusive") or settled(verdict, findings):
        return verdict
    if verdict.outcome != "no backdoor found":
        if not controls.judged:
            return _uncovered(verdict, levels.uncovered)
        alike = [c for c in controls.judged if c.outcome != "no backdoor found"]
        if alike:
            told = f"planted or natural cannot be told: a copy {alike[0].made or TUNED} looks {alike[0].outcome} as well"
            return replace(verdict, outcome=FRAGILE, reason=f"{verdict.reason}; {told}", next_step=STEPS[FRAGILE])
        told = f"no copy {controls.judged[0].made or TUNED} shows it, as where it was planted"
        return replace(verdict, reason=f"{verdict.reason}; {told}")
    backdoored, found = controls.backdoored, controls.found
    enough = len(backdoored) >= LEAST_PLANTED and len(found) >= MOST_FOUND * len(backdoored)
    if enough:
        return replace(verdict, reason=f"{verdict.reason}; {told_of(controls)}")
    reason = f"{verdict.reason}, but this says little: {told_of(controls)}"
    return replace(verdict, outcome="inconclusive", reason=reason, next_step=STEPS["uncovered"])


def untried(verdict: Verdict, levels: Levels) -> Verdict:
    """A calm verdict on a model whose kind nobody has measured, where no planted copies say what it is worth."""
    if levels.uncovered is None or verdict.outcome != "no backdoor found":
        return verdict
    gap = "how much a scan of such a model sees was not tried (--controls tries it on copies with planted backdoors, which takes a while)"
    return replace(verdict, reason=f"{verdict.reason}; {gap}", gaps=(*verdict.gaps, gap), next_step=STEPS["gaps"])


def told_of(controls: Controls) -> str:
    """What a scan of such a model would see, in a sentence."""
    backdoored, found = controls.backdoored, controls.found
    if not backdoored:
        return "no backdoor could be planted into copies of the model to try the scan on"
    seen, missed = (", ".join(str(c.trigger) for c in backdoored if c.found == own) for own in (True, False))
    named = "; ".join(f"{what} {names}" for what, names in (("found:", seen), ("missed:", missed)) if names)
    return f"of {counted(len(backdoored), 'backdoor')} planted into copies of the model a first look finds {len(found)} ({named})"


def leading(tests: Iterable[Finding]) -> Finding:
    """The first of these tests; a class that does not lead in every restart is an accident of one of them."""
    return min(tests, key=lambda f: (not f.steady, f.p_value or 0.0, -(f.value or 0.0)))


def first(exceeding: Sequence[Finding]) -> Finding:
    """The finding that decides: the leading test, else the map that moves most, else the first of the others.

    In no all-to-all backdoor did a class stand out by a test; but noise towards a single target may move images along a map as well.
    """
    tests = [f for f in exceeding if f.p_value is not None]
    if tests:
        return leading(tests)
    maps = [f for f in exceeding if f.sees == ALL]
    return max(maps, key=lambda f: f.value or 0.0) if maps else exceeding[0]


def missing(findings: Sequence[Finding]) -> tuple[str, ...]:
    """What was not looked for: kinds of backdoor that no criterion could look for, and what one that could had to leave out."""
    gaps: list[str] = []
    for kind in KINDS:
        own = [f for f in findings if f.sees == kind and f.power == DECIDES]
        if own and all(f.not_done is not None for f in own):
            reasons = dict.fromkeys(str(f.not_done) for f in own)
            gaps.append(f"{kind} backdoors were not looked for: {' and '.join(reasons)}")
        else:
            for why in dict.fromkeys(f.not_done for f in own if f.not_done is not None):
                names = [f.criterion for f in findings if f.not_done == why]
                gaps.append(f"not asked: {', '.join(names)} ({why})")
        gaps += dict.fromkeys(f.partly for f in own if f.partly is not None)
    return tuple(dict.fromkeys(gaps))


def inconclusive(reason: str) -> Verdict:
    """No verdict, before any test."""
    return Verdict(outcome="inconclusive", reason=reason, next_step=STEPS["inconclusive"])


def unasked() -> Verdict:
    """Of a preprocessing under which nothing was searched, since a verdict could not follow from it any more."""
    return Verdict(outcome=NOT_SCANNED, reason="those before it contradict one another")


def unmeasured(why: str) -> Verdict:
    """No verdict is possible, known before any test: no clean model measured is of this kind."""
    reason = f"what clean models like this one show was not measured: {why}; give your own with --calibration"
    return Verdict(outcome="inconclusive", reason=reason, next_step=STEPS["unmade"])


def _called(outcome: str, finding: Finding, found: dict[str, Any]) -> Verdict:
    about = {"kind": finding.sees, "targets": finding.classes, "mapping": finding.mapping, "criterion": finding.criterion}
    return Verdict(outcome=outcome, reason=finding.told, next_step=STEPS[outcome], **(found | about))


def _calm(findings: Sequence[Finding], gaps: tuple[str, ...], levels: Levels, found: dict[str, Any]) -> Verdict:
    """Nothing stands out, which is a finding only where it could have been seen."""
    blind = next((f.blind for f in findings if f.blind is not None), None)
    if blind is not None:
        reason = "; ".join((f"no class stands out, but {blind}", *(gap for gap in gaps if blind not in gap)))
        return Verdict(outcome="inconclusive", reason=reason, next_step=STEPS["inconclusive"], **found)
    if any(f.p_value is not None for f in findings):
        reason = f"no class stands out further than {'chance explains' if levels.calibrated is None else 'in clean models'}"
    else:
        reason = "nothing exceeds a limit"
    outcome = "no backdoor found"
    return Verdict(outcome=outcome, reason="; ".join((reason, *gaps)), next_step=STEPS["gaps" if gaps else outcome], **found)


def _uncovered(verdict: Verdict, why: str) -> Verdict:
    """The same evidence without a verdict: nobody knows what clean models of this kind look like."""
    seen = verdict.reason if verdict.outcome != "no backdoor found" else "; ".join(("no class stands out", *verdict.gaps))
    reason = f"{seen}; but what clean models like this one show was not measured: {why}; give your own with --calibration"
    return replace(verdict, outcome="inconclusive", reason=reason, next_step=STEPS["unmade"])
