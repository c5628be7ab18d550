"""Leases on this node's disk. The only module that knows the layout; docs/lease-store.md describes it.

    <pool>/lock                                  held for every change of the pool
    <pool>/cursors/<range set>                   the address given last, as text
    <pool>/<boot id>/owners/<key>                one attachment: its owner and its addresses
    <pool>/<boot id>/leases/<block>/<address>    hard link to the owner's file: the address is taken
    <pool>/<boot id>/full/<range set>/<group>/<block>    no address of the block is free

A lease is complete as soon as its name exists, since link(2) is atomic and its text was written before. The
leases of another boot are void as a whole: no sandbox outlives its boot, so nothing has to be synchronised
to the disk.
"""

import contextlib
import ipaddress
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TypeVar

from cni_core import statefile
from cni_core.boot import boot_id, is_id
from cni_core.call import AttachmentKey
from cni_core.errors import IoFailure, PoolExhausted
from cni_core.lock import locked
from cni_ipam import allocator, defaults
from cni_ipam import lease as lease_text
from cni_ipam.addresses import address_text, numbers_of, parse_address
from cni_ipam.allocator import BLOCK_BITS, GROUP_BITS, Choice
from cni_ipam.lease import Lease, Tenant
from cni_ipam.lease_store import Transaction
from cni_ipam.place import Place
from cni_ipam.poolfile import PoolFile
from cni_ipam.ranges import Address, RangeSet, gaps, to_address

T = TypeVar("T")
_SWEEP = 200  # entries of earlier boots removed in one call, so that no call is slow
_MARKED_SETS_MOST = 64  # a release looks at the marks of each
_ADDRESS_WIDTH = 39  # of the longest IPv6 address, as text

# A long-lived process does not list a pool's directory again until it changes (stat(2), st_mtime).
_swept: dict[str, tuple[int, int]] = {}


