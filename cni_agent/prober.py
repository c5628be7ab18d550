"""A task of the agent: declining the free addresses of this node's blocks that somebody else answers for.

A host with an address of its own choice, or a pod of a node that was declared dead too early, would share
it with the next pod. So the wire is asked ahead of time, and no ADD waits. An address that somebody answers
for in two looks becomes a pin of no node: every node steps over it, until it has been silent for a while.
"""

import ipaddress
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from cni_agent import strangers
from cni_agent.reclaimer import layer2_parents
from cni_agent.strangers import At
from cni_core.boot import boot_id
from cni_core.errors import CniError, LinkFailure
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
from cni_net.rtnl import open_rtnl

EVERY_S = 60.0
_NEW_MOST = 4  # declined at one look, so that a fault of the wire cannot empty a pool at once
_GAP = 3  # so many intervals without a look, and nothing is known of the time between


class _Seen:
    """What the looks at a pool have shown so far."""

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
            links = layer2_parents(name) if cluster is not None else []
            if cluster is not None and links:
                self._probe(BlockStore(place, cluster, self._warn), links)
        except CniError as error:
            self._warn(f"probe the addresses of pool {name}: {error.msg}")
        except Exception as error:  # noqa: BLE001 - whatever it is: the other pools need the task
            self._warn(f"probe the addresses of pool {name}: {type(error).__name__}: {error}")

    def _probe(self, store: BlockStore, links: Sequence[str]) -> None:
        claims, pool = store.claims(), store.place.pool
        seen = self._seen.setdefault(pool, _Seen())
        declined, is_free = _declined(claims), free(store)
        following = strangers.next_ones(is_free, seen.last, strangers.share(self._nodes_of(pool)))
        seen.last = following[-1] if following else None
        asked = list(dict.fromkeys([*declined, *(at for at in seen.suspected if at in is_free), *following]))
        heard, is_whole = self._answers(seen, pool, links, asked)
        heard |= {at: mac for at, mac in _of_this_node().items() if at in is_free or at in declined}
        still_free = free(store)  # a pod may have got one meanwhile, and have answered itself
        news = strangers.confirmed(heard, seen.suspected, still_free - set(declined), _NEW_MOST)
        seen.suspected = {at: mac for at, mac in heard.items() if at in still_free and at not in declined}
        silent = self._silent(seen, declined, heard, is_whole=is_whole)
        self._change(store, claims, news, silent)

    def _answers(
        self, seen: _Seen, pool: str, links: Sequence[str], asked: Sequence[At]
    ) -> tuple[dict[At, str], bool]:
        """Return the answers of strangers, and whether every link could be asked; troubles are told once."""
        texts = {str(to_address(*at)): at for at in asked}
        answers: dict[str, str] = {}
        said = set()
        for link in links:
            try:
                answers |= answering(link, list(texts), rounds=1)
            except LinkFailure as error:
                reason = error.msg.rpartition(": ")[
                    2
                ]  # what is before it names an address, another each time
                said.add(f"probe {link}: {reason}")
        is_whole = not said
        heard = {texts[text]: mac for text, mac in answers.items()}
        routers = strangers.routers(asked, heard)
        said |= {f"{mac} answers for most free addresses: none is declined for it" for mac in routers}
        for text in said - seen.said:
            self._warn(f"pool {pool}: {text}")
        seen.said = said
        return {at: mac for at, mac in heard.items() if mac not in routers}, is_whole

    def _silent(
        self, seen: _Seen, declined: Mapping[At, Entry], heard: Mapping[At, str], *, is_whole: bool
    ) -> list[Entry]:
        """Return the addresses that nobody has answered for at each look, for long enough."""
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        known = seen.since if now - seen.looked <= _GAP * self._every_s else {}
        seen.since = strangers.silences(known, list(declined), heard, now) if is_whole else {}
        seen.looked = now
        return [declined[at] for at, since in seen.since.items() if now - since >= self._silent_s]

    def _change(
        self, store: BlockStore, claims: Claims, news: Mapping[At, str], silent: Sequence[Entry]
    ) -> None:
        """Decline addresses, and free those that have become silent."""
        pool = store.place.pool
        for at, mac in news.items():
            self._decline(claims, at, mac)
        for entry in silent:
            if claims.engine.delete(entry):
                self._warn(f"pool {pool}: nobody answers for {entry.fields['address']}: it is free again")
        if news or silent:
            with claims.alone():
                claims.look_for_pins()
            with locked(f"{store.directory}/lock"):
                store.clear_marks()

    def _decline(self, claims: Claims, at: At, mac: str) -> None:
        pool = claims.place.pool
        fields = objects.declined_fields(pool, *at, mac, timestamp())
        if claims.engine.create("pin", blocks.object_name(pool, *at), fields) is not None:
            self._warn(f"pool {pool}: {mac} answers for {to_address(*at)}, which is declined")


def _of_this_node() -> dict[At, str]:
    """Return the addresses of the node's own links, which do not answer it, with their MAC addresses."""
    with open_rtnl() as rtnl:
        macs = {link.ifindex: link.mac for link in rtnl.links()}
        found = [(ipaddress.ip_address(own.ip), own.ifindex) for own in rtnl.host_addresses()]
    return {(ip.version, int(ip)): macs[index] for ip, index in found if macs.get(index)}


def free(store: BlockStore) -> set[At]:
    """Return the addresses of this node's blocks that a pod may get next."""
    found: set[At] = set()
    if store.holdings.read().confirmed != boot_id():
        return found
    leasable = PoolFile(store.place).leasable()
    parts = {version: store.leasable_parts(version) for version, _intervals in leasable}
    with locked(f"{store.directory}/lock"):
        for version, intervals in leasable:
            for part in (part for ends in intervals for part in clip(parts[version], *ends)):
                numbers = range(part[0], part[1] + 1)
                found |= {(version, n) for n in numbers if not store.is_taken(version, n)}
    return found


def _declined(claims: Claims) -> dict[At, Entry]:
    """Return the addresses of this node's blocks that are declined; asks the engine if there may be any."""
    foreign = set(claims.file.read().foreign)
    entries = claims.engine.list("pin", claims.place.pool).entries if foreign else ()
    found = {objects.pinned(entry): entry for entry in entries if objects.is_declined(entry)}
    return {at: entry for at, entry in found.items() if at is not None and at in foreign}
