"""The lease store on disk. The only module that knows its layout; docs/lease-store.md describes it.

    <pool>/lock                                  held for every change of the pool
    <pool>/cursors/<range set>                   the address given last, as text
    <pool>/<boot id>/owners/<key>                one attachment: whose it is and its addresses
    <pool>/<boot id>/leases/<block>/<address>    hard link to the owner's file: the address is taken
    <pool>/<boot id>/full/<range set>/<group>/<block>    no address of the block is free

A lease is complete as soon as its name exists, since link(2) is atomic and its text was written before. The
leases of another boot are void as a whole: no sandbox outlives its boot, so nothing has to be synchronised
to the disk.
"""

import contextlib
import ipaddress
import os
import re
import socket
from collections.abc import Collection, Iterable, Iterator

from cni_core import statefile
from cni_core.boot import boot_id
from cni_core.errors import IoFailure
from cni_core.lock import locked
from cni_ipam import owner as owner_text
from cni_ipam.allocator import BLOCK_BITS, GROUP_BITS
from cni_ipam.owner import Owner
from cni_ipam.ranges import to_address

DATA_DIR = "/var/lib/cni/cni-ipam"
_SWEEP = 200  # entries of earlier boots removed in one call, so that no call is slow
_ADDRESS_WIDTH = 39  # of the longest IPv6 address, as text
_BOOT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")  # nothing else is swept away


