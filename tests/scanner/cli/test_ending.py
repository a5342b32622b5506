"""What leaves the process: an exit code of 1 for a verdict only, one harmless sentence on stderr, nothing of its own behind it.

Faults are put into the real entry point of a process of its own.
"""

import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
# what a command does, before the entry point runs it
COMMAND = "import banscan.scanner.cli.commands as m\ndef run(arguments):\n    {}\nm.run = run\n"
MAIN = "from banscan.scanner.cli.main import main\nmain()\n"
FULL = Path("/dev/full")


def ended(body: str, *arguments: str, code: str = "", limits: Callable[[], None] | None = None, **environment: str) -> Any:
    """A process in which a command is this body."""
    command = [sys.executable, "-c", f"{code}{COMMAND.format(body) if body else ''}{MAIN}", *arguments]
    known = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(command, capture_output=True, encoding="latin-1", env=known, check=False, preexec_fn=limits)


def told(result: Any, code: int, match: str) -> None:
    """One harmless line and this exit code."""
    assert result.returncode == code, result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stderr.strip().encode("latin-1").decode(errors="ignore").isprintable()
    assert re.search(match, result.stderr), result.stderr


@pytest.mark.parametrize(
    ("error", "match"),
    [
        ("KeyError('x')", r"banscan failed \(KeyError: 'x'\), by a fault of its own; run it again with --debug and report"),
        ("AssertionError()", r"banscan failed \(AssertionError\), by a fault"),
        ("RuntimeError('\\x1b[2J\\u202e\\nsecond line')", r"RuntimeError: \\x1b\[2J\\u202e\)"),
        ("ValueError('\\ud800')", r"ValueError: \\ud800"),
        ("UnicodeDecodeError('utf-8', b'\\xff', 0, 1, 'bad')", "UnicodeDecodeError"),
        ("GeneratorExit()", "GeneratorExit"),
        ("EOFError()", "EOFError"),
        ("StopIteration()", "StopIteration"),
        ("BrokenPipeError(32, 'Broken pipe')", "the system: Broken pipe; run it again with --debug"),
        ("MemoryError()", "out of memory; give less with --memory, or fewer images with --max-images"),
        ("RuntimeError('CUDA out of memory. Tried')", "out of memory; give less"),
        ('RuntimeError("can\'t start new thread")', r"no further thread .*--threads"),
        ("OSError(28, 'No space left on device', 'a\\x1bb')", r"a\\x1bb: No space left on device; make room there"),
        ("OSError(30, 'Read-only file system', b'x')", "x: Read-only file system; give a place that can be written to"),
        ("PermissionError(13, 'Permission denied', 'x')", "x: Permission denied; give banscan the right to it"),
        ("OSError(24, 'Too many open files')", r"Too many open files; allow more open files \(ulimit -n\)"),
        ("ImportError('no module\\nmore')", r"cannot be loaded \(no module\); install banscan again"),
        ("SystemExit('words')", ""),
    ],
)
def test_any_error_is_a_sentence_and_no_verdict(error: str, match: str) -> None:
    result = ended(f"raise {error}")
    if "SystemExit" in error:
        assert (result.returncode, result.stderr) == (2, "")
    else:
        told(result, 2, f"^Error: .*{match}")


def test_recursion() -> None:
    told(ended("run(arguments)"), 2, "nested too deep")


@pytest.mark.parametrize(("given", "code"), [("SystemExit(3)", 3), ("SystemExit()", 0), ("SystemExit(1)", 1)])
def test_codes_that_a_command_chose_stay(given: str, code: int) -> None:
    assert ended(f"raise {given}").returncode == code


@pytest.mark.parametrize("how", ["--debug", "BANSCAN_DEBUG"])
def test_debug_shows_where_an_error_comes_from(how: str) -> None:
    arguments, environment = (("--debug",), {}) if how == "--debug" else ((), {"BANSCAN_DEBUG": "1"})
    result = ended("raise KeyError('\\x1b[2J')", *arguments, **environment)
    assert result.returncode == 2
    assert "Traceback" in result.stderr
    assert "in run" in result.stderr
    assert all(line.isprintable() for line in result.stderr.splitlines())
    assert result.stderr.splitlines()[-1].startswith("Error: banscan failed")
    assert "Traceback" not in ended("raise KeyError", BANSCAN_DEBUG="0").stderr


