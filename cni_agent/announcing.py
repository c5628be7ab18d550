"""One thread that announces the addresses of all pods.

A thread for each pod would cost 100 us of an ADD and, when a hundred pods start at once, 65 KiB each.
"""

import queue
import threading
import time
from collections import deque
from contextlib import suppress

from cni_net.announce import INTERVAL_S, Announcement


class Announcing:
    """Sends each announcement, and sends it again when that is due."""

    def __init__(self) -> None:
        self._given: queue.SimpleQueue[Announcement] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._guard = threading.Lock()

    def give(self, announcement: Announcement) -> None:
        """Send an announcement in the thread; raises RuntimeError if the thread cannot be started."""
        with self._guard:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="announcing", daemon=True)
                thread.start()
                self._thread = thread
        self._given.put(announcement)

    def _run(self) -> None:
        again: deque[tuple[float, Announcement]] = deque()  # in the order in which they are due
        while True:
            wait_s = again[0][0] - time.monotonic() if again else None
            if wait_s is not None and wait_s <= 0:
                self._send(again.popleft()[1], again)
            else:
                with suppress(queue.Empty):
                    self._send(self._given.get(timeout=wait_s), again)

    @staticmethod
    def _send(announcement: Announcement, again: deque[tuple[float, Announcement]]) -> None:
        if announcement.send():
            again.append((time.monotonic() + INTERVAL_S, announcement))
