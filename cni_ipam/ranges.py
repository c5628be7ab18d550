"""Address arithmetic: ranges, range sets, and their leasable addresses. Pure.

Addresses are integers here. A network may exclude 75,000 of them: values derived from the exclusions are
computed in one pass, once for each range set.
"""

import hashlib
import ipaddress
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain
from typing import NamedTuple

Interval = tuple[int, int]  # first and last address, both included
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def without_zone(text: str) -> str:
    """Return the text of an address; raises ValueError for one with a zone (RFC 4007), which has no use here.

    `ipaddress` takes it, and the runtime that reads the result does not.
    """
    if "%" in text:
        raise ValueError(f"{text} has a zone")
    return text


def to_address(version: int, number: int) -> Address:
    """Return the address of a number in an IP version."""
    if version == 4:  # noqa: PLR2004 - the IP version
        return ipaddress.IPv4Address(number)
    return ipaddress.IPv6Address(number)


class Range(NamedTuple):
    """Part of a subnet from which addresses are leased; `reserved` ones are never leased.

    `gateway` is the text of the router's address, "" for none; it may lie outside the subnet. `reserved` is
    sorted and disjoint, and holds the addresses that any range of the network reserves in this subnet: one
    range must not lease the address that another range knows as a router's.
    """

    subnet: Network
    first: int
    last: int
    gateway: str = ""
    reserved: tuple[Interval, ...] = ()

    @property
    def version(self) -> int:
        """The IP version."""
        return self.subnet.version

    def describe(self) -> str:
        """Return the range in the notation of host-local: without the subnet's own addresses."""
        outer = edges(self.subnet)
        first, last = self.first + (self.first in outer), self.last - (self.last in outer)
        return f"{to_address(self.version, first)}-{to_address(self.version, last)}"

    def free_intervals(self) -> Iterator[Interval]:
        """Yield the leasable addresses, as intervals, in order."""
        return gaps(self.first, self.last, self.reserved)

    def reserved_as(self, number: int) -> str:
        """Return the reason why an address of the subnet is never leased, "" if there is none."""
        if self.gateway and number == int(ipaddress.ip_address(self.gateway)):
            return "is subnet's gateway"
        if number in edges(self.subnet):
            return "is subnet's network or broadcast address"
        if clip(self.reserved, number, number):
            return "is excluded, or reserved by another range"
        return ""

    def holds(self, number: int) -> bool:
        """Return whether an address lies in the subnet."""
        return int(self.subnet.network_address) <= number <= int(self.subnet.broadcast_address)


class Intervals(list[Interval]):
    """Disjoint intervals in any order, with a search for the one that holds an address."""

    @cached_property
    def _starts(self) -> list[Interval]:
        """The first address of each interval and the interval's place, sorted by address."""
        return sorted((first, place) for place, (first, _last) in enumerate(self))

    def position(self, number: int) -> int | None:
        """Return the place of the interval that holds an address, None if none does."""
        at = bisect_right(self._starts, number, key=_first)
        place = self._starts[at - 1][1] if at else None
        return place if place is not None and number <= self[place][1] else None


class RangeSet:
    """Ranges of one family, disjoint; an attachment gets one address from the whole set.

    With `held`, sorted and disjoint, only addresses in it are leased: the rest of the set is other nodes'.
    """

    def __init__(self, ranges: Sequence[Range], held: Sequence[Interval] | None = None) -> None:
        self.ranges = tuple(ranges)
        self._held = held

    @property
    def version(self) -> int:
        """The IP version."""
        return self.ranges[0].version

    def describe(self) -> str:
        """Return the ranges in the notation of host-local."""
        return ",".join(item.describe() for item in self.ranges)

    @cached_property
    def intervals(self) -> Intervals:
        """The leasable addresses in the order in which they are leased: range by range."""
        whole = Intervals(interval for item in self.ranges for interval in item.free_intervals())
        if self._held is None:
            return whole
        return Intervals(part for ends in whole for part in clip(self._held, *ends))

    @cached_property
    def ordered(self) -> list[Interval]:
        """The leasable addresses, sorted."""
        return sorted(self.intervals)

    @cached_property
    def identity(self) -> str:
        """A short text for file names, which is the same for the same intervals."""
        text = f"{self.version}:{self.intervals}"
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def range_of(self, number: int) -> Range | None:
        """Return the range that contains an address, else the first whose subnet contains it.

        Ranges of one subnet may have different gateways: the range decides, not the subnet.
        """
        giving = (item for item in self.ranges if item.first <= number <= item.last)
        holding = (item for item in self.ranges if item.holds(number))
        return next(giving, None) or next(holding, None)