@pytest.mark.parametrize("package", ["click", "torch"])
def test_packages_that_are_missing(package: str, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").touch()
    result = ended("", "inspect", str(tmp_path / "x.onnx"), code=f"import sys\nsys.modules['{package}'] = None\n")
    told(result, 2, "a package that banscan needs cannot be loaded")


def test_an_error_in_a_thread() -> None:
    body = "import threading; t = threading.Thread(target=lambda: {}['\\x9bx']); t.start(); t.join(); return 0"
    told(ended(body), 2, r"KeyError: '\\x9bx'")


def test_a_library_that_ends_the_process() -> None:
    """libgomp calls `exit(1)` where it can start no thread."""
    told(ended("import ctypes; ctypes.CDLL(None).exit(1)"), 2, "a library ended banscan")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="needs another user")
def test_too_few_threads() -> None:
    """As in a container that allows few processes."""

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NPROC, (3, 3))

    body = (
        "import torch, ctypes; torch.set_num_threads(16)\n    ctypes.CDLL(None).setresuid(*[12345] * 3); torch.rand(10**7).exp(); return 0"
    )
    told(ended(body, limits=few), 2, "a library ended banscan")


NOISE = (
    "import os, warnings, logging, sys; warnings.warn('raw \\x1b[2J'); logging.getLogger('a').error('raw \\x1b[2J'); "
    "os.write(2, b'libgomp: raw \\x1b[2J'); print('raw', file=open(2, 'w', closefd=False)); "
    "class_ = type('D', (), {'__del__': lambda s: 1 / 0}); class_(); return 0"
)


def test_what_libraries_say_stays_off_the_terminal() -> None:
    quiet = ended(NOISE)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    loud = ended(NOISE, "--debug")
    assert loud.returncode == 0
    assert all(word in loud.stderr for word in ("UserWarning", "libgomp", "ZeroDivisionError"))
    strict = ended("import warnings; warnings.warn('x', DeprecationWarning); return 0", PYTHONWARNINGS="error")
    assert (strict.returncode, strict.stderr) == (0, "")


