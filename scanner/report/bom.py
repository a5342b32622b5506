"""The model as a component of a CycloneDX bill of materials, with what was found in it as vulnerabilities."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from banscan.scanner.findings import Failure, Report
from banscan.scanner.report.json import plain as rounded
from banscan.scanner.report.pieces import headline, left_out, sentence
from banscan.scanner.report.results import ERROR, INCONCLUSIVE, results
from banscan.scanner.report.rules import RULES, place
from banscan.text import plain
from banscan.version import __version__

if TYPE_CHECKING:
    from cyclonedx.model.bom import Bom


def to_bom(reports: Sequence[Report]) -> "Bom":
    """A bill of materials with a component of type machine-learning-model for every report. Needs cyclonedx-python-lib."""
    from cyclonedx.model import HashAlgorithm, HashType, Property
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.impact_analysis import ImpactAnalysisState
    from cyclonedx.model.vulnerability import (
        BomTarget,
        Vulnerability,
        VulnerabilityAnalysis,
        VulnerabilityRating,
        VulnerabilitySeverity,
        VulnerabilitySource,
    )

    bom = Bom()
    bom.metadata.tools.components.add(Component(name="banscan", version=__version__, type=ComponentType.APPLICATION))
    for i, report in enumerate(reports):
        model, verdict = report.model, report.verdict
        about = {
            "path": str(model.path),
            "origin": model.origin,
            "outcome": verdict.outcome,
            "verdict": headline(report),
            "score": verdict.score,
            "format": model.format,
            "producer": model.producer,
            "reader": model.reader,
            "precision": model.precision,
            "input": f"{model.input.layout} {model.input.height}x{model.input.width}x{model.input.channels}",
            "classes": model.classes,
            "accuracy": report.accuracy,
            "left out": "; ".join(left_out(report)) or None,
        }
        ref = f"model-{i}-{model.sha256}"
        component = Component(
            name=plain(model.path.name),
            version=model.sha256[:16],
            type=ComponentType.MACHINE_LEARNING_MODEL,
            bom_ref=ref,
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=model.sha256)],
            properties=[Property(name=f"banscan:{k}", value=plain(str(rounded(v)))) for k, v in about.items() if v is not None],
        )
        bom.components.add(component)
        for result in (r for r in results(report) if r.rule != INCONCLUSIVE):
            severity = VulnerabilitySeverity.CRITICAL if result.level == ERROR else VulnerabilitySeverity.MEDIUM
            state = ImpactAnalysisState.NOT_AFFECTED if result.accepted else ImpactAnalysisState.IN_TRIAGE
            detail = "accepted by the baseline" if result.accepted else plain(verdict.next_step)
            bom.vulnerabilities.add(
                Vulnerability(
                    bom_ref=f"{ref}-{result.fingerprint}",
                    id=f"banscan-{result.rule.replace(' ', '-')}-{result.fingerprint[:16]}",
                    source=VulnerabilitySource(name="banscan"),
                    description=plain(sentence(result.sentence)),
                    detail=RULES[place(result.rule)].help,
                    ratings=[VulnerabilityRating(severity=severity)],
                    analysis=VulnerabilityAnalysis(state=state, detail=detail),
                    affects=[BomTarget(ref=ref)],
                )
            )
    return bom


def write(report: Report, stream: TextIO) -> None:
    """Writes one report."""
    write_many((report,), (), stream)


def write_many(reports: Sequence[Report], failures: Sequence[Failure], stream: TextIO) -> None:
    """Writes several into one document."""
    from cyclonedx.output.json import JsonV1Dot6

    stream.write(JsonV1Dot6(to_bom(reports)).output_as_string(indent=1) + "\n")
