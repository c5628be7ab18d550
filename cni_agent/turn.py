"""Taking turns in a process that serves many invocations at once.

Threads that run Python side by side fight for the interpreter at every system call: an ADD in a burst took
5 ms of processor time, against 2.2 alone, and 2.4 in turn. A thread steps aside for slow operations: deleting
a link, and waiting for another process's lock. A process with one invocation has nobody to step aside for.
"""

import contextlib
import threading
from collections.abc import Iterator

_turn = threading.Lock()
_mine = threading.local()


@contextlib.contextmanager
def taken(within_s: float = -1) -> Iterator[bool]:
    """Run the block in turn with the other threads that do so; yields False if the turn came too late."""
    if not _turn.acquire(timeout=within_s):
        yield False
        return
    _mine.held = True
    try:
        yield True
    finally:
        _mine.held = False
        _turn.release()


@contextlib.contextmanager
def aside() -> Iterator[None]:
    """Let other threads run during the block, which waits for something slow."""
    if not getattr(_mine, "held", False):
        yield
        return
    _turn.release()
    try:
        yield
    finally:
        _turn.acquire()