def edges(subnet: Network) -> tuple[int, ...]:
    """Return the addresses of a subnet that no host may have.

    IPv4: network and broadcast, but not of a /31 (RFC 3021) or /32. IPv6: the all-zero subnet-router anycast
    address (RFC 4291 section 2.6.1), but not of a /127 (RFC 6164) or /128.
    """
    if subnet.num_addresses <= 2:  # noqa: PLR2004 - point to point, or a single host
        return ()
    first = int(subnet.network_address)
    if subnet.version == 6:  # noqa: PLR2004 - the IP version
        return (first,)
    return (first, int(subnet.broadcast_address))


def first_usable(subnet: Network) -> str:
    """Return the gateway of a subnet that configures none; "" in a subnet of one or two addresses."""
    if subnet.num_addresses <= 2:  # noqa: PLR2004 - both ends are hosts
        return ""
    return str(subnet[1])


def merge(intervals: Iterable[Interval]) -> list[Interval]:
    """Return the same addresses as sorted, disjoint intervals, with neighbours joined."""
    merged: list[Interval] = []
    start, end = None, -1
    for first, last in sorted(intervals):
        if start is not None and first <= end + 1:
            end = max(end, last)
            continue
        if start is not None:
            merged.append((start, end))
        start, end = first, last
    return merged if start is None else [*merged, (start, end)]


def gaps(first: int, last: int, holes: Sequence[Interval]) -> Iterator[Interval]:
    """Yield the parts of an interval between holes that are sorted and disjoint."""
    low = first
    for hole_first, hole_last in clip(holes, first, last):
        if low < hole_first:
            yield (low, hole_first - 1)
        low = hole_last + 1
    if low <= last:
        yield (low, last)


def after(intervals: Sequence[Interval], cursor: int | None) -> Iterator[Interval]:
    """Yield the intervals in order from just after the cursor, wrapping to it; all if it is in none."""
    known = intervals if isinstance(intervals, Intervals) else Intervals(intervals)
    at = None if cursor is None else known.position(cursor)
    if at is None or cursor is None:
        yield from known
        return
    first, last = known[at]
    if cursor < last:
        yield (cursor + 1, last)
    for place in chain(range(at + 1, len(known)), range(at)):  # no copy: most often the first one will do
        yield known[place]
    yield (first, cursor)


def count(intervals: Iterable[Interval]) -> int:
    """Return the number of addresses in disjoint intervals."""
    return sum(last - first + 1 for first, last in intervals)


def clip(intervals: Sequence[Interval], first: int, last: int) -> list[Interval]:
    """Return the parts of sorted, disjoint intervals that lie between two addresses."""
    start = bisect_left(intervals, first, key=_last)
    parts = list(intervals[start : bisect_right(intervals, last, key=_first)])
    if parts:  # only the first and the last part can exceed the limits
        parts[0] = (max(parts[0][0], first), parts[0][1])
        parts[-1] = (parts[-1][0], min(parts[-1][1], last))
    return parts


def _first(interval: Interval) -> int:
    return interval[0]


def _last(interval: Interval) -> int:
    return interval[1]
