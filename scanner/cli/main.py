"""The entry point: nothing leaves a command but a report, one sentence, and an exit code that says 1 for a verdict only.

Python itself ends with 1 after an error, and so do libraries in C that call `exit`; both would say *backdoored*. Only Python's own modules
are imported before errors are caught.
"""

import atexit
import contextlib
import ctypes
import os
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from banscan.errors import BanscanError
from banscan.scanner.cli import failure, stop, streams
from banscan.scanner.machine import threads
from banscan.text import plain

FAILED = BanscanError.exit_code
# kept from the garbage collector for as long as the process runs
_guards: list[Callable[..., Any]] = []


def main(run: Callable[[], int] | None = None) -> NoReturn:
    """Runs the command line's command, or what else is given, and ends the process; Ctrl-C ends with 130 and leaves nothing behind."""
    debug = asked_for_debug()
    streams.prepare(debug=debug)
    threads.tidy(os.environ)
    threads.yielding(os.environ)
    _guard_exit()
    in_threads = list[int]()
    threading.excepthook = lambda hook: in_threads.append(_tell(hook.exc_value or RuntimeError("a thread failed"), debug))
    ended: BaseException | None = None
    code = FAILED
    try:
        stop.listen()
        code = (run or _run)()
    except BaseException as error:
        ended = error
    stop.release()
    if isinstance(ended, SystemExit):
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else FAILED
    elif ended is not None:
        code = _tell(ended, debug)
    code = _flushed(code, debug)
    code = stop.code() or (max([code, *in_threads]) if code in (0, 1) else code)
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
    # what is left are destructors, and `exit`, which is guarded
    os._exit(code)


def asked_for_debug() -> bool:
    """Whether --debug is among the arguments, or BANSCAN_DEBUG is set; errors in reading the arguments are shown by it, too."""
    return "--debug" in sys.argv[1:] or os.environ.get("BANSCAN_DEBUG", "0") not in ("", "0")


def _run() -> int:
    from banscan.scanner.cli.commands import run

    return run(sys.argv[1:])


def _tell(error: BaseException, debug: bool) -> int:
    """Says what became of an error, and returns its exit code."""
    stopped = stop.code()
    if stopped is not None or isinstance(error, KeyboardInterrupt):
        streams.say("stopped")
        return stopped or 130
    if debug:
        for line in "".join(traceback.format_exception(error)).splitlines():
            print(plain(line), file=sys.stderr)
    sentence, code = failure.told(error)
    streams.say(f"Error: {sentence}")
    return code


def _flushed(code: int, debug: bool) -> int:
    """The exit code after what is left of stdout was written."""
    try:
        sys.stdout.flush()
    except BanscanError as error:
        return _tell(error, debug) if code in (0, 1) else code
    return code


def _guard_exit() -> None:
    """Has `exit` of the C library, which libgomp calls where it can start no thread, end with a sentence and a code that is no verdict."""

    def ended() -> None:
        streams.say("Error: a library ended banscan, perhaps for want of threads or memory; give fewer threads with --threads")
        os._exit(FAILED)

    try:
        register = ctypes.CDLL(None).__cxa_atexit
    except (AttributeError, OSError, TypeError):  # another C library
        return
    _guards.append(ctypes.CFUNCTYPE(None)(ended))
    register(_guards[-1], None, None)
