"""How a command that stays is asked to end: SIGINT, SIGTERM and SIGHUP become an exception, once."""

from __future__ import annotations

import signal
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop(BaseException):
    """Somebody asked us to end. Not an Exception: nothing on the way may take it for a failure of its own."""


def heed_signals() -> None:
    """From now on each of the signals raises Stop in the main thread."""
    for number in _SIGNALS:
        signal.signal(number, _stop)


def ignore_signals() -> None:
    """From now on none of them does anything: nothing breaks off the tidying up."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _stop(number: int, _frame: FrameType | None) -> None:
    # Once is enough: a second one would break off the tidying up.
    signal.signal(number, signal.SIG_IGN)
    raise Stop
