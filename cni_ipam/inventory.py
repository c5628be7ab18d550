"""What is leased on this node, over all pools, for people and for metrics. Changes nothing."""

import ipaddress
import os
from collections.abc import Iterator
from typing import NamedTuple

from cni_ipam import poolfile
from cni_ipam.owner import Owner
from cni_ipam.ranges import Network, clip, count
from cni_ipam.store import Store


class Held(NamedTuple):
    """One leased address in CIDR form; a void one is of an earlier boot and about to be removed."""

    pool: str
    address: str
    owner: Owner
    void: bool


class Usage(NamedTuple):
    """How full a subnet is, in addresses; `reserved` ones are never given."""

    pool: str
    subnet: str
    size: int
    used: int
    free: int
    reserved: int


def leases(data_dir: str, *, void: bool = True) -> Iterator[Held]:
    """Yield every lease of a data directory."""
    for pool in poolfile.pools(data_dir):
        store = Store(data_dir, pool)
        this, *earlier = store.boots()
        for boot in (this, *(earlier if void else ())):
            for owner in store.owners(boot):
                yield from (Held(pool, address, owner, boot != this) for address in owner.addresses)


def by_address(held: Held) -> tuple[str, int, int]:
    """Return what leases are sorted by."""
    address = ipaddress.ip_interface(held.address)
    return held.pool, address.version, int(address.ip)


def usage(data_dir: str) -> Iterator[Usage]:
    """Yield how full each subnet of each pool is."""
    for pool in poolfile.pools(data_dir):
        store = Store(data_dir, pool)
        for subnet in poolfile.subnets(data_dir, pool):
            yield _usage(data_dir, store, subnet)


def _usage(data_dir: str, store: Store, subnet: Network) -> Usage:
    pool = os.path.basename(store.directory)
    ranges = poolfile.ranges(data_dir, pool, subnet)
    first, last = int(subnet.network_address), int(subnet.broadcast_address)
    taken = [number for number in store.all_taken(subnet.version) if first <= number <= last]
    size = count(ranges)
    free = size - sum(bool(clip(ranges, number, number)) for number in taken)
    return Usage(pool, str(subnet), size, len(taken), free, subnet.num_addresses - size)
