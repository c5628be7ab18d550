"""Threads for connections: one for each, of which a few stay for the next."""

import queue
import socket
import threading
from collections.abc import Callable

_IDLE_MOST = 2  # 64 threads that were once needed would hold 5 MiB for ever


class Workers:
    """Runs a function for each connection in a thread. To start one takes 100 us, to wake one 20."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._serve = serve
        self._waiting: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        self._idle = 0
        self._guard = threading.Lock()

    def serve(self, connection: socket.socket) -> bool:
        """Have a connection served; False if there is no thread for it."""
        with self._guard:
            taken = self._idle > 0
            self._idle -= taken
        if taken:
            self._waiting.put(connection)
            return True
        try:
            threading.Thread(target=self._work, args=(connection,), name="verb", daemon=True).start()
        except RuntimeError:
            return False
        return True

    def _work(self, connection: socket.socket) -> None:
        self._serve(connection)
        del connection
        while self._stays():
            self._serve(self._waiting.get())

    def _stays(self) -> bool:
        """Become idle, unless enough are."""
        with self._guard:
            stays = self._idle < _IDLE_MOST
            self._idle += stays
        return stays
