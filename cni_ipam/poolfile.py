"""Which subnets and ranges the networks of a pool have, so that others keep off them and people can see it.

<data directory>/<pool>/pool    JSON: the subnets and ranges of each network, and the subnets chosen for it
"""

import ipaddress
import json
import os
import socket
from collections.abc import Iterator, Sequence
from typing import Any

from cni_core import statefile
from cni_ipam.ranges import Interval, Network, RangeSet, merge


def pools(data_dir: str) -> list[str]:
    """Return the names of the pools of a data directory."""
    names = statefile.list_directory(data_dir)
    return sorted(name for name in names if os.path.isfile(_path(data_dir, name)))


def overlap(one: Network, other: Network) -> bool:
    """Tell whether two subnets have an address in common."""
    return one.version == other.version and one.overlaps(other)


def chosen(data_dir: str, pool: str) -> list[Network]:
    """Return the default subnets that were chosen for a pool."""
    return [ipaddress.ip_network(text) for text in _read(data_dir, pool).get("chosen", ())]


def choose(data_dir: str, pool: str, subnets: Sequence[Network]) -> None:
    """Record the default subnets of a pool, to be the same after lost power."""
    chosen = [str(subnet) for subnet in subnets]
    _write(data_dir, pool, {**_read(data_dir, pool), "chosen": chosen}, durable=True)


def record(data_dir: str, pool: str, network: str, sets: Sequence[RangeSet]) -> bool:
    """Record the subnets and ranges of a network that uses a pool; tell whether they are new."""
    subnets = sorted({str(item.subnet) for range_set in sets for item in range_set.ranges})
    digest = [range_set.identity for range_set in sets]
    document = _read(data_dir, pool)
    known = document.get("networks", {}).get(network, {})
    if (known.get("subnets"), known.get("digest")) == (subnets, digest):
        return False
    ranges = [_text(range_set.version, part) for range_set in sets for part in range_set.intervals]
    entry = {"subnets": subnets, "digest": digest, "ranges": ranges}
    networks = {**document.get("networks", {}), network: entry}
    _write(data_dir, pool, {**document, "networks": networks}, durable=False)
    return True


def _text(version: int, part: Interval) -> str:
    family, width = (socket.AF_INET, 4) if version == 4 else (socket.AF_INET6, 16)  # noqa: PLR2004 - the IP version
    first, last = (socket.inet_ntop(family, number.to_bytes(width)) for number in part)
    return f"{first}-{last}"


def ranges(data_dir: str, pool: str, subnet: Network) -> list[Interval]:
    """Return what may be given out of a subnet, sorted; where networks share a pool, to any of them."""
    found: set[Interval] = set()
    for entry in _read(data_dir, pool).get("networks", {}).values():
        for text in entry["ranges"]:
            first, last = map(ipaddress.ip_address, text.split("-"))
            if first in subnet:
                found.add((int(first), int(last)))
    return merge(found)


def subnets(data_dir: str, pool: str) -> list[Network]:
    """Return every subnet of a pool."""
    document = _read(data_dir, pool)
    named = [text for entry in document.get("networks", {}).values() for text in entry["subnets"]]
    unique = {ipaddress.ip_network(text) for text in (*named, *document.get("chosen", ()))}
    return sorted(unique, key=lambda subnet: (subnet.version, int(subnet.network_address)))


def overlaps(data_dir: str, pool: str, sets: Sequence[RangeSet]) -> list[str]:
    """Describe each subnet of the sets that overlaps one of another pool: addresses may be given twice."""
    ours = {item.subnet for range_set in sets for item in range_set.ranges}
    return sorted(
        {
            f"subnet {subnet} of pool {pool} overlaps {theirs} of pool {other}"
            for other, theirs in of_other_pools(data_dir, pool)
            for subnet in ours
            if overlap(subnet, theirs)
        }
    )


def of_other_pools(data_dir: str, pool: str) -> Iterator[tuple[str, Network]]:
    """Yield pool and subnet of every network on the node that does not use a pool."""
    for other in pools(data_dir):
        if other != pool:
            yield from ((other, subnet) for subnet in subnets(data_dir, other))


def _path(data_dir: str, pool: str) -> str:
    return os.path.join(data_dir, pool, "pool")


# What a long-lived process read last, with the file's inode and times: a file is replaced, never changed.
_documents: dict[str, tuple[tuple[int, int, int], dict[str, Any]]] = {}
_DOCUMENTS_MOST = 256


def _read(data_dir: str, pool: str) -> dict[str, Any]:
    """Return the document of a pool; the caller does not change it."""
    path = _path(data_dir, pool)
    try:
        found = os.stat(path)
    except OSError:
        return {"version": 1}
    signature = (found.st_ino, found.st_mtime_ns, found.st_ctime_ns)
    known = _documents.get(path)
    if known is None or known[0] != signature:
        if len(_documents) >= _DOCUMENTS_MOST:
            _documents.clear()
        known = _documents[path] = (signature, statefile.read_json(path) or {"version": 1})
    return known[1]


def _write(data_dir: str, pool: str, document: dict[str, Any], *, durable: bool) -> None:
    statefile.make_directory(os.path.join(data_dir, pool))
    statefile.write_file(_path(data_dir, pool), json.dumps(document, indent=2) + "\n", durable=durable)
