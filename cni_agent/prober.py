"""A task of the agent: declining the free addresses of this node's blocks that somebody else answers for.

A host with an address of its own choice, or a pod of a node that was declared dead too early, would share
it with the next pod. So the wire is asked ahead of time, and no ADD waits. An address that somebody answers
for in two looks becomes a pin of no node: every node steps over it, until it has been silent for a while.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from cni_agent import pods, strangers, wire
from cni_agent.strangers import At
from cni_core.boot import boot_id
from cni_core.errors import CniError, TryAgainLater
from cni_ipam import blocks, objects
from cni_ipam.allocator import BLOCK_BITS
from cni_ipam.block_store import BlockStore
from cni_ipam.claims import Claims
from cni_ipam.engine import Entry
from cni_ipam.holdings import Holdings, HoldingsFile
from cni_ipam.lease import timestamp
from cni_ipam.place import DATA_DIR, Place
from cni_ipam.poolfile import PoolFile, pools
from cni_ipam.ranges import Interval, clip, merge, to_address
from cni_ipam.reclaim import GRACE_S

EVERY_S = 60.0
_GAP = 3  # so many intervals without a look, and nothing is known of the time between


class _Seen:
    """What the looks at a pool have shown so far; `last` is the end of the tour, `said` the troubles told."""

    def __init__(self) -> None:
        self.looked = 0.0
        self.since: dict[At, float] = {}  # of the silence of a declined address
        self.suspected: dict[At, str] = {}
        self.last: At | None = None
        self.said: set[str] = set()


class Prober:
    """The task; `every_s` is the time in seconds between two looks, `silent_s` what makes an address free.

    `nodes_of` returns the number of nodes of a pool's cluster: the wire is theirs together.
    """

    def __init__(
        self,
        warn: Callable[[str], None],
        nodes_of: Callable[[str], int],
        data_dir: str = DATA_DIR,
        every_s: float = EVERY_S,
        silent_s: float = GRACE_S,
    ) -> None:
        self._warn = warn
        self._nodes_of = nodes_of
        self._data_dir = data_dir
        self._every_s = every_s
        self._silent_s = max(silent_s, 2 * every_s)
        self._stopping = threading.Event()
        self._seen: dict[str, _Seen] = {}

    def stop(self) -> None:
        """End the task after its current step."""
        self._stopping.set()

    def run(self) -> None:
        """Do the task until it is stopped."""
        while not self._stopping.wait(self._every_s):
            try:
                names = pools(self._data_dir)
            except CniError as error:
                self._warn(error.msg)
                continue
            for name in names:
                self._look(name)

    def _look(self, name: str) -> None:
        """Probe a pool; a fault with one must not end the task for all."""
        place = Place(name, self._data_dir)
        try:
            cluster = HoldingsFile(place).cluster()
            links = pods.on_layer2(name) if cluster is not None else {}
            if cluster is not None and links:
                self._probe(BlockStore(place, cluster, self._warn), links)
        except CniError as error:
            self._warn(f"probe the addresses of pool {name}: {error.msg}")
        except Exception as error:  # noqa: BLE001 - whatever it is: the other pools need the task
            self._warn(f"probe the addresses of pool {name}: {type(error).__name__}: {error}")

    def _probe(self, store: BlockStore, links: Mapping[str, Collection[At]]) -> None:
        """Look once; `links` have the addresses of their pods."""
        claims, pool = store.claims(), store.place.pool
        seen = self._seen.setdefault(pool, _Seen())
        declined, aside = _declined(claims), {each[:2] for each in claims.file.read().aside}
        free = free_addresses(store)
        following = strangers.next_ones(free, seen.last, strangers.share(self._nodes_of(pool)))
        seen.last = following[-1] if following else None
        suspected = [at for at in seen.suspected if at in free]
        found = wire.ask(links, list(dict.fromkeys([*declined, *aside, *suspected, *following])))
        own = wire.of_this_node().union(*links.values()) & {*free, *declined, *aside}
        heard = {at: f"{mac} on the wire" for at, mac in found.heard.items()}
        heard |= dict.fromkeys(own, f"node {claims.me().node}")
        still_free = free_addresses(store)  # a pod may have got one meanwhile, and have answered itself
        news = strangers.confirmed(heard, seen.suspected, still_free)
        seen.suspected = {at: who for at, who in heard.items() if at in still_free}
        silent = self._silent(seen, [*declined, *aside], heard, is_whole=found.is_whole)
        self._tell(seen, pool, found.troubles)
        _set_aside(store, claims, news, silent)
        self._follow(claims, declined, heard, silent)

    def _tell(self, seen: _Seen, pool: str, troubles: set[str]) -> None:
        """Tell each trouble once, while it lasts."""
        for text in troubles - seen.said:
            self._warn(f"pool {pool}: {text}")
        seen.said = troubles

    def _silent(
        self, seen: _Seen, watched: Sequence[At], heard: Mapping[At, str], *, is_whole: bool
    ) -> set[At]:
        """Return the addresses that nobody has answered for at each look, for long enough."""
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        known = seen.since if now - seen.looked <= _GAP * self._every_s else {}
        seen.since = strangers.silences(known, watched, heard, now) if is_whole else {}
        seen.looked = now
        return {at for at, since in seen.since.items() if now - since >= self._silent_s}

    def _follow(
        self, claims: Claims, declined: Mapping[At, Entry], heard: Mapping[At, str], silent: Collection[At]
    ) -> None:
        """Have the engine's objects follow: of addresses set aside, with a new holder, and silent ones."""
        pool, aside = claims.place.pool, claims.file.read().aside
        for version, number, who in aside:
            if _declare(claims, (version, number), who):
                address = to_address(version, number)
                self._warn(f"pool {pool}: {who} has {address}, which is declined")
        for at, entry in declined.items():
            if at in silent and claims.engine.delete(entry):
                self._warn(f"pool {pool}: nobody answers for {entry.fields['address']}: it is free again")
            elif entry.fields.get("owner") != heard.get(at, entry.fields.get("owner")):
                claims.engine.replace(entry, {**entry.fields, "owner": heard[at]})
        if aside or silent & declined.keys():
            with claims.alone():
                claims.look_for_pins()
            claims.change(lambda now: now._replace(aside=tuple(e for e in now.aside if e not in aside)))


