"""The behaviour of a thread during a slow wait, set by the process that runs the verb.

A one-shot plugin simply waits, until a signal ends it. The agent lets other verbs run meanwhile, and gives up
a verb whose caller is gone. Both give up only at chosen points, never by an exception anywhere: a change is
never separated from its undo, and an undo is never cut short.
"""

import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple

from cni_core.errors import TryAgainLater

_A_MOMENT_S = 0.1
_UNDO_S = 30.0  # for the locks of an undo, however little time the call has left


class CallerGone(TryAgainLater):
    """Nobody waits for the answer any more."""


def _nobody_has_gone() -> str:
    return ""


class Waits(NamedTuple):
    """The way in which a verb waits.

    `aside` is entered for the length of a wait. `gone` returns the reason why nobody wants the answer any
    more, "" while somebody does. After `until`, in seconds of time.monotonic, no lock is waited for: the
    deadlines of several locks add up, and no runtime waits for their sum.
    """

    aside: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext
    gone: Callable[[], str] = _nobody_has_gone
    until: float = math.inf


_PATIENT = Waits()
_mine = threading.local()


def _current() -> Waits:
    waits: Waits = getattr(_mine, "waits", _PATIENT)
    return waits


@contextlib.contextmanager
def by(waits: Waits) -> Iterator[None]:
    """Set the way in which this thread waits during the block."""
    before = _current()
    _mine.waits = waits
    try:
        yield
    finally:
        _mine.waits = before


def aside() -> AbstractContextManager[None]:
    """Return a context for a slow wait, such as for a lock of another process or a deleted link."""
    return _current().aside()


def check() -> None:
    """Raise CallerGone if nobody waits for the answer of this thread."""
    waits = _current()
    reason = waits.gone()
    if reason:
        _mine.waits = waits._replace(gone=_nobody_has_gone)  # only once: the undo that follows waits too
        raise CallerGone(reason)


def at_most(seconds: float) -> float:
    """Return the longest wait for a lock: the given seconds, or the rest of the call's; at least a moment."""
    return max(min(seconds, _current().until - time.monotonic()), _A_MOMENT_S)


def briefly(seconds: float) -> AbstractContextManager[None]:
    """Wait for locks no longer than some seconds in the block, which only observes."""
    waits = _current()
    return by(waits._replace(until=min(waits.until, time.monotonic() + seconds)))


def unwatched() -> AbstractContextManager[None]:
    """Finish the block even if nobody waits for the answer: it is an undo, or must not stop half-way."""
    until = time.monotonic() + _UNDO_S
    return by(_current()._replace(gone=_nobody_has_gone, until=until))
