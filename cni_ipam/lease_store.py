"""The interface of a lease store, as the verbs see it.

A lease binds addresses to an attachment. The place where it is kept (a directory of this node, the memory of
a test) is the store's own business. So is the boot of a lease: leases of an earlier boot are not there.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

from cni_core.call import AttachmentKey
from cni_core.errors import PoolExhausted
from cni_ipam.allocator import Choice, Occupancy
from cni_ipam.lease import Lease, Tenant
from cni_ipam.place import Place
from cni_ipam.ranges import Address, RangeSet

T = TypeVar("T")


class Transaction(Occupancy, Protocol):
    """A pool that nobody else changes meanwhile."""

    def lease_of(self, key: AttachmentKey) -> Lease | None:
        """Return the lease of an attachment, None if it has none."""

    def holder(self, version: int, number: int) -> Lease | None:
        """Return the lease that an address is bound to, None if it is free."""

    def leases(self) -> Iterator[Lease]:
        """Yield every lease."""

    def leasable(self, range_set: RangeSet) -> RangeSet:
        """Return the part of a range set that may be leased on this node."""

    def reserve(self, range_set: RangeSet, requested: Address | None, tenant: Tenant) -> Address | None:
        """Return the address that a tenant has to get, None if any free one will do."""

    def exhausted(self, range_set: RangeSet) -> PoolExhausted:
        """Return the error for a range set without a free address."""

    def allocate(self, lease: Lease) -> None:
        """Bind the addresses of a lease, all or none; raises IoFailure."""

    def release(self, lease: Lease) -> None:
        """Release the addresses of a lease that are still its own."""

    def unpin(self, key: AttachmentKey) -> None:
        """Give up the addresses that are kept for an attachment whose ADD did not come to a lease."""

    def kept(self) -> set[AttachmentKey]:
        """Return the attachments for which an address is kept."""

    def mark_full(self, range_set: RangeSet, blocks: Sequence[int]) -> None:
        """Mark blocks as full for a range set, until one of their addresses is released."""

    def cursor(self, range_set: RangeSet) -> int | None:
        """Return the address of a range set that was given last, None if unknown."""

    def move_cursor(self, range_set: RangeSet, address: str) -> None:
        """Record the address of a range set that was given last."""

    def record(self, network: str, sets: Sequence[RangeSet]) -> bool:
        """Record the subnets and ranges of a network that uses the pool; return whether they are new."""

    def default_range_sets(self, network: str, *, ipv6: bool) -> tuple[RangeSet, ...]:
        """Return the default subnets of a network that configures none; raises PoolExhausted."""

    def overlaps(self, sets: Sequence[RangeSet]) -> list[str]:
        """Describe each subnet that overlaps one of another pool: addresses may be leased twice."""

    def is_locked_by(self, path: str) -> bool:
        """Return whether the transaction holds the lock file at a path."""

    def check_writable(self) -> None:
        """Raise IoFailure if nothing can be leased."""


class LeaseStore(Protocol):
    """The leases of one pool."""

    @property
    def place(self) -> Place:
        """The pool."""

    def exists(self) -> bool:
        """Return whether anything was ever leased from the pool."""

    def transaction(self, work: Callable[[Transaction], T]) -> T:
        """Run a function on the pool, as a whole or not at all; raises TryAgainLater after a deadline.

        The function may run more than once, so it changes nothing but the pool.
        """

    def prefixes(self, choice: Choice) -> tuple[str, ...]:
        """Return the prefixes, of this node alone, that hold a leased address."""

    def can_grow(self, range_sets: Sequence[RangeSet]) -> bool:
        """Return whether a full pool can get more addresses; raises NotAvailable if nobody can tell."""

    def lease_of(self, key: AttachmentKey) -> Lease | None:
        """Return the lease of an attachment, None if it has none; outside of a transaction."""

    def holds(self, lease: Lease, address: str) -> bool:
        """Return whether an address, in CIDR form, is bound to a lease."""
