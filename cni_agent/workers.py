"""Threads for connections: one for each connection in service; a few of them stay for the next."""

import contextlib
import queue
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator

_IDLE_MOST = 2  # 64 threads that were once needed would hold 5 MiB for ever


class Workers:
    """Runs a function for each connection in a thread. Starting a thread takes 100 us, waking one 20.

    `most` threads are at work at once. Connections above that wait in line without one, since a thread
    that waits costs 65 KiB. A thread that has stepped aside does not count: a lock that is held for a minute
    must not keep other connections waiting.
    """

    def __init__(self, serve: Callable[[socket.socket], None], most: int) -> None:
        self._serve = serve
        self._most = most
        self._line: deque[socket.socket] = deque()
        self._handed: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()  # to idle threads
        self._idle = 0
        self._at_work = 0
        self._guard = threading.Lock()

    def serve(self, connection: socket.socket) -> bool:
        """Serve a connection in a thread; False if there is no thread for it."""
        with self._guard:
            if self._at_work >= self._most:
                self._line.append(connection)
                return True
            self._at_work += 1
        return self._begin(connection)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Let the next connection in line be served while this thread waits for something slow."""
        with self._guard:
            self._at_work -= 1
            following = self._line.popleft() if self._line and self._at_work < self._most else None
            self._at_work += following is not None
        if following is not None and not self._begin(following):
            with self._guard:
                self._line.appendleft(following)
        try:
            yield
        finally:
            with self._guard:
                self._at_work += 1

    def _begin(self, connection: socket.socket) -> bool:
        """Give a connection to an idle thread, else to a new one."""
        with self._guard:
            is_idle = self._idle > 0
            self._idle -= is_idle
        if is_idle:
            self._handed.put(connection)
            return True
        try:
            threading.Thread(target=self._work, args=(connection,), name="verb", daemon=True).start()
        except RuntimeError:  # the limit of processes
            with self._guard:
                self._at_work -= 1
            return False
        return True

    def _work(self, connection: socket.socket) -> None:
        following: socket.socket | None = connection
        while following is not None:
            try:
                self._serve(following)
            except BaseException:
                with self._guard:  # or its place would be lost
                    self._at_work -= 1
                raise
            following = None  # an idle thread holds no connection
            following = self._next()

    def _next(self) -> socket.socket | None:
        """Return the next connection in line, or the one that an idle thread is handed; None to end."""
        with self._guard:
            if self._line:
                return self._line.popleft()
            self._at_work -= 1
            if self._idle >= _IDLE_MOST:
                return None
            self._idle += 1
        return self._handed.get()
