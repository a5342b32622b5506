"""Ctrl-C, SIGTERM and SIGHUP end a command alike: what it began is taken back, and the exit code is 128 and the signal."""

import signal
import time
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
# seconds for taking back what was begun; who sends one of them often sends it twice
GRACE = 3
# those that came, and when
_received: list[tuple[int, float]] = []


class Stopped(KeyboardInterrupt):
    """One of them; whatever cleans up after Ctrl-C does so after the others."""


def listen() -> None:
    """From now on each of them raises Stopped, except those that whoever started banscan had it ignore, as nohup does."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def code() -> int | None:
    """The exit code where one of them came, even if what it raised was lost on the way; None where none did."""
    return 128 + _received[0][0] if _received else None


def _stop(number: int, frame: FrameType | None) -> None:
    now = time.monotonic()
    if not _received or now - _received[-1][1] > GRACE:
        _received.append((number, now))
        raise Stopped


def release() -> None:
    """From now on each of them ends the process at once."""
    for number in SIGNALS:
        if signal.getsignal(number) is _stop:
            signal.signal(number, signal.SIG_DFL)
