"""A store in memory: the second implementation of what the verbs lease from."""

import ipaddress
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TypeVar

from cni_core.call import AttachmentKey
from cni_core.errors import IoFailure, PoolExhausted
from cni_ipam import allocator
from cni_ipam.allocator import Choice
from cni_ipam.defaults import whole_subnet
from cni_ipam.lease import Lease, Tenant
from cni_ipam.lease_store import Transaction
from cni_ipam.place import Place
from cni_ipam.poolfile import overlap
from cni_ipam.ranges import Address, RangeSet

T = TypeVar("T")
DEFAULT = whole_subnet(ipaddress.ip_network("172.17.0.0/16"))
DEFAULT_IPV6 = whole_subnet(ipaddress.ip_network("fd00:17::/64"))


class MemoryStore:
    """The leases of one pool, in dictionaries; `others` are the subnets of other pools, by pool."""

    def __init__(
        self, place: Place, others: Sequence[tuple[str, str]] = (), taken: Iterable[int] = ()
    ) -> None:
        self.place = place
        self.taken_by_hand = set(taken)
        self.full: dict[str, set[int]] = {}
        self.looked = 0
        self._others = others
        self._leases: dict[AttachmentKey, Lease] = {}
        self._cursors: dict[str, int] = {}
        self._networks: dict[str, list[str]] = {}
        self._lock = threading.Lock()

    def exists(self) -> bool:
        return bool(self._leases)

    def transaction(self, work: Callable[[Transaction], T]) -> T:
        with self._lock:
            return work(self)

    def prefixes(self, _choice: Choice) -> tuple[str, ...]:
        return ()

    def can_grow(self, _range_sets: Sequence[RangeSet]) -> bool:
        return False

    def lease_of(self, key: AttachmentKey) -> Lease | None:
        return self._leases.get(key)

    def holds(self, lease: Lease, address: str) -> bool:
        held = self._leases.get(lease.key)
        return held is not None and address in held.addresses

    def holder(self, version: int, number: int) -> Lease | None:
        found = (lease for lease in self._leases.values() if self._has(lease, version, number))
        return next(found, None)

    @staticmethod
    def _has(lease: Lease, version: int, number: int) -> bool:
        held = map(ipaddress.ip_interface, lease.addresses)
        return any((address.version, int(address.ip)) == (version, number) for address in held)

    def leases(self) -> Iterator[Lease]:
        yield from self._leases.values()

    def _numbers(self, version: int) -> set[int]:
        held = (ipaddress.ip_interface(a) for lease in self._leases.values() for a in lease.addresses)
        return self.taken_by_hand | {int(address.ip) for address in held if address.version == version}

    def taken(self, version: int, block: int) -> Collection[int]:
        self.looked += 1
        return {number for number in self._numbers(version) if number >> 8 == block}

    def is_taken(self, version: int, number: int) -> bool:
        return number in self._numbers(version)

    def full_blocks(self, range_set: RangeSet, group: int) -> Collection[int]:
        return {block for block in self.full.get(range_set.identity, ()) if block >> 8 == group}

    def mark_full(self, range_set: RangeSet, blocks: Sequence[int]) -> None:
        self.full.setdefault(range_set.identity, set()).update(blocks)

    def leasable(self, range_set: RangeSet) -> RangeSet:
        return range_set

    def reserve(self, _range_set: RangeSet, requested: Address | None, _tenant: Tenant) -> Address | None:
        return requested

    def exhausted(self, range_set: RangeSet) -> PoolExhausted:
        return allocator.exhausted(range_set, self.place.pool)

    def kept(self) -> set[AttachmentKey]:
        return set()

    def unpin(self, key: AttachmentKey) -> None:
        """Do nothing: no address is kept without a lease."""

    def allocate(self, lease: Lease) -> None:
        for address in map(ipaddress.ip_interface, lease.addresses):
            if self.is_taken(address.version, int(address.ip)):
                raise IoFailure(f"write lease {address}: File exists")
        self._leases[lease.key] = lease

    def release(self, lease: Lease) -> None:
        self._leases.pop(lease.key, None)
        for address in map(ipaddress.ip_interface, lease.addresses):
            for blocks in self.full.values():
                blocks.discard(int(address.ip) >> 8)

    def cursor(self, range_set: RangeSet) -> int | None:
        return self._cursors.get(range_set.identity)

    def move_cursor(self, range_set: RangeSet, address: str) -> None:
        self._cursors[range_set.identity] = int(ipaddress.ip_interface(address).ip)

    def record(self, network: str, sets: Sequence[RangeSet]) -> bool:
        new = [range_set.identity for range_set in sets]
        before, self._networks[network] = self._networks.get(network), new
        return before != new

    def default_range_sets(self, network: str, *, ipv6: bool) -> tuple[RangeSet, ...]:
        sets = (DEFAULT, DEFAULT_IPV6) if ipv6 else (DEFAULT,)
        self.record(network, sets)
        return sets

    def overlaps(self, sets: Sequence[RangeSet]) -> list[str]:
        ours = {item.subnet for range_set in sets for item in range_set.ranges}
        return [
            f"subnet {subnet} of pool {self.place.pool} overlaps {text} of pool {other}"
            for other, text in self._others
            for subnet in sorted(ours, key=str)
            if overlap(subnet, ipaddress.ip_network(text))
        ]

    def is_locked_by(self, _path: str) -> bool:
        return False

    def check_writable(self) -> None:
        """Memory always is."""
