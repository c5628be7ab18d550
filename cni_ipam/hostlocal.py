"""Taking over the leases of host-local, the reference IPAM plugin, without renumbering.

Its directory has a file for each address, holding the container id and, on a second line, the interface; and
`last_reserved_ip.<n>` for each range set (containernetworking/plugins, plugins/ipam/host-local/backend/disk).
"""

import ipaddress
import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

from cni_core import libcni, statefile
from cni_core.boot import boot_time
from cni_core.call import AttachmentKey
from cni_core.lock import locked
from cni_ipam.lease import Lease, timestamp
from cni_ipam.lease_store import Transaction
from cni_ipam.ranges import RangeSet

DATA_DIR = "/var/lib/cni/networks"
_CURSOR = "last_reserved_ip."
_FIRST_IFNAME = "eth0"  # before 0.8 host-local did not record it


class Source(NamedTuple):
    """A directory of host-local, and the network whose leases are in it."""

    directory: str
    network: str
    range_sets: tuple[RangeSet, ...]


class ForeignLease(NamedTuple):
    """One file of host-local: an address, its attachment, and the lease's time in seconds since the epoch."""

    address: str
    key: AttachmentKey
    since: float


class Takeover(NamedTuple):
    """The plan of an import: leases to take over, leases already here, void addresses, and conflicts."""

    leases: tuple[Lease, ...]
    present: tuple[Lease, ...]
    void: tuple[str, ...]
    conflicts: tuple[str, ...]


def take_over(source: Source, pool: Transaction, *, dry_run: bool) -> Takeover:
    """Lease every address that host-local has in use, or none; holds host-local's own lock too."""
    with _locked(source.directory, pool):
        takeover = plan(read(source.directory), source, pool)
        if not takeover.conflicts and not dry_run:
            _allocate(takeover, pool)
            _move_cursors(source, pool)
            pool.record(source.network, source.range_sets)
    return takeover


def _locked(directory: str, pool: Transaction) -> AbstractContextManager[None]:
    """Hold host-local's lock, which is an flock(2) too, unless the pool is in host-local's directory."""
    theirs = os.path.join(directory, "lock")
    return nullcontext() if pool.is_locked_by(theirs) else locked(theirs)


def read(directory: str) -> list[ForeignLease]:
    """Return the leases in a directory of host-local."""
    return [lease for name in sorted(statefile.list_directory(directory)) for lease in _read(directory, name)]


def _read(directory: str, name: str) -> Iterable[ForeignLease]:
    try:
        address = ipaddress.ip_address(name)
        path = os.path.join(directory, name)
        since = os.stat(path).st_mtime
    except (ValueError, FileNotFoundError):  # a cursor or the lock; or released just now
        return
    container_id, _newline, ifname = (statefile.read_file(path) or "").strip().partition("\n")
    if container_id.strip():  # an empty file is left by a crash, and nobody's
        key = AttachmentKey(container_id.strip(), ifname.strip() or _FIRST_IFNAME)
        yield ForeignLease(str(address), key, since)


def plan(found: Sequence[ForeignLease], source: Source, pool: Transaction) -> Takeover:
    """Decide which leases to take over, under the locks of both stores."""
    live = [lease for lease in found if _is_live(lease, source.network)]
    conflicts: list[str] = []
    wanted: dict[AttachmentKey, Lease] = {}
    for foreign in live:
        cidr = _cidr(foreign.address, source.range_sets)
        if cidr is None:
            where = f"{foreign.address} of {foreign.key.container_id}"
            conflicts.append(f"{where}: in no subnet of {source.network}")
            continue
        fresh = Lease(foreign.key, source.network, (), since=timestamp(foreign.since))
        lease = wanted.get(foreign.key, fresh)
        wanted[foreign.key] = lease._replace(addresses=(*lease.addresses, cidr))
    present = tuple(lease for lease in wanted.values() if _is_present(lease, pool))
    leases = tuple(lease for lease in wanted.values() if lease not in present)
    for lease in leases:
        conflicts += _conflicts(lease, pool)
    void = tuple(lease.address for lease in found if lease not in live)
    return Takeover(leases, present, void, tuple(conflicts))


def _is_live(lease: ForeignLease, network: str) -> bool:
    """Return whether a lease may be in use: it is of this boot, or the sandbox that libcni recorded exists.

    The time alone is not enough: a node without a battery starts with a wrong clock.
    """
    if lease.since >= boot_time():
        return True
    netns = libcni.sandbox_of(network, *lease.key)
    return netns is not None and os.path.exists(netns)


def _cidr(text: str, range_sets: Sequence[RangeSet]) -> str | None:
    address = ipaddress.ip_address(text)
    for range_set in range_sets:
        found = range_set.range_of(int(address)) if range_set.version == address.version else None
        if found is not None:
            return f"{text}/{found.subnet.prefixlen}"
    return None


def _is_present(lease: Lease, pool: Transaction) -> bool:
    held = pool.lease_of(lease.key)
    return held is not None and set(held.addresses) == set(lease.addresses)


def _conflicts(lease: Lease, pool: Transaction) -> Iterable[str]:
    held = pool.lease_of(lease.key)
    if held is not None:
        yield f"{lease.key.text} holds {', '.join(held.addresses)} here, not {', '.join(lease.addresses)}"
    for cidr in lease.addresses:
        address = ipaddress.ip_interface(cidr).ip
        if held is None and pool.is_taken(address.version, int(address)):
            yield f"{address} of {lease.key.container_id}: leased to another here"


def _allocate(takeover: Takeover, pool: Transaction) -> None:
    """Lease every planned address, or none."""
    done: list[Lease] = []
    try:
        for lease in takeover.leases:
            pool.allocate(lease)
            done.append(lease)
    except BaseException:
        for lease in done:
            pool.release(lease)
        raise


def _move_cursors(source: Source, pool: Transaction) -> None:
    """Set the cursors to the addresses that host-local gave last."""
    for number, range_set in enumerate(source.range_sets):
        path = os.path.join(source.directory, f"{_CURSOR}{number}")
        text = (statefile.read_file(path) or "").strip()
        if text:
            pool.move_cursor(range_set, text)
