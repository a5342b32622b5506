"""What is needed to repeat a scan: a command, and what has to be the same."""

import shlex
from collections.abc import Iterator

from banscan.scanner.findings import Report
from banscan.scanner.inputs.preprocess import NAMES, Preprocess
from banscan.scanner.settings import declared


def command_of(report: Report) -> str:
    """A command line that scans the same model in the same way; the folder of images is not known."""
    words = ["banscan", report.model.name, "--clean-dir", "IMAGES"]
    for field, declaration in declared(report.settings):
        value = getattr(report.settings, field.name)
        if value == field.default:
            continue
        on, _, off = declaration.flag.partition("/")
        words += [f"--{on if value else off}"] if isinstance(value, bool) else [f"--{on}", _text(value)]
    if report.preprocess is not None and report.preprocess.preprocess is not None:
        words += _preprocessing(report.preprocess.preprocess)
    if report.deployed is not None:
        words += ["--as", report.deployed.kind]
    words += ["--device", str(report.environment["device"]), "--precision", str(report.environment["search precision"])]
    words += ["--threads", str(report.environment["threads"])]
    return shlex.join(words)


def again(report: Report, command: str) -> list[tuple[str, str]]:
    """The command, seeds, hashes and versions, by name."""
    return [("command", command), *_same(report)]


def _same(report: Report) -> Iterator[tuple[str, str]]:
    yield "seed", str(report.settings.seed)
    yield "model file", report.model.origin or report.model.path.name
    yield "SHA-256 of the model", report.model.sha256
    if report.evidence is not None:
        yield "SHA-256 of the decoded images", report.evidence.images
    yield (
        "settings",
        ", ".join(f"{d.flag.partition('/')[0]} {_text(getattr(report.settings, f.name))}" for f, d in declared(report.settings)),
    )
    for name, value in report.environment.items():
        yield name, str(value)


def _preprocessing(chosen: Preprocess) -> list[str]:
    if chosen.name in NAMES:
        return ["--preprocess", chosen.name]
    values = {"--mean": chosen.mean, "--std": chosen.std, "--scale": (chosen.scale,)}
    own = [part for name, numbers in values.items() for part in (name, ",".join(map(_text, numbers)))]
    return own + (["--bgr"] if chosen.bgr else [])


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "auto" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