REDIRECTED = [
    ("--help", "> /dev/full", 2, "stdout: cannot be written"),
    ("--version", "> /dev/full", 2, "stdout: cannot be written"),
    ("inspect", "> /dev/full", 4, "Missing argument"),
    ("--help", ">&-", 0, ""),
    ("--help", "<&- >&- 2>&-", 0, ""),
    ("inspect", "<&-", 4, "Missing argument"),
    ("inspect", "<&- >&- 2>&-", 4, ""),
    ("inspect", "2>&-", 4, ""),
    ("inspect", "2> /dev/full", 4, ""),
    ("--help", "| true; exit ${PIPESTATUS[0]}", 0, ""),
    ("inspect", "2>&1 | true; exit ${PIPESTATUS[0]}", 4, ""),
    ("--help", "1< /dev/null", 2, "stdout: cannot be written"),
]


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize(("arguments", "where", "code", "match"), REDIRECTED)
def test_streams_that_are_closed_or_full(arguments: str, where: str, code: int, match: str) -> None:
    command = ["bash", "-c", f"{sys.executable} -m banscan {arguments} {where}"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == code, result.stderr
    assert re.search(match, result.stderr)
    assert len(result.stderr.splitlines()) == bool(match)


@pytest.mark.parametrize("body", ["print('x' * 10**6); return 1", "print('x'); return 1", "import sys; sys.stdout.write('x'); return 0"])
def test_a_reader_who_leaves_changes_no_code(body: str) -> None:
    code = int(body[-1])
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND.format(body) + MAIN], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == code
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", COMMAND.format(body) + MAIN], stdout=full, stderr=subprocess.PIPE, check=False, cwd=ROOT
        )
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "utf-8:strict"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=str,
)
def test_any_encoding(environment: dict[str, str]) -> None:
    name = os.fsdecode(b"caf\xc3\xa9 \xe6\xad\xa2 \xff\x1b.onnx")
    told(ended("", "inspect", name, "more", **environment), 4, r"unexpected extra argument")
    told(ended("", "repair", "m", "--clean-dir", "x", "-o", f"none/{name}", **environment), 4, r"caf.*\\x1b\.onnx: cannot be written")
    done = ended("", "scan", "--help", **environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "--preprocess" in done.stdout
    written = ended(r"print('\u2588 \xd7 \u2026 \u2192 \ud800'); return 0", **environment)
    assert (written.returncode, written.stderr) == (0, "")
    assert written.stdout.endswith("\\ud800\n")


@pytest.mark.parametrize(
    "environment", [{"TERM": ""}, {"TERM": "dumb"}, {"COLUMNS": "1"}, {"COLUMNS": "0"}, {"COLUMNS": "x"}, {"HOME": ""}], ids=str
)
def test_any_terminal(environment: dict[str, str]) -> None:
    for arguments, code in ((("repair", "--help"), 0), (("inspect",), 4)):
        assert ended("", *arguments, **environment).returncode == code


SLEEP = (
    "import tempfile, time, pathlib; from banscan.scanner.cli.console import work\n"
    "    with work():\n"
    "        pathlib.Path(tempfile.mkdtemp(), 'data').write_text('x'); {}\n"
    "    return 0"
)
WAIT = "print('ready', flush=True); time.sleep(30)"


def stopped(body: str, place: Path, *signals: int, ignored: int | None = None) -> tuple[int, str]:
    """A command that sleeps, sent these signals."""

    def before() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN if number == ignored else signal.SIG_DFL)

    command = [sys.executable, "-c", COMMAND.format(SLEEP.format(body)) + MAIN]
    environment = {**os.environ, "TMPDIR": str(place)}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=environment, preexec_fn=before, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for number in signals:
            process.send_signal(number)
        _, error = process.communicate(timeout=30)
    return process.returncode, error


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_alike(number: int, tmp_path: Path) -> None:
    assert stopped(WAIT, tmp_path, number) == (128 + number, "stopped\n")
    assert stopped(WAIT, tmp_path, number, signal.SIGHUP, number)[1] == "stopped\n"
    # what is raised may be lost in a library
    assert stopped(f"\n        try: {WAIT}\n        except BaseException: raise ValueError", tmp_path, number) == (
        128 + number,
        "stopped\n",
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kept", [True, False])
def test_what_is_kept_of_a_stopped_run_is_told(kept: bool, tmp_path: Path) -> None:
    output = tmp_path / "fixed.onnx"
    if kept:
        output.with_name("fixed.onnx.partial").touch()
    result = ended(f"from pathlib import Path\n    with m._going_on(Path({str(output)!r})): raise KeyboardInterrupt")
    assert result.returncode == 130
    *first, last = result.stderr.splitlines()
    assert last == "stopped"
    assert [line.endswith("fixed.onnx.partial keeps what is done; the same command goes on from there") for line in first] == [True] * kept


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    """As under nohup."""
    assert stopped(WAIT.replace("30", "0.5"), tmp_path, signal.SIGHUP, ignored=signal.SIGHUP) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_children_end_with_it(number: int, tmp_path: Path) -> None:
    """stderr is at its end only when nobody has it any more."""
    child = "import os, time; os.write(1, b'ready\\n'); time.sleep(30)"
    body = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    assert stopped(body, tmp_path, number) == (128 + number, "stopped\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [("inspect", "x.onnx"), ("x.onnx", "--clean-dir", "y")])
def test_no_place_for_temporary_files(arguments: tuple[str, ...]) -> None:
    code = "import tempfile\ntempfile._candidate_tempdir_list = lambda: ['/nowhere']\n"
    told(ended("", *arguments, code=code), 2, "no folder for temporary files can be made .*; let TMPDIR name one")


def test_too_little_room_for_a_report(tmp_path: Path) -> None:
    def small() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    write = "with console.destination(Path(arguments[0])) as stream: stream.write('x' * 10**6)"
    body = f"from pathlib import Path; from banscan.scanner.cli import console\n    {write}"
    out = tmp_path / "report.json"
    told(ended(body, str(out), limits=small), 2, r"report\.json: cannot be written \(File too large\); nothing was changed")
    assert list(tmp_path.iterdir()) == []


def test_progress_in_a_log_is_a_line_a_minute() -> None:
    """No control characters, whatever a CI system says of colours, and nothing before a minute has passed."""
    faster = "console.Lines.__init__.__defaults__ = ({},)"
    steps = "with console.bars() as p: [p('noise', done, 4) for done in range(5)]"
    body = f"from banscan.scanner.cli import console\n    {faster}\n    {steps}\n    return 0"
    quiet, told_ = (ended(body.format(seconds), FORCE_COLOR="1", CI="true") for seconds in (60, 0))
    assert (quiet.returncode, quiet.stderr) == (0, "")
    assert told_.stderr.splitlines() == [f"0 min: noise, {done}%" for done in (0, 25, 50, 75, 100)]


def test_too_few_open_files() -> None:
    body = "files = [open('/dev/null') for _ in range(10**4)]"
    told(ended(body, limits=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))), 2, "/dev/null: Too many open files; allow more")


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("repiar", "m.onnx"), r"repiar: no such command or file; did you mean banscan repair\?"),
        (("--debug", "inspct", "m.onnx"), "did you mean banscan inspect"),
        (("frobnicate",), "frobnicate: no such command or file; expected a model, or one of scan, .*, config, docs, completion$"),
        (("in-spect",), r"in-spect: no such command or file; did you mean banscan inspect\?$"),
        (("frobnicate.onnx",), "Missing option '--clean-dir'; for example: banscan frobnicate.onnx --clean-dir imgs/"),
        (
            ("m", "--clean-dir", "c", "--dry-run", "-o", "x.baseline.json"),
            r"^Error: x\.baseline\.json: a dry run finds nothing that a base",
        ),
        (("m", "--clean-dir", "c", "--dry-run", "--format", "baseline"), "^Error: --format baseline: a dry run finds nothing that a base"),
        (("my scan.onnx",), "Missing option '--clean-dir'; for example: banscan 'my scan.onnx' --clean-dir imgs/; see banscan scan --help"),
        (("repair", "m.pt", "--clean-dir", "c"), "for example: banscan repair m.pt --clean-dir c -o fixed.pt; see"),
        (("calibrate", "-o", "a.json"), "banscan calibrate --clean-models models/ --clean-dir imgs/ -o a.json; see"),
        ((), "expected a model: banscan MODEL --clean-dir DIR; see banscan --help"),
        (("--debug",), "expected a model"),
        (("inspect",), "Missing argument 'MODEL'; for example: banscan inspect model.onnx; see banscan inspect --help"),
        (("merge",), "Missing argument 'DIR'; for example: banscan merge results/ -o findings.sarif; see banscan merge --help"),
        (("render",), "Missing argument 'REPORT'; for example: banscan render report.json -o findings.sarif; see"),
        (("completion",), "Missing argument .*; for example: eval .*banscan completion bash.*; see banscan completion --help"),
        (("inspect", "a", "b\x1b"), r"unexpected extra argument \(b\\x1b\)"),
        (("scan", "m", "--clean-dir", "c", "--format", "odd"), "'odd' is not one of"),
        (("m", "--clean-dir", "c", "--threads", "100000"), "--threads 100000: expected at least 1, at most 1024"),
        (("m", "--clean-dir", "c", "--memory", "3"), "--memory 3: expected a size of at least 1GB with its unit, as 3GB or 4GiB"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], match: str) -> None:
    result = ended("", *arguments)
    assert result.returncode == 4
    assert re.search(match, result.stderr.splitlines()[-1])


