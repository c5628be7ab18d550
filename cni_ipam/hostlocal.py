"""Taking over the leases of host-local, the reference IPAM plugin, without renumbering.

Its directory has a file for each address, holding the container id and, on a second line, the interface; and
`last_reserved_ip.<n>` for each range set (containernetworking/plugins, plugins/ipam/host-local/backend/disk).
"""

import ipaddress
import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cni_core import libcni, statefile
from cni_core.boot import boot_time
from cni_ipam.owner import Owner, timestamp
from cni_ipam.ranges import RangeSet
from cni_ipam.store import Store

DATA_DIR = "/var/lib/cni/networks"
_CURSOR = "last_reserved_ip."
_FIRST_IFNAME = "eth0"  # before 0.8 host-local did not record it


class Lease(NamedTuple):
    """One file of host-local: an address, whose it is, and since when, in seconds since the epoch."""

    address: str
    container_id: str
    ifname: str
    since: float


class Takeover(NamedTuple):
    """What an import does: attachments to take over, those already here, void addresses, and conflicts."""

    owners: tuple[Owner, ...]
    present: tuple[Owner, ...]
    void: tuple[str, ...]
    conflicts: tuple[str, ...]


def read(directory: str) -> list[Lease]:
    """Return the leases in a directory of host-local."""
    return [lease for name in sorted(statefile.list_directory(directory)) for lease in _read(directory, name)]


def _read(directory: str, name: str) -> Iterable[Lease]:
    try:
        address = ipaddress.ip_address(name)
        path = os.path.join(directory, name)
        since = os.stat(path).st_mtime
    except (ValueError, FileNotFoundError):  # a cursor or the lock; or released just now
        return
    container_id, _newline, ifname = (statefile.read_file(path) or "").strip().partition("\n")
    if container_id.strip():  # an empty file is what a crash left, and nobody's
        yield Lease(str(address), container_id.strip(), ifname.strip() or _FIRST_IFNAME, since)


def plan(leases: Sequence[Lease], range_sets: Sequence[RangeSet], store: Store, network: str) -> Takeover:
    """Decide what to take over, under the locks of both stores."""
    live = [lease for lease in leases if _is_live(lease, network)]
    conflicts: list[str] = []
    wanted: dict[str, Owner] = {}
    for lease in live:
        cidr = _cidr(lease.address, range_sets)
        if cidr is None:
            conflicts.append(f"{lease.address} of {lease.container_id}: in no subnet of {network}")
            continue
        fresh = Owner(lease.container_id, lease.ifname, network, (), since=timestamp(lease.since))
        owner = wanted.get(fresh.key, fresh)
        wanted[owner.key] = owner._replace(addresses=(*owner.addresses, cidr))
    present = tuple(owner for owner in wanted.values() if _is_present(owner, store))
    owners = tuple(owner for owner in wanted.values() if owner not in present)
    for owner in owners:
        conflicts += _conflicts(owner, store)
    void = tuple(lease.address for lease in leases if lease not in live)
    return Takeover(owners, present, void, tuple(conflicts))


def _is_live(lease: Lease, network: str) -> bool:
    """Tell whether a lease may be in use: made in this boot, or its sandbox, as libcni recorded it, is there.

    The time alone would not do: a node without a battery starts with a wrong clock.
    """
    if lease.since >= boot_time():
        return True
    netns = libcni.sandbox_of(network, lease.container_id, lease.ifname)
    return netns is not None and os.path.exists(netns)


def _cidr(text: str, range_sets: Sequence[RangeSet]) -> str | None:
    address = ipaddress.ip_address(text)
    for range_set in range_sets:
        found = range_set.range_of(int(address)) if range_set.version == address.version else None
        if found is not None:
            return f"{text}/{found.subnet.prefixlen}"
    return None


def _is_present(owner: Owner, store: Store) -> bool:
    held = store.owner(owner.key)
    return held is not None and set(held.addresses) == set(owner.addresses)


def _conflicts(owner: Owner, store: Store) -> Iterable[str]:
    held = store.owner(owner.key)
    if held is not None:
        yield f"{owner.key} holds {', '.join(held.addresses)} here, not {', '.join(owner.addresses)}"
    for cidr in owner.addresses:
        address = ipaddress.ip_interface(cidr).ip
        if held is None and store.is_taken(address.version, int(address)):
            yield f"{address} of {owner.container_id}: leased to another here"


def take_over(takeover: Takeover, store: Store) -> None:
    """Lease every planned address, or none."""
    done: list[Owner] = []
    try:
        for owner in takeover.owners:
            store.write(owner)
            done.append(owner)
    except BaseException:
        for owner in done:
            store.remove(owner)
        raise


def move_cursors(directory: str, range_sets: Sequence[RangeSet], store: Store) -> None:
    """Go on after the addresses that host-local gave last."""
    for number, range_set in enumerate(range_sets):
        text = (statefile.read_file(os.path.join(directory, f"{_CURSOR}{number}")) or "").strip()
        if text:
            store.move_cursor(range_set.identity, text)


def lock_file(directory: str) -> str:
    """Return the file that host-local locks while it changes the directory, by flock(2) too."""
    return os.path.join(directory, "lock")
