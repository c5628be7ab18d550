"""The tasks for pools that nodes share, loaded once this node has such a pool: most agents never do.

Their code is a fiftieth of an agent's memory.
"""

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from cni_agent.tasks import running
from cni_core.errors import CniError
from cni_ipam.holdings import HoldingsFile
from cni_ipam.place import DATA_DIR, Place
from cni_ipam.poolfile import pools

if TYPE_CHECKING:
    from cni_agent.claimer import Claimer, Counts

CONTACT_S = 30.0  # an idle node asks the engine once in this time


class ClusterTasks:
    """The task that waits for a shared pool, and then looks after blocks and probes addresses.

    Times are in seconds: `contact_s` between two questions of an idle node to the engine, `grace_s` from the
    proof of a node's death until its blocks are taken.
    """

    def __init__(self, warn: Callable[[str], None], contact_s: float, grace_s: float) -> None:
        self._warn = warn
        self._contact_s = contact_s
        self._grace_s = grace_s
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._claimer: Claimer | None = None

    def counts(self) -> "Mapping[str, Counts]":
        """Return the counts of each shared pool."""
        return self._claimer.counts() if self._claimer else {}

    def wake(self) -> None:
        """Look at the pools soon: an address was leased or released."""
        self._woken.set()
        if self._claimer:
            self._claimer.wake()

    def stop(self) -> None:
        """End the task after its current step."""
        self._stopping.set()
        self._woken.set()
        if self._claimer:
            self._claimer.stop()

    def run(self) -> None:
        """Do the task until it is stopped."""
        while not self._stopping.is_set() and not self._shares_a_pool():
            self._woken.wait(self._contact_s)  # a one-shot plugin may make the first one
            self._woken.clear()
        while not self._stopping.is_set():
            try:
                self._look_after()
            except Exception as error:  # noqa: BLE001 - such as code that an upgrade is just replacing
                self._warn(f"look after shared pools: {type(error).__name__}: {error}")
                self._woken.clear()
                self._woken.wait(self._contact_s)

    def _look_after(self) -> None:
        from cni_agent.claimer import Claimer
        from cni_agent.prober import EVERY_S, Prober

        claimer = Claimer(self._warn, contact_s=self._contact_s, grace_s=self._grace_s)
        every_s = min(EVERY_S, 2 * self._contact_s)
        self._claimer = claimer
        if self._stopping.is_set():  # meanwhile, when there was nothing to stop
            claimer.stop()
        with running("probes", Prober(self._warn, claimer.nodes_of, every_s=every_s, silent_s=self._grace_s)):
            claimer.run()

    def _shares_a_pool(self) -> bool:
        try:
            return any(HoldingsFile(Place(name, DATA_DIR)).cluster() for name in pools(DATA_DIR))
        except CniError:  # of a file that cannot be read, the tasks tell
            return True
