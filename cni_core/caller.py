"""Whether anybody still waits for what this thread does: work for nobody is given up at its next wait.

A look at moments of our own choice, instead of an exception at any: what was done and what undoes it are
never torn apart, nor is an undo cut short.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator

from cni_core.errors import TryAgainLater

_mine = threading.local()


class CallerGone(TryAgainLater):
    """Nobody waits for the answer any more."""


def _nothing() -> str:
    return ""


@contextlib.contextmanager
def watched(gone: Callable[[], str]) -> Iterator[None]:
    """Give the block up at a wait, by CallerGone, once `gone` says why nobody wants it any more."""
    _mine.gone = gone
    try:
        yield
    finally:
        _mine.gone = _nothing


@contextlib.contextmanager
def unwatched() -> Iterator[None]:
    """Finish the block whoever waits: it undoes what was done."""
    before = getattr(_mine, "gone", _nothing)
    _mine.gone = _nothing
    try:
        yield
    finally:
        _mine.gone = before


def check() -> None:
    """Raise CallerGone if this thread works for nobody."""
    reason = getattr(_mine, "gone", _nothing)()
    if reason:
        _mine.gone = _nothing  # once: the undo that follows waits too, and has to finish
        raise CallerGone(reason)
