"""Choosing addresses: a pure decision from the leasable addresses, the taken ones, and the cursor.

`Occupancy` shows the taken addresses in blocks of 256. Blocks without a free address are marked and skipped,
so that the cost does not grow with the leases or the size of the subnet.
"""

import ipaddress
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple, Protocol

from cni_core.errors import AddressUnavailable, PoolExhausted
from cni_ipam.ranges import Address, Interval, Range, RangeSet, after, clip, count, to_address

BLOCK_BITS = 8
GROUP_BITS = 8  # blocks in a group, whose marks are read at once
_BLOCK_SIZE = 1 << BLOCK_BITS


class AddressTaken(AddressUnavailable):
    """A requested address is another attachment's."""

    def __init__(self, address: Address, range_set: RangeSet) -> None:
        where = range_set.describe()
        super().__init__(f"requested IP address {address} is not available in range set {where}")
        self.address = address


class Occupancy(Protocol):
    """The taken addresses. A block is an address without its last 8 bits, a group an address without 16."""

    def taken(self, version: int, block: int) -> Collection[int]:
        """Return the taken addresses of a block."""

    def is_taken(self, version: int, number: int) -> bool:
        """Return whether one address is taken."""

    def full_blocks(self, range_set: RangeSet, group: int) -> Collection[int]:
        """Return the blocks of a group that are marked as full for a range set."""


class Choice(NamedTuple):
    """An address to lease, and its range."""

    number: int
    range: Range

    @property
    def cidr(self) -> str:
        """The address with the prefix length of its subnet."""
        return f"{to_address(self.range.version, self.number)}/{self.range.subnet.prefixlen}"


class Search(NamedTuple):
    """The result of a search: an address, None if all are taken; and the blocks to mark as full."""

    choice: Choice | None
    full: tuple[int, ...] = ()


def search(range_set: RangeSet, occupancy: Occupancy, cursor: int | None) -> Search:
    """Search for the next free address after the cursor, wrapping around."""
    look = _Look(range_set, occupancy)
    number = look.next_free(after(range_set.intervals, cursor))
    if number is None:
        return Search(None, tuple(look.full))
    found = range_set.range_of(number)
    assert found is not None  # noqa: S101 - intervals lie inside their subnets
    return Search(Choice(number, found), tuple(look.full))


def exhausted(range_set: RangeSet, pool: str) -> PoolExhausted:
    """Return the error for a range set without a free address."""
    where = f"pool {pool}: all {count(range_set.intervals)} are leased"
    return PoolExhausted(f"no IP addresses available in range set: {range_set.describe()}", where)


class _Look:
    """One look at the taken addresses, each block read once: a node may hold many small parts of a pool."""

    def __init__(self, range_set: RangeSet, occupancy: Occupancy) -> None:
        self.full: list[int] = []  # blocks that turned out to be full
        self._range_set = range_set
        self._occupancy = occupancy
        self._marked: dict[int, Collection[int]] = {}
        self._free: dict[int, list[int]] = {}

    def next_free(self, parts: Iterator[Interval]) -> int | None:
        """Return the first free address of intervals in their order."""
        for at, (first, last) in enumerate(parts):
            if at == 0 and not self._occupancy.is_taken(self._range_set.version, first):
                return first  # nearly always so, and cheaper than reading a whole block
            for block in self._open_blocks(first >> BLOCK_BITS, last >> BLOCK_BITS):
                free = self._free_of(block)
                place = bisect_left(free, first)
                if place < len(free) and free[place] <= last:
                    return free[place]
        return None

    def _open_blocks(self, block: int, last: int) -> Iterator[int]:
        """Yield the blocks of an interval that are not marked as full."""
        while block <= last:
            group = block >> GROUP_BITS
            if group not in self._marked:
                self._marked[group] = self._occupancy.full_blocks(self._range_set, group)
            end = min(last, ((group + 1) << GROUP_BITS) - 1)
            yield from (number for number in range(block, end + 1) if number not in self._marked[group])
            block = end + 1

    def _free_of(self, block: int) -> list[int]:
        """Return the free addresses of a block, sorted; note a block without any."""
        if block not in self._free:
            start = block << BLOCK_BITS
            allowed = clip(self._range_set.ordered, start, start + _BLOCK_SIZE - 1)
            taken = self._occupancy.taken(self._range_set.version, block)
            free = [n for low, high in allowed for n in range(low, high + 1) if n not in taken]
            self._free[block] = free
            if not free:
                self.full.append(block)
        return self._free[block]


def choose(
    range_set: RangeSet, requested: Address | None, occupancy: Occupancy, cursor: int | None
) -> Search:
    """Find the requested address of a set, or the next free one if none is requested.

    Raises AddressUnavailable for an address that cannot be leased.
    """
    if requested is None:
        return search(range_set, occupancy, cursor)
    number = int(requested)
    found = range_set.range_of(number)
    assert found is not None  # noqa: S101 - assign() gave this set an address in it
    reason = found.reserved_as(number)
    if reason:
        raise AddressUnavailable(f"requested ip {requested} {reason}")
    if occupancy.is_taken(range_set.version, number):
        raise AddressTaken(requested, range_set)
    return Search(Choice(number, found))


def assign(range_sets: Sequence[RangeSet], requested: Sequence[str]) -> list[Address | None]:
    """Give each requested address to the first set whose subnets contain it and that has none yet.

    Raises AddressUnavailable for an address that no set can take.
    """
    assigned: list[Address | None] = [None] * len(range_sets)
    unused: list[str] = []
    for text in requested:
        address = ipaddress.ip_address(text)
        for at, range_set in enumerate(range_sets):
            fits = range_set.version == address.version and range_set.range_of(int(address))
            if fits and assigned[at] is None:
                assigned[at] = address
                break
        else:
            unused.append(text)
    if unused:
        where = "; ".join(range_set.describe() for range_set in range_sets)
        raise AddressUnavailable(
            f"failed to allocate all requested IPs: {' '.join(unused)}", f"not in {where}, or one too many"
        )
    return assigned
