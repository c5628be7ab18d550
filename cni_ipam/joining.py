"""Leases that are older than the cluster: of this node's own pool, or of whereabouts.

Each of their addresses is pinned for its pod, so that no node leases it from a block; the pin goes with the
pod. Every node does so before the first one claims a block.
"""

import ipaddress
from collections.abc import Callable, Sequence
from typing import NamedTuple

from cni_core.call import AttachmentKey, PodId
from cni_core.errors import AddressUnavailable
from cni_ipam import membership
from cni_ipam.block_store import BlockStore
from cni_ipam.holdings import Holdings
from cni_ipam.lease import Lease, Tenant, timestamp
from cni_ipam.pins import Pins
from cni_ipam.ranges import RangeSet
from cni_ipam.whereabouts import Allocation


class Joined(NamedTuple):
    """The addresses that were pinned, those that were ours already, those of other nodes, and conflicts."""

    pinned: tuple[str, ...] = ()
    present: tuple[str, ...] = ()
    elsewhere: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()


def pin_leases(store: BlockStore, range_sets: Sequence[RangeSet]) -> Joined:
    """Pin the address of each lease on this node's disk that is in none of its blocks."""
    leases = list(store.leases())
    claims = store.claims()
    with claims.alone():
        membership.confirm(claims)
    pinned, present, conflicts = [], [], []
    for lease in leases:
        tenant = Tenant(lease.key, lease.network, lease.pod)
        for cidr in lease.addresses:
            address = ipaddress.ip_interface(cidr).ip
            range_set = _range_set(range_sets, int(address), address.version)
            if _is_ours(store.holdings.read(), int(address), address.version):
                present.append(str(address))
            elif range_set is None:
                conflicts.append(f"{address} of {lease.owner}: in no subnet of {lease.network}")
            else:
                try:
                    Pins(store.claims()).pin(range_set, address, tenant)
                    pinned.append(str(address))
                except AddressUnavailable as error:
                    conflicts.append(f"{address} of {lease.owner}: {error.details or error.msg}")
    return Joined(tuple(pinned), tuple(present), (), tuple(conflicts))


def _range_set(range_sets: Sequence[RangeSet], number: int, version: int) -> RangeSet | None:
    found = (each for each in range_sets if each.version == version and each.range_of(number))
    return next(found, None)


def _is_ours(holdings: Holdings, number: int, version: int) -> bool:
    blocks = (held.block for held in holdings.blocks if held.block.version == version)
    is_held = any(block.start <= number <= block.interval[1] for block in blocks)
    return is_held or holdings.pin(version, number) is not None


def lease_allocations(
    store: BlockStore,
    network: str,
    found: Sequence[Allocation],
    range_sets: Sequence[RangeSet],
    is_here: Callable[[AttachmentKey], bool],
) -> Joined:
    """Lease on this node what whereabouts has leased to its containers; then pin_leases() pins it."""
    here = [each for each in found if is_here(each.key)]
    elsewhere = tuple(each.address for each in found if each not in here)
    wanted: dict[AttachmentKey, Lease] = {}
    conflicts = []
    for each in here:
        address = ipaddress.ip_address(each.address)
        range_set = _range_set(range_sets, int(address), address.version)
        chosen = range_set.range_of(int(address)) if range_set is not None else None
        if chosen is None:
            conflicts.append(f"{address} of {each.pod or each.key.text}: in no subnet of {network}")
            continue
        namespace, _slash, name = each.pod.partition("/")
        fresh = Lease(each.key, network, (), PodId(namespace, name), timestamp())
        lease = wanted.get(each.key, fresh)
        cidr = f"{address}/{chosen.subnet.prefixlen}"
        wanted[each.key] = lease._replace(addresses=(*lease.addresses, cidr))
    if not conflicts:
        for lease in wanted.values():
            store.lease_as_is(lease)
    return Joined((), (), elsewhere, tuple(conflicts))
