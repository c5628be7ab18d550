"""Leasing from a pool: the work of the verbs, on any lease store."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from cni_core.call import AttachmentKey
from cni_core.errors import CniError, DuplicateAttachment, PoolExhausted
from cni_ipam import allocator
from cni_ipam.allocator import Choice
from cni_ipam.lease import Lease, Tenant, timestamp
from cni_ipam.lease_store import Transaction
from cni_ipam.ranges import Address, RangeSet

if TYPE_CHECKING:
    from cni_ipam.config import AllocationRequest


class Granted(NamedTuple):
    """The leased addresses, and warnings for the operator."""

    choices: tuple[Choice, ...]
    warnings: tuple[str, ...] = ()


def lease(pool: Transaction, tenant: Tenant, request: "AllocationRequest") -> Granted:
    """Lease one address from each range set, or none at all."""
    range_sets, warnings = range_sets_of(pool, tenant.network, request)
    held = pool.lease_of(tenant.key)
    with _worded_as_by_host_local(request):
        wanted = allocator.assign(range_sets, request.requested)
    with _worded_as_by_host_local(request, 0):
        if held is not None:
            first, *_others = held.addresses or ("?",)
            raise DuplicateAttachment(
                f"{first.partition('/')[0]} has been allocated to {tenant.key.container_id},"
                " duplicate allocation is not allowed"
            )
    choices = []
    for at, range_set in enumerate(range_sets):
        with _worded_as_by_host_local(request, at):
            wanted[at] = pool.reserve(range_set, wanted[at], tenant)
            choices.append(_choose(pool, range_set, wanted[at], request))
    addresses = tuple(choice.cidr for choice in choices)
    made = Lease(tenant.key, tenant.network, addresses, tenant.pod, timestamp())
    pool.allocate(made)
    try:
        for range_set, address, choice in zip(range_sets, wanted, choices, strict=True):
            if address is None:
                pool.move_cursor(range_set, choice.cidr)
    except BaseException:  # such as a disk that has become full
        pool.release(made)
        raise
    return Granted(tuple(choices), warnings)


def _choose(
    pool: Transaction, range_set: RangeSet, address: Address | None, request: "AllocationRequest"
) -> Choice:
    """Return the requested address of a set, or its next free one."""
    try:
        here = pool.leasable(range_set)
        found = allocator.choose(here, address, pool, pool.cursor(range_set))
    except allocator.AddressTaken as error:
        holder = pool.holder(range_set.version, int(error.address))
        error.details = f"pool {request.place.pool}: {holder.owner if holder else 'another process'} has it"
        raise
    pool.mark_full(here, found.full)
    if found.choice is None:
        raise pool.exhausted(range_set)
    return found.choice


@contextmanager
def _worded_as_by_host_local(request: "AllocationRequest", range_set: int | None = None) -> Iterator[None]:
    """Give the errors of the block host-local's wording if its schema is used: users match on it."""
    try:
        yield
    except CniError as error:
        if request.host_local:
            prefix = "" if range_set is None else f"failed to allocate for range {range_set}: "
            error.msg, error.details = f"{prefix}{error.msg}", ""
        raise


def range_sets_of(
    pool: Transaction, network: str, request: "AllocationRequest"
) -> tuple[tuple[RangeSet, ...], tuple[str, ...]]:
    """Return the range sets of a network, recorded in its pool, and warnings of overlapping subnets."""
    if not request.range_sets:
        return pool.default_range_sets(network, ipv6=request.ipv6), ()
    is_new = pool.record(network, request.range_sets)
    return request.range_sets, overlap_warnings(pool, request) if is_new else ()


def overlap_warnings(pool: Transaction, request: "AllocationRequest") -> tuple[str, ...]:
    """Return a warning for each subnet that overlaps one of another pool."""
    overlaps = pool.overlaps(request.range_sets)
    return tuple(f"{text}: give both networks the same pool" for text in overlaps)


def release(pool: Transaction, key: AttachmentKey, networks: Collection[str]) -> None:
    """Release the lease of an attachment, if it has one in the given networks.

    Networks may share a pool: a DEL in one of them does not concern the lease of another.
    """
    held = pool.lease_of(key)
    if held is None:
        pool.unpin(key)
    elif held.network in networks:
        pool.release(held)


class Room(NamedTuple):
    """The state of a pool for STATUS: an error for each range set without a free address, and warnings."""

    full: tuple[PoolExhausted, ...]
    warnings: tuple[str, ...]


def room(pool: Transaction, network: str, request: "AllocationRequest") -> Room:
    """Check whether addresses can be leased; raises IoFailure if the pool cannot be written.

    The specification says that STATUS should fail without a free address. A runtime passes that on as a node
    that is not ready, and Kubernetes then evicts all its pods, of other networks too. So STATUS fails only if
    the configuration says so.
    """
    pool.check_writable()
    full = tuple(
        pool.exhausted(range_set)
        for range_set in range_sets_of(pool, network, request)[0]
        if allocator.search(pool.leasable(range_set), pool, pool.cursor(range_set)).choice is None
    )
    told = (f"{error.details}: {error.msg}" for error in full)
    return Room(full, (*told, *overlap_warnings(pool, request)))


def collect(pool: Transaction, networks: Collection[str], valid: Collection[AttachmentKey]) -> None:
    """Release the leases in the given networks whose attachments are not valid."""
    leases = list(pool.leases())
    for held in leases:
        if held.network in networks and held.key not in valid:
            pool.release(held)
    for key in pool.kept() - {held.key for held in leases} - set(valid):
        pool.unpin(key)
