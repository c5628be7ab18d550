"""A task of the agent: the blocks of this node's pools, claimed ahead of need and given back.

The disk is the truth, and calls of one-shot plugins change it too: so the task looks at the disk each time.
Events only wake it.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from cni_agent.reclaimer import Reclaimer
from cni_core.boot import boot_id
from cni_core.errors import CniError, PoolExhausted
from cni_core.lock import locked
from cni_ipam import membership, upkeep
from cni_ipam.block_store import BlockStore
from cni_ipam.blocks import Block, pool_of, want_name
from cni_ipam.claims import Claims
from cni_ipam.engine import Entry
from cni_ipam.holdings import Holdings, HoldingsFile, State
from cni_ipam.pins import Pins
from cni_ipam.place import DATA_DIR, Place
from cni_ipam.poolfile import PoolFile, pools
from cni_ipam.reclaim import GRACE_S
from cni_ipam.upkeep import EMPTY_S, Demand, Use

CONTACT_S = 30.0  # an idle node asks the engine once in this time
_PRESSED_S = 5.0  # while other nodes may ask for a block
_BURST_S = 0.02  # a burst of pods wakes the task once
_ROUTE_S = 1.0
_FULL = 0.9  # of the pool's blocks are held: then nodes may starve


class Figures(NamedTuple):
    """The counts of one pool for the metrics; `blocks` by state."""

    claimed: int = 0
    given_back: int = 0
    failures: int = 0
    reachable: bool = True
    blocks: Mapping[str, int] = {}
    free: int = 0


class _Pool:
    """The memory of the task about one pool; nothing in it decides alone."""

    def __init__(self, reclaimer: Reclaimer) -> None:
        self.reclaimer = reclaimer
        self.is_shared = False
        self.due = 0.0
        self.empty_since: dict[Block, float] = {}
        self.wanted = False
        self.pressed = False
        self.settled = False
        self.contacted = False
        self.published: dict[str, int] = {}
        self.figures = Figures()


class Claimer:
    """The task.

    Times are in seconds: `contact_s` between two questions of an idle node to the engine, `grace_s` from the
    proof of a node's death until its blocks are taken, `empty_s` until an empty block is given back.
    """

    def __init__(
        self,
        complain: Callable[[str], None],
        data_dir: str = DATA_DIR,
        contact_s: float = CONTACT_S,
        grace_s: float = GRACE_S,
        empty_s: float = EMPTY_S,
    ) -> None:
        self._empty_after_s = empty_s
        self._grace_s = grace_s
        self._complain = complain
        self._data_dir = data_dir
        self._contact_s = contact_s
        self._woken = threading.Event()
        self._stopping = False
        self._pools: dict[str, _Pool] = {}

    def wake(self) -> None:
        """Look at the pools soon: an address was leased or released."""
        self._woken.set()

    def stop(self) -> None:
        """End the task after its current step."""
        self._stopping = True
        self._woken.set()

    def figures(self) -> dict[str, Figures]:
        """Return the counts of each pool."""
        return {name: pool.figures for name, pool in list(self._pools.items()) if pool.is_shared}

    def run(self) -> None:
        """Do the task until it is stopped."""
        while not self._stopping:
            wait = self.look_after()
            self._woken.wait(wait)
            if self._woken.is_set() and not self._stopping:
                time.sleep(_BURST_S)
            if not self._stopping:
                self._woken.clear()

    def look_after(self) -> float:
        """Look after each pool once; return the seconds until one is due."""
        next_due = time.monotonic() + self._contact_s
        for name in self._names():
            pool = self._pools.setdefault(name, _Pool(Reclaimer(self._complain, self._grace_s)))
            try:
                self._tend(Place(name, self._data_dir), pool)
            except CniError as error:
                self._failed(name, pool, error)
            except Exception as error:  # noqa: BLE001 - a fault with one pool must not end the task for all
                self._failed(name, pool, CniError(f"{type(error).__name__}: {error}"))
            next_due = min(next_due, pool.due)
        return max(0.0, next_due - time.monotonic())

    def _names(self) -> list[str]:
        try:
            return pools(self._data_dir)
        except CniError as error:  # such as a disk that fails
            self._complain(error.msg)
            return []

    def _failed(self, name: str, pool: _Pool, error: CniError) -> None:
        pool.figures = pool.figures._replace(failures=pool.figures.failures + 1, reachable=False)
        pool.due = time.monotonic() + self._contact_s
        self._complain(f"pool {name}: {error.msg}{f'; {error.details}' if error.details else ''}")

    def _tend(self, place: Place, pool: _Pool) -> None:
        cluster = HoldingsFile(place).cluster()
        pool.is_shared = cluster is not None
        if cluster is None:
            pool.due = time.monotonic() + self._contact_s
            return
        store = BlockStore(place, cluster, self._complain)
        claims = store.claims()
        if time.monotonic() >= pool.due:
            self._contact(claims, pool)
        if store.holdings.read().confirmed != boot_id():
            return
        self._follow(store, claims, pool)

    def _contact(self, claims: Claims, pool: _Pool) -> None:
        """Ask the engine whether this node still holds its own, and whether other nodes starve."""
        with claims.alone():
            nodes = claims.engine.list("node")
            if not pool.settled or not membership.is_current(claims, nodes):
                membership.settle(claims)
                pool.settled = True
        pool.reclaimer.look(claims, nodes.entries)
        pool.pressed = _share(claims, nodes.entries) >= _FULL
        pool.wanted = pool.pressed and self._is_wanted(claims)
        Pins(claims).give_back()
        pool.figures = pool.figures._replace(reachable=True)
        pool.contacted = True
        pool.due = time.monotonic() + (_PRESSED_S if pool.pressed else self._contact_s)

    def _is_wanted(self, claims: Claims) -> bool:
        own = want_name(claims.place.pool, claims.me().node)
        return any(entry.name != own for entry in claims.engine.list("want", claims.place.pool).entries)

    def _follow(self, store: BlockStore, claims: Claims, pool: _Pool) -> None:
        holdings = store.holdings.read()
        uses = self._uses(store, holdings)
        pool.figures = pool.figures._replace(
            blocks=Counter(use.held.state.value for use in uses),
            free=sum(use.held.block.size - use.used for use in uses if use.held.state is State.HELD),
        )
        demands = [Demand(*found) for found in PoolFile(store.place).leasable()]
        empty = self._empty(uses, pool)
        found = upkeep.plan(uses, demands, empty, size=holdings.size or 1, wanted=pool.wanted)
        for block in found.forget:
            claims.forget(block)
        self._give_back(store, claims, pool, found.give_back)
        for demand in () if holdings.draining else found.claim:
            self._claim(claims, demand, pool)
        used = {use.held.block.name(store.place.pool): use.used for use in uses}
        if used != pool.published and pool.contacted and membership.publish(claims, used):
            pool.published = used
        pool.contacted = False
        if found.claim or found.give_back:
            with locked(f"{store.directory}/lock"):
                store.clear_marks()

    @staticmethod
    def _give_back(store: BlockStore, claims: Claims, pool: _Pool, spare: Iterable[Block]) -> None:
        for block in spare:
            if time.monotonic() - pool.empty_since.get(block, 0.0) < _ROUTE_S:
                continue  # a router needs a moment to forget its route, which went with its last pod
            with claims.alone():
                is_given = claims.give_back(block, store.is_empty)
            if is_given:
                pool.wanted = False  # one for each time that it is asked
                pool.figures = pool.figures._replace(given_back=pool.figures.given_back + 1)

    def _uses(self, store: BlockStore, holdings: Holdings) -> list[Use]:
        with locked(f"{store.directory}/lock"):
            return [Use(held, store.used(held.block)) for held in holdings.blocks]

    def _empty(self, uses: list[Use], pool: _Pool) -> set[Block]:
        """Return the blocks that were empty at each look for long enough."""
        now = time.monotonic()
        empty = {use.held.block for use in uses if use.used == 0}
        pool.empty_since = {block: pool.empty_since.get(block, now) for block in empty}
        return {block for block, since in pool.empty_since.items() if now - since >= self._empty_after_s}

    def _claim(self, claims: Claims, demand: Demand, pool: _Pool) -> None:
        try:
            with claims.alone():
                if claims.is_doubtful():
                    pool.due = 0.0
                    return
                claims.claim(demand.version, demand.intervals, claims.place.pool, may_want=False)
        except PoolExhausted:
            pool.pressed = True
        else:
            pool.figures = pool.figures._replace(claimed=pool.figures.claimed + 1)


def _share(claims: Claims, nodes: Sequence[Entry]) -> float:
    """Return the share of the pool's blocks that nodes hold, by what they last said: it costs no request."""
    pool = claims.place.pool
    held = {name for node in nodes for name in _used(node) if pool_of(name) == pool}
    total = min((claims.total(*demand) for demand in PoolFile(claims.place).leasable()), default=0)
    return len(held) / total if total else 0.0


def _used(node: Entry) -> Iterable[str]:
    used = node.fields.get("used")
    return used if isinstance(used, dict) else ()
