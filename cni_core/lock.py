"""An exclusive file lock with a deadline. The only module that imports filelock.

filelock takes a free lock, by descriptor: its path locks take 0.1 ms and thirty system calls more, for cases
that do not occur in root's own directories. filelock waits by polling. This module waits in the kernel's
queue of flock(2) instead, where nobody is overtaken: of 200 warm processes at once the last had its lease
after 0.55 s. Polling with a tuned interval took 1.2 s.

flock(2) has no deadline and cannot be interrupted in a thread, so a separate thread waits in it. There is one
for each file that another process holds, however many callers want the file and however long it is held.
"""

import contextlib
import fcntl
import os
import threading
import time
from collections import deque
from collections.abc import Iterator

from cni_core import waiting
from cni_core.errors import IoFailure, TryAgainLater
from cni_core.statefile import make_directory

DEADLINE_S = 30.0
_LOOK_EVERY_S = 0.5  # to check that the caller still waits


@contextlib.contextmanager
def locked(path: str, deadline_s: float = DEADLINE_S) -> Iterator[None]:
    """Hold the lock file at a path, whose directory is created if it is missing; first come, first served.

    Raises TryAgainLater at the deadline, in seconds, and IoFailure if the file cannot be created.
    """
    descriptor = _lock(path, waiting.at_most(deadline_s))
    try:
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked_while_needed(path: str, deadline_s: float = DEADLINE_S) -> Iterator[None]:
    """Hold the lock file at a path and remove it at the end: for one of many keys, each used once."""
    with locked(path, deadline_s):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                os.unlink(path)  # under the lock: a waiter sees that, and creates another


def preload() -> None:
    """Import filelock now instead of at the first lock."""
    import filelock  # noqa: F401 - loaded for later locks


def _lock(path: str, deadline_s: float) -> int:
    """Return a descriptor of the file at the path, which holds its lock until it is closed."""
    until = time.monotonic() + deadline_s
    while True:
        descriptor = _try_lock(path, until, deadline_s)
        if os.fstat(descriptor).st_nlink:
            return descriptor
        os.close(descriptor)  # the previous holder removed the file: others may lock a new one


def _try_lock(path: str, until: float, deadline_s: float) -> int:
    from filelock import lock_descriptor

    descriptor = _open(path)
    if lock_descriptor(descriptor, blocking=False):
        return descriptor
    waiter = _Waiter(path, descriptor)
    try:
        with waiting.aside():
            has_lock = _wait(waiter.has_lock, until)
        if has_lock:
            return descriptor
    except BaseException:
        waiter.leave()
        raise
    waiter.leave()
    raise TryAgainLater(f"lock {path}: held by another process for {deadline_s:g} s")


def _open(path: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        try:
            return os.open(path, flags, 0o600)
        except (FileNotFoundError, NotADirectoryError):
            make_directory(os.path.dirname(path))  # which has the words, if a file is in the way
            return os.open(path, flags, 0o600)
    except OSError as error:
        raise IoFailure(f"lock {path}: {error.strerror}") from error


def _wait(has_lock: threading.Event, until: float) -> bool:
    while (left := until - time.monotonic()) > 0:
        if has_lock.wait(min(left, _LOOK_EVERY_S)):
            return True
        waiting.check()
    return False


class _Waiter:
    """A place in this process's queue for a file; the head of the queue waits in the kernel's queue."""

    _queues: "dict[str, deque[_Waiter]]" = {}  # noqa: RUF012 - of the process, protected by the guard
    _guard = threading.Lock()

    def __init__(self, path: str, descriptor: int) -> None:
        self.has_lock = threading.Event()
        self._path = path
        self._descriptor = descriptor
        self._left = False
        with self._guard:
            queue = self._queues.get(path)
            if queue is None:
                queue = deque()
                self._start(path, queue)
                self._queues[path] = queue
            queue.append(self)

    def _start(self, path: str, queue: "deque[_Waiter]") -> None:
        try:
            threading.Thread(target=self._serve, args=(path, queue), daemon=True).start()
        except RuntimeError as error:  # the limit of processes
            os.close(self._descriptor)
            raise TryAgainLater(f"lock {path}: {error}") from error

    @classmethod
    def _serve(cls, path: str, queue: "deque[_Waiter]") -> None:
        """Wait for the lock on behalf of each waiter in turn, until nobody wants the file any more."""
        while True:
            with cls._guard:
                while queue and queue[0]._left:  # noqa: SLF001 - its own class
                    os.close(queue.popleft()._descriptor)  # noqa: SLF001 - as above
                if not queue:
                    del cls._queues[path]
                    return
                head = queue[0]
            fcntl.flock(head._descriptor, fcntl.LOCK_EX)  # noqa: SLF001 - as above
            with cls._guard:
                if not head._left:  # noqa: SLF001 - as above
                    queue.popleft()
                    head.has_lock.set()

    def leave(self) -> None:
        """Give up the place; the descriptor is closed now, or by the thread if that waits with it."""
        with self._guard:
            queue = self._queues.get(self._path)
            if self.has_lock.is_set() or (queue and self in queue and queue[0] is not self):
                if queue and self in queue:
                    queue.remove(self)
                os.close(self._descriptor)
            else:
                self._left = True
