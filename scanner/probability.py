"""How likely a model with such a score has a backdoor."""

import math
from dataclasses import replace

from banscan.scanner.findings import Report

# of the score's logarithm, fitted to the models that settings may be tried on, as if every second of these had a backdoor
# (`python -m bench.evidence --only probability` prints them and how well they hold on others)
INTERCEPT, SLOPE = 0.31, 1.55
# a smaller score is as good as none
SMALLEST = 0.05


def of_backdoor(score: float) -> float:
    """The probability of a backdoor if every second model had one (logistic calibration, Platt 1999).

    It says what a score means among banscan's own models; a backdoor of a kind that no criterion sees scores like a clean model.

    Args:
        score: that of a verdict, 1 at the limit.
    """
    return 1 / (1 + math.exp(-(INTERCEPT + SLOPE * math.log(max(score, SMALLEST)))))


def of_its_verdict(report: Report, weighed: str | None) -> Report:
    """The report without a probability where its verdict does not rest on the score that this is of.

    Args:
        weighed: the outcome that the score led to.
    """
    standing = report.standing
    if standing is None or (report.verdict.outcome == weighed and not report.naturally):
        return report
    return replace(report, standing=replace(standing, probability=None))
