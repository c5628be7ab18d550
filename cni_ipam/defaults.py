"""Subnets for networks that name none, and which subnets the node's pools have.

<data directory>/<pool>/pool    JSON: the subnets of each network that uses the pool, and those chosen for it
<data directory>/.ula           the node's ULA prefix (RFC 4193), drawn once
<data directory>/.lock          held while a subnet is chosen, so that no two networks get the same
"""

import ipaddress
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from cni_core import statefile
from cni_core.errors import PoolExhausted
from cni_core.lock import locked
from cni_ipam.ranges import Network, Range, RangeSet, edges, first_usable

# Docker's default address pools: 172.17 to 172.31, then slices of 192.168.
_IPV4 = (
    *(ipaddress.IPv4Network((f"172.{number}.0.0", 16)) for number in range(17, 32)),
    *ipaddress.IPv4Network("192.168.0.0/16").subnets(new_prefix=20),
)
_RTF_UP = 0x1


def whole_subnet(subnet: Network) -> RangeSet:
    """Return the range set of a subnet that nothing else is said of."""
    gateway = first_usable(subnet)
    reserved = [(number, number) for number in edges(subnet)]
    reserved.append((int(ipaddress.ip_address(gateway)),) * 2)
    first, last = int(subnet.network_address), int(subnet.broadcast_address)
    return RangeSet((Range(subnet, first, last, gateway, tuple(sorted(reserved))),))


def default_range_sets(data_dir: str, pool: str, network: str, *, ipv6: bool) -> tuple[RangeSet, ...]:
    """Return the subnets chosen for a network, choosing and recording them the first time.

    Raises PoolExhausted if every default pool overlaps something.
    """
    chosen = _chosen(data_dir, pool)
    if len(chosen) < 1 + ipv6:
        statefile.make_directory(data_dir)
        with locked(os.path.join(data_dir, ".lock")):
            chosen = _chosen(data_dir, pool) or [_choose(_IPV4, data_dir, pool)]
            if ipv6 and len(chosen) == 1:
                chosen.append(_choose(_ula(data_dir).subnets(new_prefix=64), data_dir, pool))
            document = _read(data_dir, pool)
            document["chosen"] = [str(subnet) for subnet in chosen]
            _write(data_dir, pool, document, durable=True)
    sets = tuple(whole_subnet(subnet) for subnet in chosen[: 1 + ipv6])
    record(data_dir, pool, network, sets)
    return sets


def _choose(candidates: Iterable[Network], data_dir: str, pool: str) -> Network:
    used = [*(subnet for _owner, subnet in recorded(data_dir, pool)), *on_link_routes()]
    for candidate in candidates:
        if not any(overlap(candidate, subnet) for subnet in used):
            return candidate
    raise PoolExhausted(f"choose a default subnet for {pool}: all overlap a network or route of this node")


def overlap(one: Network, other: Network) -> bool:
    """Tell whether two subnets have an address in common."""
    return one.version == other.version and one.overlaps(other)


def _chosen(data_dir: str, pool: str) -> list[Network]:
    return [ipaddress.ip_network(text) for text in _read(data_dir, pool).get("chosen", ())]


def record(data_dir: str, pool: str, network: str, sets: Sequence[RangeSet]) -> bool:
    """Record the subnets of a network that uses a pool; tell whether they are new."""
    subnets = sorted({str(item.subnet) for range_set in sets for item in range_set.ranges})
    document = _read(data_dir, pool)
    networks = document.setdefault("networks", {})
    if networks.get(network) == subnets:
        return False
    networks[network] = subnets
    _write(data_dir, pool, document, durable=False)
    return True


def recorded(data_dir: str, but: str = "") -> Iterator[tuple[str, Network]]:
    """Yield pool and subnet of every network on the node, leaving out one pool."""
    for pool in statefile.list_directory(data_dir):
        document = {} if pool == but or pool.startswith(".") else _read(data_dir, pool)
        for subnets in (*document.get("networks", {}).values(), document.get("chosen", ())):
            yield from ((pool, ipaddress.ip_network(text)) for text in subnets)


def overlaps(data_dir: str, pool: str, sets: Sequence[RangeSet]) -> list[str]:
    """Describe each subnet of the sets that overlaps one of another pool: addresses may be given twice."""
    ours = {item.subnet for range_set in sets for item in range_set.ranges}
    return sorted(
        {
            f"subnet {subnet} of pool {pool} overlaps {theirs} of pool {other}"
            for other, theirs in recorded(data_dir, pool)
            for subnet in ours
            if overlap(subnet, theirs)
        }
    )


def _path(data_dir: str, pool: str) -> str:
    return os.path.join(data_dir, pool, "pool")


def _read(data_dir: str, pool: str) -> dict[str, Any]:
    return statefile.read_json(_path(data_dir, pool)) or {"version": 1}


def _write(data_dir: str, pool: str, document: dict[str, Any], *, durable: bool) -> None:
    statefile.make_directory(os.path.join(data_dir, pool))
    statefile.write_file(_path(data_dir, pool), json.dumps(document, indent=2) + "\n", durable=durable)


def _ula(data_dir: str) -> ipaddress.IPv6Network:
    path = os.path.join(data_dir, ".ula")
    text = (statefile.read_file(path) or "").strip()
    if not text:
        prefix = b"\xfd" + os.urandom(5) + bytes(10)
        text = f"{ipaddress.IPv6Address(prefix)}/48"
        statefile.write_file(path, text + "\n", durable=True)
    return ipaddress.IPv6Network(text)


def on_link_routes() -> list[Network]:
    """Return the subnets that the host reaches without a gateway (proc_net(5), route and ipv6_route)."""
    found: list[Network] = []
    for line in _lines("/proc/thread-self/net/route")[1:]:
        _device, destination, gateway, flags, _ref, _use, _metric, mask, *_rest = line.split()
        if int(flags, 16) & _RTF_UP and int(gateway, 16) == 0 and int(mask, 16):
            packed = bytes.fromhex(destination)[::-1]
            prefix = int(mask, 16).bit_count()
            found.append(ipaddress.IPv4Network((packed, prefix)))
    for line in _lines("/proc/thread-self/net/ipv6_route"):
        destination, prefix_hex, _source, _length, gateway, *_rest = line.split()
        if int(gateway, 16) == 0 and int(prefix_hex, 16):
            found.append(ipaddress.IPv6Network((bytes.fromhex(destination), int(prefix_hex, 16))))
    return found


def _lines(path: str) -> list[str]:
    return (statefile.read_file(path) or "").splitlines()
