"""An exclusive file lock with a deadline. The only module that imports filelock."""

import contextlib
import time
from collections.abc import Iterator

from cni_core.errors import IoFailure, TryAgainLater

DEADLINE_S = 30.0
# filelock waits by polling, 50 ms apart, where a critical section here takes about 1 ms. A short fixed
# interval makes a burst of waiters eat the processor that the holder needs; so waits grow.
_FIRST_WAIT_S = 0.001
_LONGEST_WAIT_S = 0.02
_GROWTH = 1.5


@contextlib.contextmanager
def locked(path: str, deadline_s: float = DEADLINE_S) -> Iterator[None]:
    """Hold the lock file at a path, whose directory exists.

    Raises TryAgainLater at the deadline, in seconds, and IoFailure when the file cannot be made.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, blocking=False, thread_local=False)
    give_up = time.monotonic() + deadline_s
    wait_s = _FIRST_WAIT_S
    while True:
        try:
            lock.acquire()
            break
        except Timeout as error:
            if time.monotonic() > give_up:
                raise TryAgainLater(f"lock {path}: held by another process for {deadline_s:g} s") from error
        except OSError as error:
            raise IoFailure(f"lock {path}: {error.strerror}") from error
        time.sleep(wait_s)
        wait_s = min(wait_s * _GROWTH, _LONGEST_WAIT_S)
    try:
        yield
    finally:
        lock.release()
