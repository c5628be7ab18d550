"""Default subnets for networks that configure none.

<data directory>/.ula           the node's ULA prefix (RFC 4193), drawn once
<data directory>/.lock          held while a subnet is chosen, so that no two networks get the same one
"""

import ipaddress
import os
from collections.abc import Iterable

from cni_core import statefile
from cni_core.errors import PoolExhausted
from cni_core.lock import locked
from cni_ipam.poolfile import PoolFile, overlap
from cni_ipam.ranges import Network, Range, RangeSet, edges, first_usable, merge

# Docker's default address pools: 172.17 to 172.31, then slices of 192.168.
_IPV4 = (
    *(ipaddress.IPv4Network((f"172.{number}.0.0", 16)) for number in range(17, 32)),
    *ipaddress.IPv4Network("192.168.0.0/16").subnets(new_prefix=20),
)
_RTF_UP = 0x1


def whole_subnet(subnet: Network) -> RangeSet:
    """Return the range set of a subnet without further settings."""
    gateway = first_usable(subnet)
    reserved = [(number, number) for number in edges(subnet)]
    reserved.append((int(ipaddress.ip_address(gateway)),) * 2)
    first, last = int(subnet.network_address), int(subnet.broadcast_address)
    return RangeSet([Range(subnet, first, last, gateway, tuple(merge(reserved)))])


def default_range_sets(file: PoolFile, network: str, *, ipv6: bool) -> tuple[RangeSet, ...]:
    """Return the default subnets of a network, which are chosen and recorded the first time.

    Raises PoolExhausted if every default subnet overlaps a network or route of this node.
    """
    chosen = file.chosen()
    if len(chosen) < 1 + ipv6:
        data_dir = file.place.data_dir
        with locked(os.path.join(data_dir, ".lock")):
            chosen = file.chosen() or [_choose(_IPV4, file)]
            if ipv6 and len(chosen) == 1:
                chosen.append(_choose(_ula(data_dir).subnets(new_prefix=64), file))
            file.choose(chosen)
    sets = tuple(whole_subnet(subnet) for subnet in chosen[: 1 + ipv6])
    file.record(network, sets)
    return sets


def _choose(candidates: Iterable[Network], file: PoolFile) -> Network:
    used = [*(subnet for _other, subnet in file.others()), *on_link_routes()]
    for candidate in candidates:
        if not any(overlap(candidate, subnet) for subnet in used):
            return candidate
    raise PoolExhausted(
        f"choose a default subnet for {file.place.pool}: all overlap a network or route of this node"
    )


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
