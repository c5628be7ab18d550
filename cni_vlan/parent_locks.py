"""The locks of parents, taken in one order and removed with what they guard."""

import contextlib
import os

from cni_core.lock import locked


class Locks:
    """The locks of parents that are held, each taken once.

    A VLAN's lock is taken before its uplink's, everywhere: two calls on one chain wait, and never for each
    other. A lock's file goes with its parent's records, but last, at the end of the hold: whoever opens the
    name meanwhile waits for this hold, and whoever waited sees that the file is gone and makes a new one.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._stack = contextlib.ExitStack()
        self._held: set[str] = set()

    def hold(self, parent: str) -> None:
        """Take the lock of a parent, unless it is held already; raises TryAgainLater at the deadline."""
        if parent not in self._held:
            self._stack.enter_context(locked(self._path(parent)))
            self._held.add(parent)

    def _path(self, parent: str) -> str:
        return f"{self._root}/locks/{parent}"

    def release(self) -> None:
        """Let go of all."""
        for parent in self._held:
            if not os.path.isdir(f"{self._root}/parents/{parent}"):
                with contextlib.suppress(OSError):
                    os.unlink(self._path(parent))
        self._stack.close()
