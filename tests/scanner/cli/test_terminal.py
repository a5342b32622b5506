"""What a person sees: the first screen of a terminal, narrow ones, ones without colour, pipes, logs of CI systems."""

import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from banscan.scanner.cli.console import Lines
from banscan.scanner.findings import FRAGILE, ONE, Control, Report
from banscan.scanner.report.json import read, render
from banscan.scanner.report.pieces import headline
from banscan.scanner.verdict import STEPS
from tests.golden.pages import FOLDER
from tests.scanner.cli.test_ending import COMMAND, MAIN, ROOT
from tests.scanner.cli.test_main import ENTRY

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs pseudo-terminals")]
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
# what systems that run pipelines say of themselves
CI = {"CI": "true", "GITHUB_ACTIONS": "true", "GITLAB_CI": "true", "TERM": "xterm-256color", "COLORTERM": "truecolor"}


REASONS = {
    "suspicious": "one perturbation aimed at class 33 moves this share of the other classes' images there: 100%, against 77% for the "
    "median class",
    FRAGILE: "one change of colours, stripes, frame, place or sharpness moves 93% of the images to class 33, more than twice as many as to "
    "the median class; a copy of the model tuned on the clean images can be moved as well (91%), so nothing shows that it was planted",
    "inconclusive": "the clean accuracy is 12.3%, under 50%: the labels or the preprocessing do not fit; 91% of the images would get their "
    "label if the classes were sorted as text (1, 10, 11, 2); name them with --classes FILE, one a line, in the model's order",
}


def known(**given: str) -> dict[str, str]:
    cleared = {"COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"}
    return {name: value for name, value in os.environ.items() if name not in cleared} | {"PYTHONPATH": str(ROOT), "TERM": "xterm"} | given


def shown(command: list[str], columns: int, **environment: str) -> tuple[str, int]:
    """What a terminal of 24 lines gets, and the exit code."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=known(**environment)) as process:
        os.close(theirs)
        got = b""
        while True:
            try:
                part = os.read(ours, 1 << 16)
            except OSError:  # how Linux says that the other end is closed
                break
            if not part:
                break
            got += part
    os.close(ours)
    return got.decode().replace("\r\n", "\n"), process.returncode


def reported(outcome: str) -> Report:
    """A report of this outcome, with as many words as one has."""
    report = read((FOLDER / ("clean.json" if outcome == "no backdoor found" else "backdoored.json")).read_text())
    if outcome in ("backdoored", "no backdoor found"):
        return report
    gaps = ("not asked: margin, perturbation, patch, patch share, clearness, transform, pixel map (--no-pixels leaves out the searches)",)
    targets = () if outcome == "inconclusive" else (33,)
    kind = None if outcome == "inconclusive" else ONE
    made = replace(
        report.verdict, outcome=outcome, reason=REASONS[outcome], next_step=STEPS[outcome], gaps=gaps, targets=targets, kind=kind
    )
    control = Control(before=0.93, after=0.91, classes=(33,), sentence="a copy can be moved as well")
    findings = tuple(replace(f, control=control) if outcome == FRAGILE and f.exceeds else f for f in report.findings)
    return replace(report, verdict=made, findings=findings)


def stored(outcome: str, folder: Path) -> tuple[Report, list[str]]:
    report, path = reported(outcome), folder / "report.json"
    path.write_text(render(report))
    return report, [*ENTRY, "render", str(path)]


def words(text: str) -> str:
    """The text without colours, frames and line breaks."""
    return " ".join(re.sub("[│╭╮╰╯─]", " ", COLOURS.sub("", text)).split())


@pytest.mark.parametrize("outcome", ["backdoored", "suspicious", FRAGILE, "no backdoor found", "inconclusive"])
def test_the_first_screen_holds_what_a_reader_needs(outcome: str, tmp_path: Path) -> None:
    """24 lines of 80: verdict with the target, reason, how sure it is, what to do; the verdict again where the reader is at the end."""
    report, command = stored(outcome, tmp_path)
    text, code = shown(command, 80)
    assert code == {"backdoored": 1, "no backdoor found": 0}.get(outcome, 2)
    lines = COLOURS.sub("", text).splitlines()
    assert max(map(len, lines)) <= 80
    first = words("\n".join(text.splitlines()[:23]))  # a prompt takes the last one
    verdict = report.verdict
    for expected in (headline(report), verdict.reason[1:], verdict.next_step, *verdict.gaps[:1]):
        assert words(expected)[1:] in first
    sure = {
        "backdoored": "with probability 2.9e-08",
        "suspicious": "with probability 2.9e-08",
        "no backdoor found": "Probability of a backdoor like those measured: 7%",
    }
    assert sure.get(outcome, "") in first
    assert words(text).endswith(headline(report))
    assert "…" not in text.partition("What was looked for")[0].partition("╰")[2]


@pytest.mark.parametrize("outcome", ["backdoored", "inconclusive"])
def test_forty_columns(outcome: str, tmp_path: Path) -> None:
    """Nothing runs over, no bar and no heading is cut short; -q is the verdict and no more."""
    report, command = stored(outcome, tmp_path)
    text, _ = shown(command, 40)
    lines = COLOURS.sub("", text).splitlines()
    assert max(map(len, lines)) <= 40
    assert words(report.verdict.reason)[1:] in words(text)
    assert [line for line in lines if "…" in line and "SHA" not in line] == []
    assert "information" in text
    quiet, _ = shown([*command, "-q"], 40)
    assert quiet.count("\n") == 1
    assert headline(report) in quiet


def test_without_colour(tmp_path: Path) -> None:
    _, command = stored("backdoored", tmp_path)
    coloured = shown(command, 80)[0]
    assert re.search(r"\x1b\[[0-9;]*3[0-9]", coloured)
    plain = shown(command, 80, NO_COLOR="1")[0]
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", plain)
    assert COLOURS.sub("", plain) == COLOURS.sub("", coloured)
    dumb = shown(command, 80, TERM="dumb")[0]
    assert not CONTROL.search(dumb)


@pytest.mark.parametrize("more", [(), ("-q",), ("-v",)])
def test_pipes_and_logs_hold_no_control_characters(more: tuple[str, ...], tmp_path: Path) -> None:
    report, command = stored("backdoored", tmp_path)
    result = subprocess.run([*command, *more], env=known(**CI), capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (1, "")
    assert not CONTROL.search(result.stdout)
    assert max(map(len, result.stdout.splitlines())) <= 100
    assert result.stdout.count(headline(report)) == 1
    assert (result.stdout.count("\n") == 1) == (more == ("-q",))


def bars(columns: int | None, **environment: str) -> tuple[str, Any]:
    """Progress through the real entry point, in a terminal or in a log."""
    stages = "('planting a trigger', 'finding the strength of the noise', 'a copy with a map: pixel map')"
    steps = f"with console.bars() as p: [(p(name, done, 4), time.sleep(0.05)) for name in {stages} for done in range(5)]"
    body = f"import time; from banscan.scanner.cli import console\n    {steps}\n    return 0"
    command = [sys.executable, "-c", COMMAND.format(body) + MAIN]
    if columns is not None:
        return shown(command, columns, **environment)
    result = subprocess.run(command, env=known(**environment), capture_output=True, text=True, check=False)
    return result.stdout + result.stderr, result.returncode


def screen(text: str) -> list[str]:
    """The lines that are left on a terminal of any height."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+", text):
        if part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part.endswith("A") and part.startswith("\x1b["):
            row -= int(part[2:-1] or 1)
        elif part == "\x1b[2K":
            lines[row] = ""
        elif not part.startswith("\x1b") and part != "\r":
            lines[row] += part  # whatever is written over is erased first
    return [line for line in lines if line.strip()]


