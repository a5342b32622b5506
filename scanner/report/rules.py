"""What each kind of result means, in words: made from what the criteria say of themselves."""

from dataclasses import dataclass

from banscan.scanner.criteria.registry import CRITERIA
from banscan.scanner.findings import DECIDES, SHARE
from banscan.scanner.report.results import INCONCLUSIVE, STRUCTURE


@dataclass(frozen=True)
class Rule:
    """A name, what it asks in one line, and what a reader should know of it."""

    name: str
    short: str
    help: str


def _of_criteria() -> tuple[Rule, ...]:
    made = []
    for criterion in CRITERIA:
        power = "It may call a model backdoored by itself." if criterion.power == DECIDES else "Alone it makes a model suspicious at most."
        unit = "a share of images" if criterion.unit == SHARE else "how far the class is from the others, in standard deviations"
        how = f"It looks for {criterion.sees} backdoors and measures {unit}. {power} `banscan docs method` says how it is measured."
        made.append(Rule(criterion.name, criterion.asks, f"{criterion.asks} {how}"))
    return tuple(made)


RULES: tuple[Rule, ...] = (
    *_of_criteria(),
    Rule(
        STRUCTURE,
        "Does the graph decide by the pixels, beside the network?",
        "A comparison of pixels, a branch or a way past the network that sends images to one class was written into the graph: no training "
        "does that. `banscan inspect --structure` shows every such place.",
    ),
    Rule(
        INCONCLUSIVE,
        "Could the scan come to a verdict?",
        "An inconclusive scan has found nothing and cleared nothing. The message says what is missing; do that, then scan again.",
    ),
)


def place(name: str) -> int:
    """The index of a rule."""
    return next(i for i, rule in enumerate(RULES) if rule.name == name)
