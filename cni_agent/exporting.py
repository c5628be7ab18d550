"""A task of the agent: keeping the exported routes in agreement with the records.

Each ADD and DEL changes the routes itself. The task repairs the rest: a route that somebody deleted, one that
a killed call left behind, and all of them after a boot.
"""

import threading
from collections.abc import Callable

from cni_core.errors import CniError
from cni_net.rtnl import open_rtnl
from cni_vlan import exporter
from cni_vlan.ledger import Ledger

EVERY_S = 60.0


class Exporting:
    """The task; `every_s` is the time in seconds between two checks."""

    def __init__(self, warn: Callable[[str], None], every_s: float = EVERY_S) -> None:
        self._warn = warn
        self._every_s = every_s
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End the task after its current step."""
        self._stopping.set()

    def run(self) -> None:
        """Do the task until it is stopped."""
        while not self._stopping.is_set():
            try:
                with open_rtnl() as rtnl:
                    exporter.reconcile(rtnl, Ledger())
            except CniError as error:
                self._warn(f"exported routes: {error.msg}")
            self._stopping.wait(self._every_s)