MISSING = [
    (("MODEL", "none", "--clean-dir", "IMAGES"), "none: no such file; expected the path of a model"),
    (("MODEL", "MODEL", "--clean-dir", "none"), "none: no such folder; expected a folder of clean images"),
    (("MODEL", "MODEL", "--clean-dir", "MODEL"), "m.onnx: is a file; expected a folder of clean images"),
    (("MODEL", "MODEL", "--clean-dir", "IMAGES", "--labels", "none"), "none: no such file; expected a text file"),
    (("MODEL", "MODEL", "--clean-dir", "IMAGES", "--classes", "IMAGES"), "imgs: is a folder; expected a text file"),
    (("MODEL", "MODEL", "--clean-dir", "IMAGES", "--calibration", "none"), "none: no such file; expected a file that"),
    (("MODEL", "MODEL", "--clean-dir", "IMAGES", "--calibration", "IMAGES"), "imgs: is a folder; expected a file that"),
    (("MODEL", "MODEL", "--clean-dir", "IMAGES", "-o", "none/r.json"), r"none/r\.json: cannot be written .*; expected a file in a folder"),
    (("inspect", "none"), "none: no such file; expected the path of a model"),
    (("repair", "none", "--clean-dir", "IMAGES", "-o", "f.onnx"), "none: no such file; expected the path of a model"),
    (("repair", "MODEL", "--clean-dir", "none", "-o", "f.onnx"), "none: no such folder; expected a folder of clean images"),
    (("repair", "MODEL", "--clean-dir", "IMAGES", "-o", "none/f.onnx"), r"none/f\.onnx: cannot be written"),
    (
        ("calibrate", "--clean-models", "none", "--clean-dir", "IMAGES", "-o", "c"),
        "none: no such folder; expected a folder of clean models",
    ),
    (("calibrate", "--clean-models", "MODEL", "--clean-dir", "IMAGES", "-o", "c"), "is a file; expected a folder of clean models"),
    (
        ("calibrate", "--clean-models", "IMAGES", "--clean-dir", "none", "-o", "c"),
        "none: no such folder; expected a folder of clean images",
    ),
    (("calibrate", "--clean-models", "IMAGES", "--clean-dir", "IMAGES", "-o", "none/c"), "none/c: cannot be written"),
]


