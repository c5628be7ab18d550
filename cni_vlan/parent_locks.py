"""The locks of parents, taken in one order and removed together with the records that they guard."""

import contextlib
import os

from cni_core.lock import locked


class Locks:
    """The parent locks that a call holds, each taken once.

    A VLAN's lock is always taken before its uplink's, so two calls on one chain cannot deadlock. A lock's
    file is removed with its parent's records, but last, at the end of the hold: a process that opens the file
    meanwhile waits for this hold, then sees that the file is gone and makes a new one.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._stack = contextlib.ExitStack()
        self._held: set[str] = set()

    def hold(self, parent: str) -> None:
        """Take a parent's lock unless it is held already; raises TryAgainLater at the deadline."""
        if parent not in self._held:
            self._stack.enter_context(locked(self._path(parent)))
            self._held.add(parent)

    def _path(self, parent: str) -> str:
        return f"{self._root}/locks/{parent}"

    def release(self) -> None:
        """Release every lock, and remove the files of those whose parent has no records."""
        for parent in self._held:
            if not os.path.isdir(f"{self._root}/parents/{parent}"):
                with contextlib.suppress(OSError):
                    os.unlink(self._path(parent))
        self._stack.close()