def _set_aside(store: BlockStore, claims: Claims, news: Mapping[At, str], silent: Collection[At]) -> None:
    """Keep addresses from pods, unless one has just got it; the engine is told afterwards."""

    def change(now: Holdings) -> Holdings:
        kept = [each for each in now.aside if _holds(now, each[:2]) and each[:2] not in silent]
        for version in (4, 6):
            held = sum(block.size for block in now.usable if block.version == version)
            known = {*now.foreign, *(each[:2] for each in kept)}
            room = strangers.room(held, sum(of == version for of, _number in known))
            fresh = [at for at in news if at[0] == version and _holds(now, at) and not store.is_taken(*at)]
            kept += [(*at, news[at]) for at in fresh if at not in known][:room]
        return now._replace(aside=tuple(kept))

    if news or claims.file.read().aside:
        claims.change(change)


def _holds(now: Holdings, at: At) -> bool:
    return any(block.contains(*at) for block in now.usable)


def _declare(claims: Claims, at: At, who: str) -> bool:
    """Create the object of a declined address, also in place of a damaged one; return whether it did."""
    pool = claims.place.pool
    name, fields = blocks.object_name(pool, *at), objects.declined_fields(pool, *at, who, timestamp())
    entry = claims.engine.create("pin", name, fields)
    if entry is None:
        found = claims.engine.read("pin", name)
        is_damaged = found is not None and objects.pinned(found) is None
        entry = claims.engine.replace(found, fields) if found is not None and is_damaged else None
    if entry is not None and not _holds(claims.file.read(), at):  # its next holder has not seen the pin
        claims.engine.delete(entry)
        entry = None
    return entry is not None


def free_addresses(store: BlockStore) -> set[At]:
    """Return the addresses of this node's blocks that a pod may get next.

    The pool is not locked for that, so that no pod waits: whoever declines one looks again.
    """
    free: set[At] = set()
    if store.holdings.read().confirmed != boot_id():
        return free
    demands: dict[int, list[Interval]] = {}
    for version, intervals in PoolFile(store.place).leasable():
        demands.setdefault(version, []).extend(intervals)
    for version, intervals in demands.items():
        here = store.leasable_parts(version)
        parts = [part for ends in merge(intervals) for part in clip(here, *ends)]
        groups = {g for first, last in parts for g in range(first >> BLOCK_BITS, (last >> BLOCK_BITS) + 1)}
        taken = {number for group in groups for number in store.taken(version, group)}
        everything = {number for first, last in parts for number in range(first, last + 1)}
        free |= {(version, number) for number in everything - taken}
    return free


def _declined(claims: Claims) -> dict[At, Entry]:
    """Return the addresses of this node's blocks that are declined; asks the engine if there may be any."""
    foreign = set(claims.file.read().foreign)
    try:
        entries = claims.engine.list("pin", claims.place.pool).entries if foreign else ()
    except TryAgainLater:  # strangers are looked for all the same, and kept from pods here
        return {}
    found = {objects.pinned(entry): entry for entry in entries if objects.is_declined(entry)}
    return {at: entry for at, entry in found.items() if at is not None and at in foreign}