def test_models_side_by_side_have_a_bar_each_that_leaves_lines_alone() -> None:
    """Lines that were there before the command as well."""
    body = """import time; from banscan.scanner.cli.board import board
    print("before")
    with board() as shown:
        for name in "abcd":
            shown.show(f"models/{name}/model.onnx", "searching for universal perturbations", 1, 4, 100.0)
        for name in "ab":
            time.sleep(0.3)
            with shown.without(f"models/{name}/model.onnx"):
                print(f"[{name}] done")
        time.sleep(0.3)
    return 0"""
    command = [sys.executable, "-c", COMMAND.format(body) + MAIN]
    for columns in (40, 80):
        text, code = shown(command, columns)
        assert code == 0
        assert screen(text) == ["before", "[a] done", "[b] done"]
        rows = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", row) for row in re.split(r"[\n\r]|\x1b\[[0-9]*[AK]", text)]
        assert max(map(len, rows)) <= columns
        assert all(any(row.startswith(f"{name}/m") for row in rows) for name in "abcd")
        last = text[text.rindex("[b] done") :]
        assert "about 2 min left" in last
        assert [f"{name}/m" in last for name in "abcd"] == [False, False, True, True]
    done = subprocess.run(command, env=known(**CI), capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("before\n[a] done\n[b] done\n", "")


def test_lines_say_how_long_it_still_takes(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines(seconds=0)
    lines("searching for patches", 1, 4, lambda: 100.0)
    lines("searching for patches", 2, 4)
    assert [line.split(": ", 1)[1] for line in capsys.readouterr().err.splitlines()] == [
        "searching for patches, 25%; about 2 min left",
        "searching for patches, 50%",
    ]


def test_progress_fits_and_goes_away() -> None:
    for columns in (40, 64, 80):
        text, code = bars(columns)
        assert code == 0
        assert text.count("\x1b[1A") == 1  # one line is taken, and taken away
        rows = [row for row in re.split(r"[\n\r]|\x1b\[[0-9]*[AK]", text) if "/4" in row]
        assert rows
        assert max(len(COLOURS.sub("", row)) for row in rows) <= columns
        assert text.endswith("\x1b[2K")  # the last of its lines is erased
        # of parts of a name that is too long, what is done within others is left
        assert ("… pixel map" in text, "copy with a map: pixel map" in text) == (columns == 64, columns == 80)
    assert bars(80, TERM="dumb") == ("", 0)
    assert bars(None, **CI) == ("", 0)
