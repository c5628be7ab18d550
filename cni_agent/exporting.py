"""A task of the agent: the routes that the fabric learns agree with the records, whoever changed either.

Each ADD and DEL keeps them itself. The task mends the rest: a route that somebody deleted, one that a killed
call has left, all of them after a boot.
"""

import threading
from collections.abc import Callable

from cni_core.errors import CniError
from cni_net.rtnl import open_rtnl
from cni_vlan import exporter
from cni_vlan.ledger import Ledger

EVERY_S = 60.0


class Exporting:
    """The task; `every_s` is the longest time in seconds between two looks."""

    def __init__(self, complain: Callable[[str], None], every_s: float = EVERY_S) -> None:
        self._complain = complain
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
                self._complain(f"exported routes: {error.msg}")
            self._stopping.wait(self._every_s)
