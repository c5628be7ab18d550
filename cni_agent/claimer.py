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
from cni_ipam import membership, upkeep
from cni_ipam.block_store import BlockStore
from cni_ipam.blocks import Block, pool_of, want_name
from cni_ipam.claims import Claims
from cni_ipam.engine import Entry, Snapshot
from cni_ipam.holdings import Holdings, HoldingsFile, State
from cni_ipam.objects import family_of, used_of
from cni_ipam.pins import Pins
from cni_ipam.place import DATA_DIR, Place
from cni_ipam.poolfile import PoolFile, pools
from cni_ipam.reclaim import GRACE_S
from cni_ipam.upkeep import EMPTY_S, Demand, Use

_PRESSED_S = 5.0  # while other nodes may ask for a block
_PATIENCE_S = 1.0  # after a failure, doubled with each
_PINS_CONTACTS = 10
_BURST_S = 0.02  # a burst of pods wakes the task once
_FULL = 0.9  # of the pool's blocks are held: then nodes may starve


class Counts(NamedTuple):
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
        self.wanted: frozenset[int] = frozenset()
        self.has_want = False
        self.pressed = False
        self.settled = False
        self.pins_due = 0.0
        self.used: dict[str, int] = {}
        self.published: dict[str, int] = {}
        self.counts = Counts()
        self.nodes = 1
        self._patience = 0.0
        self.ask_again = 0.0

    def wait_longer(self, longest: float) -> None:
        """Ask the engine for nothing more for a while, that doubles until it answers."""
        self._patience = min(longest, max(_PATIENCE_S, 2 * self._patience))
        self.ask_again = time.monotonic() + self._patience

    def wait_no_longer(self) -> None:
        """Ask the engine as need be: it has answered."""
        self._patience = self.ask_again = 0.0


class _Member(NamedTuple):
    """A pool that this node shares, at one look."""

    name: str
    pool: _Pool
    store: BlockStore
    claims: Claims


