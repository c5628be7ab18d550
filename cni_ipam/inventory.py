"""The leases on this node, over all pools, for operators and metrics. Changes nothing."""

import ipaddress
from collections.abc import Iterator
from typing import NamedTuple

from cni_ipam.disk_store import DiskStore
from cni_ipam.lease import Lease
from cni_ipam.place import Place
from cni_ipam.poolfile import pools
from cni_ipam.ranges import Network, clip, count


class LeasedAddress(NamedTuple):
    """One leased address in CIDR form; a void one is from an earlier boot, and will be removed."""

    pool: str
    address: str
    lease: Lease
    void: bool


class Usage(NamedTuple):
    """The use of a subnet, counted in addresses; `reserved` ones are never leased."""

    pool: str
    subnet: str
    size: int
    used: int
    free: int
    reserved: int


def leased_addresses(data_dir: str, *, void: bool = True) -> Iterator[LeasedAddress]:
    """Yield every leased address of a data directory."""
    for pool in pools(data_dir):
        store = DiskStore(Place(pool, data_dir))
        this, *earlier = store.boots()
        for boot in (this, *(earlier if void else ())):
            for lease in store.leases(boot):
                yield from (LeasedAddress(pool, address, lease, boot != this) for address in lease.addresses)


def by_address(leased: LeasedAddress) -> tuple[str, int, int]:
    """Return the sort key of an address."""
    address = ipaddress.ip_interface(leased.address)
    return leased.pool, address.version, int(address.ip)


def usage(data_dir: str) -> Iterator[Usage]:
    """Yield the use of each subnet of each pool."""
    for pool in pools(data_dir):
        store = DiskStore(Place(pool, data_dir))
        for subnet in store.file.subnets():
            yield _usage(store, subnet)


def _usage(store: DiskStore, subnet: Network) -> Usage:
    ranges = store.file.ranges(subnet)
    first, last = int(subnet.network_address), int(subnet.broadcast_address)
    taken = [number for number in store.all_taken(subnet.version) if first <= number <= last]
    size = count(ranges)
    free = size - sum(bool(clip(ranges, number, number)) for number in taken)
    return Usage(store.place.pool, str(subnet), size, len(taken), free, subnet.num_addresses - size)
