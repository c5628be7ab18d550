"""A task of the agent: setting aside the free addresses of this node's blocks that somebody else answers for.

A host with an address of its own choice, or a pod of a node that was declared dead too early, would share
it with the next pod. So the wire is asked ahead of time, and no ADD waits. An address that somebody answers
for becomes a pin of no node: every node steps over it, until it has been silent for a while.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence

from cni_agent.reclaimer import layer2_parents
from cni_core.boot import boot_id
from cni_core.errors import CniError
from cni_core.lock import locked
from cni_ipam import blocks, objects
from cni_ipam.block_store import BlockStore
from cni_ipam.claims import Claims
from cni_ipam.engine import Entry
from cni_ipam.holdings import HoldingsFile
from cni_ipam.lease import timestamp
from cni_ipam.place import DATA_DIR, Place
from cni_ipam.poolfile import PoolFile, pools
from cni_ipam.ranges import clip, to_address
from cni_ipam.reclaim import GRACE_S
from cni_net.probe import answering

EVERY_S = 60.0
_ROUNDS = 2
_MOST = 256  # addresses of a pool at one look: nine probes in a second, which no switch takes for a scan
_PROXY_LEAST = 4
At = tuple[int, int]


class Prober:
    """The task; `every_s` is the time in seconds between two looks, `silent_s` what makes an address free."""

    def __init__(
        self,
        complain: Callable[[str], None],
        data_dir: str = DATA_DIR,
        every_s: float = EVERY_S,
        silent_s: float = GRACE_S,
    ) -> None:
        self._complain = complain
        self._data_dir = data_dir
        self._every_s = every_s
        self._silent_s = silent_s
        self._stopping = threading.Event()
        self._heard: dict[tuple[str, At], float] = {}

    def stop(self) -> None:
        """End the task after its current step."""
        self._stopping.set()

    def run(self) -> None:
        """Do the task until it is stopped."""
        while not self._stopping.wait(self._every_s):
            try:
                names = pools(self._data_dir)
            except CniError as error:
                self._complain(error.msg)
                continue
            for name in names:
                self._look(name)

    def _look(self, name: str) -> None:
        """Probe a pool; a fault with one must not end the task for all."""
        place = Place(name, self._data_dir)
        try:
            cluster = HoldingsFile(place).cluster()
            links = layer2_parents(name) if cluster is not None else []
            if cluster is not None and links:
                self._probe(BlockStore(place, cluster, self._complain), links)
        except CniError as error:
            self._complain(f"pool {name}: addresses on the wire: {error.msg}")

    def _probe(self, store: BlockStore, links: Sequence[str]) -> None:
        claims, pool = store.claims(), store.place.pool
        aside = _set_aside(claims)
        asked = [*aside, *sorted(free(store))][:_MOST]
        texts = {str(to_address(*at)): at for at in asked}
        answers: dict[str, str] = {}
        for link in links:
            answers |= answering(link, list(texts), rounds=_ROUNDS)
        heard = {texts[text]: mac for text, mac in answers.items()}
        proxy = _proxy(heard, len(asked))
        if proxy:
            self._complain(f"pool {pool}: {proxy} answers for every free address: nothing is set aside")
            return
        silent = self._silent(pool, aside, heard)
        still_free = free(store)  # a pod may have got one meanwhile, and have answered itself
        news = {at: mac for at, mac in heard.items() if at in still_free and at not in aside}
        for at, mac in news.items():
            self._set_aside(claims, at, mac)
        for entry in silent:
            if claims.engine.delete(entry):
                self._complain(f"pool {pool}: nobody answers for {entry.fields['address']}: it is free again")
        if news or silent:
            with claims.alone():
                claims.look_for_pins()
            with locked(f"{store.directory}/lock"):
                store.clear_marks()

    def _silent(self, pool: str, aside: Mapping[At, Entry], heard: Mapping[At, str]) -> list[Entry]:
        """Return the addresses that nobody has answered for at each look, for long enough."""
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        last = {(pool, at): now if at in heard else self._heard.get((pool, at), now) for at in aside}
        self._heard = {key: at for key, at in self._heard.items() if key[0] != pool} | last
        return [entry for at, entry in aside.items() if now - last[pool, at] >= self._silent_s]

    def _set_aside(self, claims: Claims, at: At, mac: str) -> None:
        pool = claims.place.pool
        fields = objects.aside_fields(pool, *at, mac, timestamp())
        if claims.engine.create("pin", blocks.object_name(pool, *at), fields) is not None:
            self._complain(f"pool {pool}: {mac} answers for {to_address(*at)}: it is set aside")


def free(store: BlockStore) -> set[At]:
    """Return the addresses of this node's blocks that a pod may get next."""
    found: set[At] = set()
    if store.holdings.read().confirmed != boot_id():
        return found
    with locked(f"{store.directory}/lock"):
        for version, intervals in PoolFile(store.place).leasable():
            for first, last in intervals:
                for part in clip(store.leasable_parts(version), first, last):
                    numbers = range(part[0], part[1] + 1)
                    found |= {(version, n) for n in numbers if not store.is_taken(version, n)}
    return found


def _set_aside(claims: Claims) -> dict[At, Entry]:
    """Return the addresses of this node's blocks that are set aside; asks the engine if there may be any."""
    foreign = set(claims.file.read().foreign)
    entries = claims.engine.list("pin", claims.place.pool).entries if foreign else ()
    found = {objects.pinned(entry): entry for entry in entries if objects.is_aside(entry)}
    return {at: entry for at, entry in found.items() if at is not None and at in foreign}


def _proxy(heard: Mapping[At, str], asked: int) -> str:
    """Return the MAC address of a router that answers for all addresses, "" without one: it has proxy ARP."""
    macs = set(heard.values())
    return macs.pop() if len(macs) == 1 and len(heard) == asked >= _PROXY_LEAST else ""