class Claimer:
    """The task.

    Times are in seconds: `contact_s` between two questions of an idle node to the engine, `grace_s` from the
    proof of a node's death until its blocks are taken, `empty_s` until an empty block is given back.
    """

    def __init__(
        self,
        warn: Callable[[str], None],
        data_dir: str = DATA_DIR,
        *,
        contact_s: float,
        grace_s: float = GRACE_S,
        empty_s: float = EMPTY_S,
    ) -> None:
        self._empty_after_s = empty_s
        self._grace_s = grace_s
        self._warn = warn
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

    def counts(self) -> dict[str, Counts]:
        """Return the counts of each pool."""
        return {name: pool.counts for name, pool in list(self._pools.items()) if pool.is_shared}

    def nodes_of(self, name: str) -> int:
        """Return the number of nodes that share a pool's cluster, as the engine told last."""
        pool = self._pools.get(name)
        return pool.nodes if pool else 1

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
        members = list(self._members())
        by_engine: dict[int, list[_Member]] = {}
        for member in members:
            by_engine.setdefault(id(member.claims.engine), []).append(member)
        for group in by_engine.values():
            now = time.monotonic()
            nodes = self._contact(group) if any(now >= member.pool.due for member in group) else None
            for member in group:
                self._guarded(member, self._follow)
            if nodes is not None:
                self._publish(group, nodes)
        now = time.monotonic()
        due = [member.pool.due for member in members]
        due += [member.pool.ask_again for member in members if member.pool.ask_again > now]
        return max(0.0, min([*due, now + self._contact_s]) - now)

    def _members(self) -> Iterable[_Member]:
        for name in self._names():
            pool = self._pools.setdefault(name, _Pool(Reclaimer(self._warn, self._grace_s)))
            place = Place(name, self._data_dir)
            try:
                cluster = HoldingsFile(place).cluster()
            except CniError as error:
                self._warn(f"pool {name}: {error.msg}")
                continue
            pool.is_shared = cluster is not None
            if cluster is not None:
                store = BlockStore(place, cluster, self._warn)
                yield _Member(name, pool, store, store.claims())

    def _names(self) -> list[str]:
        try:
            return pools(self._data_dir)
        except CniError as error:  # such as a disk that fails
            self._warn(error.msg)
            return []

    def _guarded(self, member: _Member, step: Callable[[_Member], None]) -> bool:
        """Take a step for a pool; a fault with one must not end the task for all."""
        try:
            step(member)
        except CniError as error:
            self._failed(member, error)
        except Exception as error:  # noqa: BLE001 - whatever it is: the other pools need the task
            self._failed(member, CniError(f"{type(error).__name__}: {error}"))
        else:
            return True
        return False

    def _failed(self, member: _Member, error: CniError) -> None:
        pool = member.pool
        pool.counts = pool.counts._replace(failures=pool.counts.failures + 1, reachable=False)
        pool.wait_longer(self._contact_s)
        pool.due = max(pool.due, pool.ask_again)
        self._warn(f"pool {member.name}: {error.msg}{f'; {error.details}' if error.details else ''}")

    def _contact(self, group: Sequence[_Member]) -> Snapshot | None:
        """Ask an engine, once for all of its pools, what has changed; return the objects of the nodes.

        None if it does not answer, or this node has just joined.
        """
        try:
            name = group[0].claims.me().node
            nodes = group[0].claims.engine.list("node")
        except CniError as error:
            for member in group:
                self._failed(member, error)
            return None
        settled = [member for member in group if self._guarded(member, lambda m: self._agree(m, nodes))]
        is_listed = any(entry.name == name for entry in nodes.entries)
        return nodes if settled and is_listed else None

    def _agree(self, member: _Member, nodes: Snapshot) -> None:
        """Look whether this node still holds its own, and whether other nodes starve."""
        pool, claims = member.pool, member.claims
        if not pool.settled or not membership.is_current(claims, nodes):
            with claims.alone():
                membership.settle(claims)
            pool.settled = True
        pool.nodes = len(nodes.entries)
        pool.reclaimer.look(claims, nodes.entries)
        pool.pressed = _share(claims, nodes.entries) >= _FULL
        pool.wanted = self._wants(member) if pool.pressed else frozenset()
        Pins(claims).give_back()
        self._look_for_pins(member)
        pool.counts = pool.counts._replace(reachable=True)
        pool.wait_no_longer()
        pool.due = time.monotonic() + (_PRESSED_S if pool.pressed else self._contact_s)

    def _look_for_pins(self, member: _Member) -> None:
        """Learn now and then which addresses of this node's blocks other nodes keep no more."""
        now = time.monotonic()
        if now >= member.pool.pins_due and member.store.holdings.read().foreign:
            member.pool.pins_due = now + _PINS_CONTACTS * self._contact_s
            with member.claims.alone():
                member.claims.look_for_pins()

    @staticmethod
    def _wants(member: _Member) -> frozenset[int]:
        """Return the IP versions of the blocks that other nodes ask for."""
        own = want_name(member.name, member.claims.me().node)
        wants = member.claims.engine.list("want", member.name).entries
        member.pool.has_want = any(entry.name == own for entry in wants)
        return frozenset(family_of(entry) or 4 for entry in wants if entry.name != own)

    def _publish(self, group: Sequence[_Member], nodes: Snapshot) -> None:
        """Tell the other nodes, once for all pools of an engine, how full this node's blocks are."""
        member = group[0]
        if all(m.pool.used == m.pool.published for m in group):
            return
        used = {name: count for m in group for name, count in m.pool.used.items()}

        def publish(_member: _Member) -> None:
            own = next(entry for entry in nodes.entries if entry.name == member.claims.me().node)
            if membership.publish(member.claims.engine, own, used, {m.name for m in group}):
                for each in group:
                    each.pool.published = each.pool.used

        self._guarded(member, publish)

    def _follow(self, member: _Member) -> None:
        """Claim and give back by what is leased here now."""
        pool, store, claims = member.pool, member.store, member.claims
        holdings = store.holdings.read()
        if holdings.confirmed != boot_id():
            return
        uses = self._uses(store, holdings)
        pool.counts = pool.counts._replace(
            blocks=Counter(use.held.state.value for use in uses),
            free=sum(use.free for use in uses if use.held.state is State.HELD),
        )
        pool.used = {use.held.block.name(member.name): use.used for use in uses}
        demands = [Demand(*found) for found in PoolFile(store.place).leasable()]
        empty = self._empty(uses, pool)
        found = upkeep.plan(uses, demands, empty, size=holdings.size or 1, wanted=pool.wanted)
        for block in found.forget:
            claims.forget(block)
        if time.monotonic() < pool.ask_again:
            return
        self._give_back(store, claims, pool, found.give_back)
        for demand in () if holdings.draining else found.claim:
            self._claim(claims, demand, pool)
        if pool.has_want and pool.counts.free:
            claims.want_no_more()  # the pods that it was for have gone, or found room
            pool.has_want = False
        store.trim_marks()

    @staticmethod
    def _give_back(store: BlockStore, claims: Claims, pool: _Pool, spare: Iterable[Block]) -> None:
        for block in claims.give_back(spare, store.is_empty):
            pool.wanted -= {block.version}  # one for each time that it is asked
            pool.counts = pool.counts._replace(given_back=pool.counts.given_back + 1)

    @staticmethod
    def _uses(store: BlockStore, holdings: Holdings) -> list[Use]:
        """Count without the pool's lock: no pod waits, and a block is looked at again before it is given."""
        return [
            Use(held, store.used(held.block), sum(held.block.contains(*at) for at in holdings.kept_from_pods))
            for held in holdings.blocks
        ]

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
            pool.wait_longer(_PRESSED_S)
        else:
            pool.counts = pool.counts._replace(claimed=pool.counts.claimed + 1)


def _share(claims: Claims, nodes: Sequence[Entry]) -> float:
    """Return the share of the pool's blocks that nodes hold, by what they last said: it costs no request."""
    pool = claims.place.pool
    held = {name for node in nodes for name in used_of(node) if pool_of(name) == pool}
    total = min((claims.total(*demand) for demand in PoolFile(claims.place).leasable()), default=0)
    return len(held) / total if total else 0.0
