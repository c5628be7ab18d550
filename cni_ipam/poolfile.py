"""The subnets and ranges of a pool's networks, so that other pools avoid them and operators can see them.

<data directory>/<pool>/pool    JSON: the subnets and ranges of each network, and the subnets chosen for it
"""

import contextlib
import ipaddress
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from cni_core import statefile
from cni_ipam.addresses import interval_texts, parse_address
from cni_ipam.place import Place
from cni_ipam.ranges import Interval, Network, RangeSet, merge


def pools(data_dir: str) -> list[str]:
    """Return the names of the pools of a data directory."""
    names = statefile.list_directory(data_dir)
    return sorted(name for name in names if os.path.isfile(os.path.join(data_dir, name, "pool")))


def overlap(one: Network, other: Network) -> bool:
    """Return whether two subnets have an address in common."""
    return one.version == other.version and one.overlaps(other)


class PoolFile:
    """The file of one pool."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self._path = os.path.join(place.data_dir, place.pool, "pool")

    def chosen(self) -> list[Network]:
        """Return the default subnets that were chosen for the pool."""
        return [ipaddress.ip_network(text) for text in self._read().get("chosen", ())]

    def choose(self, subnets: Sequence[Network]) -> None:
        """Record the default subnets of the pool durably: they survive a power loss."""
        chosen = [str(subnet) for subnet in subnets]
        self._write({**self._read(), "chosen": chosen}, durable=True)

    def record(self, network: str, sets: Sequence[RangeSet]) -> bool:
        """Record the subnets and ranges of a network that uses the pool; return whether they are new."""
        subnets = sorted({str(item.subnet) for range_set in sets for item in range_set.ranges})
        digest = [range_set.identity for range_set in sets]
        document = self._read()
        known = document.get("networks", {}).get(network, {})
        if (known.get("subnets"), known.get("digest")) == (subnets, digest):
            return False
        ranges = [text for one in sets for text in interval_texts(one.version, one.intervals)]
        entry = {"subnets": subnets, "digest": digest, "ranges": ranges}
        networks = {**document.get("networks", {}), network: entry}
        self._write({**document, "networks": networks}, durable=False)
        return True

    def ranges(self, subnet: Network) -> list[Interval]:
        """Return the intervals of a subnet from which any network of the pool may lease, sorted."""
        found: set[Interval] = set()
        for entry in self._read().get("networks", {}).values():
            for text in entry["ranges"]:
                first, last = map(ipaddress.ip_address, text.split("-"))
                if first in subnet:
                    found.add((int(first), int(last)))
        return merge(found)

    def leasable(self) -> list[tuple[int, list[Interval]]]:
        """Return the version and the addresses of each network and family that leases from the pool."""
        found = []
        for entry in self._read().get("networks", {}).values():
            parts: dict[int, list[Interval]] = {}
            for text in entry["ranges"]:
                (version, first), (_version, last) = map(parse_address, text.split("-"))
                parts.setdefault(version, []).append((first, last))
            found += [(version, merge(intervals)) for version, intervals in parts.items()]
        return found

    def subnets(self) -> list[Network]:
        """Return every subnet of the pool."""
        document = self._read()
        named = [text for entry in document.get("networks", {}).values() for text in entry["subnets"]]
        unique = {ipaddress.ip_network(text) for text in (*named, *document.get("chosen", ()))}
        return sorted(unique, key=lambda subnet: (subnet.version, int(subnet.network_address)))

    def overlaps(self, sets: Sequence[RangeSet], is_used: Callable[[str], bool]) -> list[str]:
        """Describe each subnet that overlaps one of another pool in use: addresses may be leased twice."""
        ours = {item.subnet for range_set in sets for item in range_set.ranges}
        return sorted(
            {
                f"subnet {subnet} of pool {self.place.pool} overlaps {theirs} of pool {other}"
                for other, theirs in self.others()
                for subnet in ours
                if overlap(subnet, theirs) and is_used(other)
            }
        )

    def others(self) -> Iterator[tuple[str, Network]]:
        """Yield pool and subnet of every network on the node that does not use this pool."""
        for other in pools(self.place.data_dir):
            if other != self.place.pool:
                yield from ((other, subnet) for subnet in PoolFile(self.place._replace(pool=other)).subnets())

    def _read(self) -> dict[str, Any]:
        """Return the document, which the caller must not change."""
        return statefile.read_parsed(self._path, _cleaned) or _cleaned({})

    def _write(self, document: dict[str, Any], *, durable: bool) -> None:
        """Replace the file, under the lock of the pool."""
        statefile.make_directory(os.path.dirname(self._path))
        # On one line: json indents in Python, which takes ten times longer for 75,000 ranges.
        statefile.write_file(self._path, json.dumps(document) + "\n", durable=durable)
        statefile.note_parsed(self._path, document)


def _cleaned(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document without its invalid parts: one damaged file must not stop every network."""
    networks = document.get("networks")
    entries = networks.items() if isinstance(networks, dict) else ()
    return {
        **document,  # additions of a later release are kept
        "version": 1,
        "networks": {str(name): _cleaned_entry(entry) for name, entry in entries if isinstance(entry, dict)},
        "chosen": _valid(document.get("chosen"), ipaddress.ip_network),
    }


def _cleaned_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **entry,
        "subnets": _valid(entry.get("subnets"), ipaddress.ip_network),
        "digest": _valid(entry.get("digest"), str),
        "ranges": _valid(entry.get("ranges"), _check_range),
    }


def _check_range(text: str) -> None:
    """Raise ValueError unless a text is two addresses with a dash between; fast, since there may be many."""
    first, last = text.split("-")
    try:
        parse_address(first)
        parse_address(last)
    except OSError as error:
        raise ValueError(text) from error


def _valid(items: object, check: Callable[[str], object]) -> list[str]:
    """Return the texts of a list that pass a check."""
    found = []
    for item in items if isinstance(items, list) else []:
        with contextlib.suppress(ValueError):
            if isinstance(item, str):
                check(item)
                found.append(item)
    return found