class Store:
    """The leases of one pool, as seen from this boot."""

    def __init__(self, data_dir: str, pool: str) -> None:
        self.pool = pool
        self.directory = os.path.join(data_dir, pool)
        self._boot = boot_id()
        self._current = os.path.join(self.directory, self._boot)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the pool's lock; what earlier boots left is removed a little at a time."""
        statefile.make_directory(self.directory)
        with locked(os.path.join(self.directory, "lock")):
            self._sweep()
            yield

    def exists(self) -> bool:
        """Tell whether anything was ever leased from the pool in this boot."""
        return os.path.isdir(self._current)

    def check_writable(self) -> None:
        """Raise IoFailure if the pool cannot be written; under its lock."""
        probe = os.path.join(self.directory, "probe")
        statefile.write_file(probe, "")
        statefile.remove_file(probe)

    # Occupancy, as cni_ipam.allocator asks for it.

    def _block_path(self, version: int, block: int) -> str:
        return os.path.join(self._current, "leases", str(to_address(version, block << BLOCK_BITS)))

    def taken(self, version: int, block: int) -> Collection[int]:
        """Return the taken addresses of a block."""
        names = statefile.list_directory(self._block_path(version, block))
        return set(_numbers(version, names))

    def all_taken(self, version: int) -> Iterator[int]:
        """Yield every taken address of an IP version."""
        directory = os.path.join(self._current, "leases")
        for number in _numbers(version, statefile.list_directory(directory)):
            yield from self.taken(version, number >> BLOCK_BITS)

    def is_taken(self, version: int, number: int) -> bool:
        """Tell whether one address is taken."""
        directory = self._block_path(version, number >> BLOCK_BITS)
        return os.path.lexists(os.path.join(directory, str(to_address(version, number))))

    def _full_path(self, version: int, identity: str, group: int) -> str:
        first = to_address(version, group << (BLOCK_BITS + GROUP_BITS))
        return os.path.join(self._current, "full", identity, str(first))

    def full_blocks(self, version: int, identity: str, group: int) -> Collection[int]:
        """Return the blocks of a group that are marked as full for a range set."""
        names = statefile.list_directory(self._full_path(version, identity, group))
        return {number >> BLOCK_BITS for number in _numbers(version, names)}

    def mark_full(self, version: int, identity: str, block: int) -> None:
        """Mark a block as full for a range set."""
        directory = self._full_path(version, identity, block >> GROUP_BITS)
        statefile.make_directory(directory)
        name = str(to_address(version, block << BLOCK_BITS))
        try:
            os.close(os.open(os.path.join(directory, name), os.O_CREAT | os.O_WRONLY, 0o600))
        except OSError as error:
            raise IoFailure(f"mark {name} as full: {error.strerror}") from error

    def _unmark(self, version: int, number: int) -> None:
        block = number >> BLOCK_BITS
        name = str(to_address(version, block << BLOCK_BITS))
        for identity in statefile.list_directory(os.path.join(self._current, "full")):
            directory = self._full_path(version, identity, block >> GROUP_BITS)
            statefile.remove_file(os.path.join(directory, name))

    # Cursors.

    def cursor(self, identity: str) -> int | None:
        """Return the address of a range set that was given last."""
        text = statefile.read_file(os.path.join(self.directory, "cursors", identity))
        try:
            return int(ipaddress.ip_address((text or "").strip()))
        except ValueError:
            return None

    def move_cursor(self, identity: str, address: str) -> None:
        """Remember the address of a range set that was given last."""
        directory = os.path.join(self.directory, "cursors")
        statefile.make_directory(directory)
        text = f"{address.partition('/')[0]:<{_ADDRESS_WIDTH}}\n"
        statefile.overwrite_file(os.path.join(directory, identity), text)

    # Leases.

    def _owner_path(self, key: str) -> str:
        return os.path.join(self._current, "owners", statefile.file_name(key))

    def owner(self, key: str) -> Owner | None:
        """Return what an attachment holds, None if nothing."""
        text = statefile.read_file(self._owner_path(key))
        if text is None:
            return None
        owner = owner_text.parse(text)
        return owner if owner.key == key and owner.is_whole else self._recovered(key)

    def _recovered(self, key: str) -> Owner:
        """Return the owner of a file that was emptied by hand, from the names of its leases."""
        container_id, _colon, ifname = key.partition(":")
        found = []
        for version in (4, 6):
            taken = (str(to_address(version, number)) for number in self.all_taken(version))
            found += [
                address for address in taken if self.holds(Owner(container_id, ifname, "", ()), address)
            ]
        return Owner(container_id, ifname, "", tuple(found))

    def write(self, owner: Owner) -> None:
        """Lease addresses to an attachment: first its own file, then a name for each address."""
        path = self._owner_path(owner.key)
        statefile.make_directory(os.path.dirname(path))
        statefile.write_file(path, owner_text.render(owner, self._boot))
        for address in owner.addresses:
            lease = self._lease_path(address)
            try:
                statefile.make_directory(os.path.dirname(lease))
                os.link(path, lease)
            except (OSError, IoFailure) as error:
                self.remove(owner)
                raise IoFailure(f"write lease {address}: {error}") from error

    def _lease_path(self, address: str) -> str:
        parsed = ipaddress.ip_interface(address)
        return os.path.join(self._block_path(parsed.version, int(parsed.ip) >> BLOCK_BITS), str(parsed.ip))

    def holds(self, owner: Owner, address: str) -> bool:
        """Tell whether an address is leased to an owner: both names are one file."""
        try:
            return os.path.samefile(self._lease_path(address), self._owner_path(owner.key))
        except FileNotFoundError:
            return False

    def remove(self, owner: Owner) -> None:
        """Release what an attachment holds: marks first, its own file last, so that it can be done again."""
        for address in owner.addresses:
            if not self.holds(owner, address):
                continue
            parsed = ipaddress.ip_interface(address)
            self._unmark(parsed.version, int(parsed.ip))
            lease = self._lease_path(address)
            statefile.remove_file(lease)
            statefile.remove_directory(os.path.dirname(lease))
        statefile.remove_file(self._owner_path(owner.key))

    def boots(self) -> list[str]:
        """Return the boots that have leases, this one first; those of the others are void."""
        others = [name for name in statefile.list_directory(self.directory) if self._is_earlier(name)]
        return [self._boot, *sorted(others)]

    def _is_earlier(self, name: str) -> bool:
        return name != self._boot and _BOOT.fullmatch(name) is not None

    def owners(self, boot: str = "") -> Iterator[Owner]:
        """Yield every attachment that holds addresses, or that held some in an earlier boot."""
        directory = os.path.join(self.directory, boot or self._boot, "owners")
        for name in statefile.list_directory(directory):
            text = statefile.read_file(os.path.join(directory, name))
            if text is not None and name != ".new":
                owner = owner_text.parse(text)
                whole = owner.is_whole and statefile.file_name(owner.key) == name
                yield owner if whole else self._recovered(name)

    def _sweep(self) -> None:
        """Remove some of what earlier boots left."""
        left = _SWEEP
        for name in statefile.list_directory(self.directory):
            if self._is_earlier(name):
                left = _remove_tree(os.path.join(self.directory, name), left)


def _remove_tree(path: str, budget: int) -> int:
    """Remove files and directories below a path, at most as many as the budget; return what is left of it."""
    for name in statefile.list_directory(path):
        if budget <= 0:
            return 0
        child = os.path.join(path, name)
        if os.path.isdir(child) and not os.path.islink(child):
            budget = _remove_tree(child, budget)
        else:
            with contextlib.suppress(IoFailure):  # the next call tries again
                statefile.remove_file(child)
            budget -= 1
    statefile.remove_directory(path)
    return budget - 1


def _numbers(version: int, names: Iterable[str]) -> Iterator[int]:
    """Yield the addresses that files are named by, five times faster than `ipaddress` does.

    A file with another name is not ours, and counts for nothing.
    """
    family = socket.AF_INET if version == 4 else socket.AF_INET6  # noqa: PLR2004 - the IP version
    for name in names:
        with contextlib.suppress(OSError, ValueError):
            yield int.from_bytes(socket.inet_pton(family, name))