class DiskStore:
    """The leases of one pool, as seen from this boot. Every change belongs into a transaction."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.directory = f"{place.data_dir}/{place.pool}"
        self.file = PoolFile(place)
        self._boot = boot_id()
        self._current = f"{self.directory}/{self._boot}"

    def transaction(self, work: Callable[[Transaction], T]) -> T:
        """Run a function with the pool's lock held; also remove some of the leases of earlier boots."""
        with locked(f"{self.directory}/lock"):
            self._sweep()
            return work(self)

    def is_locked_by(self, path: str) -> bool:
        """Return whether a transaction holds the lock file at a path."""
        with contextlib.suppress(FileNotFoundError):
            return os.path.samefile(path, f"{self.directory}/lock")
        return False

    def exists(self) -> bool:
        """Return whether anything was ever leased from the pool in this boot."""
        return os.path.isdir(self._current)

    def prefixes(self, choice: Choice) -> tuple[str, ...]:
        """Return the CIDRs of an address's range."""
        ends = (
            to_address(choice.range.version, number) for number in (choice.range.first, choice.range.last)
        )
        return tuple(str(network) for network in ipaddress.summarize_address_range(*ends))

    def can_grow(self, _range_sets: Sequence[RangeSet]) -> bool:
        """Return False: the pool is all there is."""
        return False

    def check_writable(self) -> None:
        """Raise IoFailure if the pool cannot be written; under its lock."""
        probe = f"{self.directory}/probe"
        statefile.write_file(probe, "")
        statefile.remove_file(probe)

    # Occupancy, for cni_ipam.allocator.

    def _block_path(self, version: int, block: int) -> str:
        return f"{self._current}/leases/{address_text(version, block << BLOCK_BITS)}"

    def taken(self, version: int, block: int) -> Collection[int]:
        """Return the taken addresses of a block."""
        names = statefile.list_directory(self._block_path(version, block))
        return set(numbers_of(version, names))

    def all_taken(self, version: int) -> Iterator[int]:
        """Yield every taken address of an IP version."""
        directory = f"{self._current}/leases"
        for number in numbers_of(version, statefile.list_directory(directory)):
            yield from self.taken(version, number >> BLOCK_BITS)

    def is_taken(self, version: int, number: int) -> bool:
        """Return whether one address is taken."""
        return os.path.lexists(self._address_path(version, number))

    def _address_path(self, version: int, number: int) -> str:
        return f"{self._block_path(version, number >> BLOCK_BITS)}/{address_text(version, number)}"

    def _full_path(self, version: int, identity: str, group: int) -> str:
        first = address_text(version, group << (BLOCK_BITS + GROUP_BITS))
        return f"{self._current}/full/{identity}/{first}"

    def full_blocks(self, range_set: RangeSet, group: int) -> Collection[int]:
        """Return the blocks of a group that are marked as full for a range set."""
        version = range_set.version
        names = statefile.list_directory(self._full_path(version, range_set.identity, group))
        return {number >> BLOCK_BITS for number in numbers_of(version, names)}

    def mark_full(self, range_set: RangeSet, blocks: Sequence[int]) -> None:
        """Mark blocks as full for a range set."""
        for block in blocks:
            self._mark_full(range_set.version, range_set.identity, block)

    def _mark_full(self, version: int, identity: str, block: int) -> None:
        directory = self._full_path(version, identity, block >> GROUP_BITS)
        statefile.make_directory(directory)
        name = address_text(version, block << BLOCK_BITS)
        try:
            os.close(os.open(f"{directory}/{name}", os.O_CREAT | os.O_WRONLY, 0o600))
        except OSError as error:
            raise IoFailure(f"mark {name} as full: {error.strerror}") from error

    def _unmark(self, version: int, number: int) -> None:
        for identity in statefile.list_directory(f"{self._current}/full"):
            self._remove_mark(version, identity, number >> BLOCK_BITS)

    def _remove_mark(self, version: int, identity: str, block: int) -> None:
        directory = self._full_path(version, identity, block >> GROUP_BITS)
        statefile.remove_file(f"{directory}/{address_text(version, block << BLOCK_BITS)}")

    def leasable(self, range_set: RangeSet) -> RangeSet:
        """Return the range set: all of it is this node's."""
        return range_set

    def reserve(self, _range_set: RangeSet, requested: Address | None, _tenant: Tenant) -> Address | None:
        """Return the requested address: none is kept for anybody."""
        return requested

    def exhausted(self, range_set: RangeSet) -> PoolExhausted:
        """Return the error for a range set without a free address."""
        return allocator.exhausted(range_set, self.place.pool)

    def unpin(self, key: AttachmentKey) -> None:
        """Do nothing: no address is kept without a lease."""

    def kept(self) -> set[AttachmentKey]:
        """Return no attachment: no address is kept without a lease."""
        return set()

    # Subnets.

    def record(self, network: str, sets: Sequence[RangeSet]) -> bool:
        """Record the subnets and ranges of a network that uses the pool; return whether they are new."""
        return self.file.record(network, sets)

    def default_range_sets(self, network: str, *, ipv6: bool) -> tuple[RangeSet, ...]:
        """Return the default subnets of a network that configures none."""
        return defaults.default_range_sets(self.file, network, ipv6=ipv6)

    def overlaps(self, sets: Sequence[RangeSet]) -> list[str]:
        """Describe each subnet that overlaps a subnet of another pool of this node that has leases."""
        return self.file.overlaps(sets, self._is_used)

    def _is_used(self, pool: str) -> bool:
        return bool(statefile.list_directory(f"{self.place.data_dir}/{pool}/{self._boot}/owners"))

    def carry_marks(self, before: RangeSet, now: RangeSet) -> None:
        """Keep the marks of a set that got or lost a few addresses: a search would read each block anew.

        A mark stays true as long as its block has got none: so those around what the set has got are removed.
        """
        if before.identity == now.identity:
            return
        got = (part for ends in now.ordered for part in gaps(*ends, before.ordered))
        for first, last in got:
            for block in range(first >> BLOCK_BITS, (last >> BLOCK_BITS) + 1):
                self._remove_mark(now.version, before.identity, block)
        marks = f"{self._current}/full"
        with contextlib.suppress(OSError):  # none, or another process has marked some for the new set
            os.rename(f"{marks}/{before.identity}", f"{marks}/{now.identity}")

    def trim_marks(self) -> None:
        """Remove all marks once those of many former sets are there: one-shot plugins carry none along."""
        if len(statefile.list_directory(f"{self._current}/full")) > _MARKED_SETS_MOST:
            with locked(f"{self.directory}/lock"):
                self.clear_marks()

    def clear_marks(self) -> None:
        """Remove all marks of full blocks: each set of held blocks has its own, and old ones pile up."""
        statefile.remove_tree(f"{self._current}/full", _SWEEP)

    # Cursors.

    def cursor(self, range_set: RangeSet) -> int | None:
        """Return the address of a range set that was given last."""
        text = statefile.read_file(f"{self.directory}/cursors/{range_set.identity}")
        try:
            return parse_address((text or "").strip())[1]
        except OSError:
            return None

    def move_cursor(self, range_set: RangeSet, address: str) -> None:
        """Record the address of a range set that was given last."""
        directory = f"{self.directory}/cursors"
        statefile.make_directory(directory)
        text = f"{address.partition('/')[0]:<{_ADDRESS_WIDTH}}\n"
        statefile.overwrite_file(f"{directory}/{range_set.identity}", text)

    # Leases.

    def _own_path(self, key: AttachmentKey) -> str:
        return f"{self._current}/owners/{statefile.file_name(key.text)}"

    def lease_of(self, key: AttachmentKey) -> Lease | None:
        """Return the lease of an attachment, None if it has none."""
        text = statefile.read_file(self._own_path(key))
        if text is None:
            return None
        lease = lease_text.parse(text)
        return lease if lease.key == key and lease.is_whole else self._recovered(key)

    def holder(self, version: int, number: int) -> Lease | None:
        """Return the lease that an address is bound to, None if it is free."""
        text = statefile.read_file(self._address_path(version, number))
        return None if text is None else lease_text.parse(text)

    def _recovered(self, key: AttachmentKey) -> Lease:
        """Return a lease whose file was emptied by hand, from the names of its addresses."""
        bare = Lease(key, "", ())
        found = []
        for version in (4, 6):
            taken = (address_text(version, number) for number in self.all_taken(version))
            found += [address for address in taken if self.holds(bare, address)]
        return bare._replace(addresses=tuple(found))

    def allocate(self, lease: Lease) -> None:
        """Bind addresses to an attachment: first its own file, then a name for each address."""
        path = self._own_path(lease.key)
        statefile.make_directory(os.path.dirname(path))
        statefile.write_file(path, lease_text.render(lease, self._boot))
        for address in lease.addresses:
            name = self._lease_path(address)
            try:
                statefile.make_directory(os.path.dirname(name))
                os.link(path, name)
            except (OSError, IoFailure) as error:
                self.release(lease)
                raise IoFailure(f"write lease {address}: {error}") from error

    def _lease_path(self, address: str) -> str:
        return self._address_path(*parse_address(address))

    def holds(self, lease: Lease, address: str) -> bool:
        """Return whether an address is bound to a lease: both names are links to one file."""
        try:
            return os.path.samefile(self._lease_path(address), self._own_path(lease.key))
        except FileNotFoundError:
            return False

    def release(self, lease: Lease) -> None:
        """Release the addresses of a lease: marks first, its own file last, so that it can be repeated."""
        for address in lease.addresses:
            if not self.holds(lease, address):
                continue
            self._unmark(*parse_address(address))
            name = self._lease_path(address)
            statefile.remove_file(name)
            statefile.remove_directory(os.path.dirname(name))
        statefile.remove_file(self._own_path(lease.key))

    def boots(self) -> list[str]:
        """Return the boots that have leases, this one first; the leases of the others are void."""
        others = [name for name in statefile.list_directory(self.directory) if self._is_earlier(name)]
        return [self._boot, *sorted(others)]

    def _is_earlier(self, name: str) -> bool:
        return name != self._boot and is_id(name)  # nothing else is swept away

    def leases(self, boot: str = "") -> Iterator[Lease]:
        """Yield every lease of this boot, or of an earlier one."""
        directory = f"{self.directory}/{boot or self._boot}/owners"
        for name in statefile.list_directory(directory):
            text = statefile.read_file(f"{directory}/{name}")
            if text is not None and name != ".new":
                lease = lease_text.parse(text)
                whole = lease.is_whole and statefile.file_name(lease.key.text) == name
                yield lease if whole else self._recovered(AttachmentKey.parse(name))

    def _sweep(self) -> None:
        """Remove some of the leases of earlier boots."""
        try:
            found = os.stat(self.directory)
        except OSError:  # removed by hand meanwhile
            return
        seen = found.st_ino, found.st_mtime_ns
        if _swept.get(self._current) == seen:
            return
        left = _SWEEP
        for name in statefile.list_directory(self.directory):
            if self._is_earlier(name):
                left = statefile.remove_tree(f"{self.directory}/{name}", left)
        if left == _SWEEP:
            _swept[self._current] = seen
