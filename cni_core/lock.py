"""An exclusive file lock with a deadline. The only module that imports filelock."""

import contextlib
from collections.abc import Iterator

from cni_core.errors import IoFailure, TryAgainLater

DEADLINE_S = 30.0
_POLL_S = 0.002  # a critical section here takes about 1 ms; filelock's default of 50 ms would dominate


@contextlib.contextmanager
def locked(path: str, deadline_s: float = DEADLINE_S) -> Iterator[None]:
    """Hold the lock file at a path, whose directory exists.

    Raises TryAgainLater at the deadline, IoFailure when the file cannot be made.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=deadline_s, poll_interval=_POLL_S, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise TryAgainLater(f"lock {path}: held by another process for {deadline_s:g} s") from error
    except OSError as error:
        raise IoFailure(f"lock {path}: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()