@pytest.mark.parametrize(("arguments", "match"), MISSING)
def test_paths_that_are_not_there(arguments: tuple[str, ...], match: str, tmp_path: Path) -> None:
    """Told before anything is loaded: without torch there is no other error."""
    (tmp_path / "imgs").mkdir()
    (tmp_path / "m.onnx").write_text("no model")
    places = {"MODEL": str(tmp_path / "m.onnx"), "IMAGES": str(tmp_path / "imgs")}
    given = [places.get(word, word) for word in (arguments[1:] if arguments[0] == "MODEL" else arguments)]
    told(ended("", *given, code="import sys\nsys.modules['torch'] = None\n"), 4, match)


@pytest.mark.slow
def test_outputs_that_are_inputs(tmp_path: Path) -> None:
    """Before any work: nothing of this is a model or an image."""
    (tmp_path / "imgs" / "0").mkdir(parents=True)
    for name in ("m.onnx", "l.csv", "c.txt", "cal.json", "imgs/0/a.png"):
        (tmp_path / name).write_text("kept")
    common = ("--clean-dir", str(tmp_path / "imgs"), "--labels", str(tmp_path / "l.csv"), "--classes", str(tmp_path / "c.txt"))
    commands = {
        "scan": ("scan", str(tmp_path / "m.onnx"), *common, "--calibration", str(tmp_path / "cal.json")),
        "repair": ("repair", str(tmp_path / "m.onnx"), *common),
        "calibrate": ("calibrate", "--clean-models", str(tmp_path), *common),
    }
    for command, arguments in commands.items():
        for name in ("imgs/0/a.png", "cal.json" if command == "scan" else "m.onnx"):
            told(ended("", *arguments, "-o", str(tmp_path / name)), 4, "would be overwritten, but .*; give the output another name")
            assert (tmp_path / name).read_text() == "kept"
    for place in (tmp_path / "m.onnx" / "x.json", tmp_path):
        told(ended("", *commands["scan"], "-o", str(place)), 4, "cannot be written .*; expected a file in a folder")
    told(ended("", *commands["repair"], "-o", "/dev/null"), 4, "/dev/null: is no file; give the output a name of its own")
