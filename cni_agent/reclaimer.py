"""Taking the blocks and pinned addresses of dead nodes, once their addresses are silent on the wire.

Every agent with a pod on the pool's network does this. No leader is needed: deleting an object at the
revision that was read succeeds for one of them. `cni_ipam.reclaim` decides when a node is dead.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence

from cni_agent import pods
from cni_core.errors import CniError
from cni_ipam import estate, reclaim
from cni_ipam.claims import Claims
from cni_ipam.engine import Entry
from cni_ipam.objects import addresses_of, is_declined, is_of
from cni_ipam.reclaim import GRACE_S, Proof

_AUTHORITY_S = 600.0
_ASKING = 10  # nodes that ask the authority in this time


class Reclaimer:
    """The memory of one pool's proofs; `grace_s` is in seconds."""

    def __init__(self, warn: Callable[[str], None], grace_s: float = GRACE_S) -> None:
        self._warn = warn
        self._grace_s = grace_s
        self._seen: object = None
        self._authority: Mapping[str, str] | None = None
        self._ask_again = 0.0
        self._proofs: dict[str, Proof] = {}

    def look(self, claims: Claims, nodes: Sequence[Entry]) -> int:
        """Look for dead nodes, given the objects of all nodes; return the number of objects taken.

        While no node comes or goes, the engine is asked nothing more, but for its authority now and then.
        """
        authority = self._ask(claims, len(nodes))
        seen = ({str(entry.fields.get("incarnation")) for entry in nodes}, authority)
        if seen == self._seen and not self._proofs:
            return 0
        pool = claims.place.pool
        objects = estate.held(claims.engine, pool)
        self._seen = seen
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        found = reclaim.dead(objects, nodes, authority)
        for incarnation in found.keys() - self._proofs.keys():
            self._warn(f"pool {pool}: {found[incarnation]}: its blocks are taken in {self._grace_s:g} s")
        self._proofs = reclaim.observed(self._proofs, found, now)
        due = reclaim.due(self._proofs, now, self._grace_s)
        return sum(self._take(claims, incarnation, objects) for incarnation in due)

    def _ask(self, claims: Claims, nodes: int) -> Mapping[str, str] | None:
        """Return the authority's word; it is long, so each of many nodes asks for it less often."""
        now = time.monotonic()
        if self._proofs or now >= self._ask_again:
            self._authority = _trusted(claims.engine.nodes(), claims.me().node)
            self._ask_again = now + _AUTHORITY_S * max(1.0, nodes / _ASKING)
        return self._authority

    def _take(self, claims: Claims, incarnation: str, objects: Sequence[Entry]) -> int:
        """Take all that a dead node holds in the pool, or nothing; return the number of objects."""
        pool = claims.place.pool
        theirs = [entry for entry in objects if is_of(entry, incarnation)]
        objection = self._objection(pool, theirs, _declined(objects))
        reason = objection or self._has_returned(claims, incarnation, theirs)
        if reason:
            node = theirs[0].fields.get("node")
            self._warn(f"pool {pool}: the blocks of dead node {node} stay: {reason}")
            del self._proofs[incarnation]  # it begins anew
            self._seen = None
            return 0
        taken = estate.take(claims.engine, incarnation, theirs)
        for entry in taken:
            self._warn(f"pool {pool}: took {entry.name} from dead node {entry.fields.get('node')}")
        return len(taken)

    @staticmethod
    def _objection(pool: str, theirs: Sequence[Entry], declined: Collection[str]) -> str:
        """Return the reason why a node may be alive, "" if all of its addresses are silent on the wire.

        `declined` are addresses that its pods never had: who answers for them is somebody else.
        """
        from cni_net.probe import answering

        links = pods.on_layer2(pool)
        if not links:
            return "no pod here is on their wire"
        addresses = [at for entry in theirs for at in addresses_of(entry) if at not in declined]
        alive: dict[str, str] = {}
        try:
            for link in links:
                alive |= answering(link, addresses)
        except CniError as error:
            return error.msg
        return ", ".join(f"{mac} answers for {address}" for address, mac in sorted(alive.items()))

    @staticmethod
    def _has_returned(claims: Claims, incarnation: str, theirs: Sequence[Entry]) -> str:
        """Return words for a node that has joined again while its addresses were probed."""
        nodes = claims.engine.list("node").entries
        authority = _trusted(claims.engine.nodes(), claims.me().node)
        is_dead = reclaim.dead(theirs, nodes, authority)
        return "" if incarnation in is_dead else "it is back"


def _declined(objects: Sequence[Entry]) -> set[str]:
    return {address for entry in objects if is_declined(entry) for address in addresses_of(entry)}


def _trusted(authority: Mapping[str, str] | None, own: str) -> Mapping[str, str] | None:
    """Return the authority's word if it knows this node, which is alive: an empty list proves nothing."""
    return authority if authority is not None and own in authority else None
