"""Block arithmetic: a pool cut into aligned blocks of a power of two, of which each node holds some. Pure.

Pods have the prefix length of their subnet, so a block is only bookkeeping, and may be small. In L3 networks
it is also the prefix that the fabric learns: so it is aligned, and never cut again.
"""

import hashlib
import ipaddress
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from cni_ipam.cluster import BLOCK_SIZE
from cni_ipam.ranges import Interval, after, count, gaps, merge, to_address

_LEAST_NODES = 8  # that `auto` counts on: the first node of a cluster sees no other
RANDOM_TRIES = 4


class Block(NamedTuple):
    """An aligned block of addresses; `size` is a power of two."""

    version: int
    start: int
    size: int

    @property
    def interval(self) -> Interval:
        """The first and the last address."""
        return self.start, self.start + self.size - 1

    @property
    def prefix(self) -> str:
        """The block in CIDR form."""
        width = 32 if self.version == 4 else 128  # noqa: PLR2004 - the IP version
        return f"{self.address}/{width - self.size.bit_length() + 1}"

    @property
    def address(self) -> str:
        """The first address as text."""
        return str(to_address(self.version, self.start))

    def contains(self, version: int, number: int) -> bool:
        """Whether an address is one of the block."""
        first, last = self.interval
        return version == self.version and first <= number <= last

    def name(self, pool: str) -> str:
        """Return the name of the block's object in an engine."""
        return object_name(pool, self.version, self.start)

    @classmethod
    def parse(cls, address: str, size: int) -> "Block":
        """Return the block that begins at an address; raises ValueError if there is none."""
        first = ipaddress.ip_address(address)
        block = cls(first.version, int(first), size)
        if size < 1 or size.bit_count() != 1 or block.start % size:
            raise ValueError(f"{address} with {size} addresses is not an aligned block")
        return block


def object_name(pool: str, version: int, number: int) -> str:
    """Return the name of a block's or pin's object: fixed width, the same for ever, and without a dot."""
    return f"{pool}.{number:08x}" if version == 4 else f"{pool}.{number:032x}"  # noqa: PLR2004 - the IP version


def pool_of(name: str) -> str:
    """Return the pool of an object's name."""
    return name.rpartition(".")[0]


def want_name(pool: str, node: str) -> str:
    """Return the name of the object by which a node asks for a block; node names have dots."""
    return f"{pool}.{hashlib.sha256(node.encode()).hexdigest()[:12]}"


def usable(intervals: Iterable[Interval], pinned: Sequence[Interval]) -> list[Interval]:
    """Return the addresses that lie in blocks: all but the pinned ones, sorted."""
    return [part for first, last in merge(intervals) for part in gaps(first, last, pinned)]


def leasable(blocks: Iterable[Block], version: int, without: Iterable[Interval]) -> list[Interval]:
    """Return the addresses of blocks but for some, sorted and disjoint."""
    holes = merge(without)
    held = merge(block.interval for block in blocks if block.version == version)
    return [part for first, last in held for part in gaps(first, last, holes)]


def auto_size(addresses: int, nodes: int) -> int:
    """Return the block size for a pool: each node can have two blocks, and at most 16 addresses in one."""
    most = addresses // (2 * max(nodes, _LEAST_NODES))
    return max(1, min(BLOCK_SIZE, 1 << (most.bit_length() - 1) if most else 1))


def low_water(size: int) -> int:
    """Return the number of free addresses below which a node claims a further block ahead of need.

    None of single addresses: those are for pools smaller than the cluster, and held ones starve other nodes.
    """
    return min(max(2, size // 4), size - 1)


class Cut:
    """The blocks of a pool; a block is known by its number, the start divided by the size."""

    def __init__(self, version: int, addresses: Sequence[Interval], size: int) -> None:
        self._version = version
        self._size = size
        self._numbers = merge((first // size, last // size) for first, last in addresses)
        self.total = count(self._numbers)

    def block(self, number: int) -> Block:
        """Return the block of a number."""
        return Block(self._version, number * self._size, self._size)

    def candidates(self, node: str, taken: Collection[int]) -> Iterator[Block]:
        """Yield the blocks whose starts are not taken: first some random ones, then all.

        The order differs by node, so that forty nodes that boot together do not fight for the first block.
        """
        if not self.total:
            return
        seen = set()
        for turn in range(RANDOM_TRIES):
            block = self.block(self._nth(self._seed(f"{node} {turn} {len(taken)}")))
            if block.start not in taken and block.start not in seen:
                seen.add(block.start)
                yield block
        start = self._nth(self._seed(node))
        for first, last in after(self._numbers, start):
            for number in range(first, last + 1):
                block = self.block(number)
                if block.start not in taken and block.start not in seen:
                    yield block

    def _seed(self, text: str) -> int:
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16]) % self.total

    def _nth(self, position: int) -> int:
        for first, last in self._numbers:
            if position <= last - first:
                return first + position
            position -= last - first + 1
        raise AssertionError(position)  # it is less than the total
