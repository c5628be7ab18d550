"""The errors of host-local for a configuration, word for word, for users who match on them. Pure.

The checks are in host-local's order, and the first one that fails is its error
(containernetworking/plugins, plugins/ipam/host-local/backend/allocator: config.go, range.go, range_set.go).
Only asked once cni-ipam has found problems itself, which it all reports under its own name.
"""

import contextlib
import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cni_ipam.ranges import Network, without_zone

_NETWORK_BITS_LEFT = 2  # of a subnet: network, gateway, broadcast and one address


class _Canonical(NamedTuple):
    """A range of host-local: its subnet with its first and last address."""

    subnet: Network
    first: int
    last: int

    @property
    def text(self) -> str:
        kind = type(self.subnet.network_address)
        return f"{kind(self.first)}-{kind(self.last)}"

    def overlaps(self, other: "_Canonical") -> bool:
        is_same_family = self.subnet.version == other.subnet.version
        return is_same_family and self.first <= other.last and other.first <= self.last


class _RefusedError(Exception):
    """The first error."""


def reference_error(
    ipam: Mapping[str, Any],
    runtime: Sequence[Sequence[Mapping[str, Any]]] = (),
    ip: str = "",
    one_per_family: str = "",
) -> str:
    """Return host-local's error for a section `ipam`, "" if it has none.

    `runtime` holds the range sets of the capability, `ip` the value of IP in CNI_ARGS, `one_per_family` the
    version of the specification if that allows one address of each family alone.
    """
    sets = [list(items) for items in runtime]
    if ipam.get("subnet"):
        sets.append([ipam])
    sets += ipam.get("ranges") or []
    try:
        _read_texts([item for items in sets for item in items], ipam.get("routes") or [])
        _read_argument(ip)
        _check(sets, one_per_family)
    except _RefusedError as error:
        return str(error)
    return ""


def _read_texts(items: Sequence[Mapping[str, Any]], routes: Sequence[Mapping[str, Any]]) -> None:
    """Refuse texts that are no addresses, as Go's decoder of JSON does before anything is checked."""
    for item in items:
        _read_network(item.get("subnet") or "")
        for key in ("rangeStart", "rangeEnd", "gateway"):
            _read_address(item.get(key) or "")
    for route in routes:
        _read_network(route.get("dst") or "")
        _read_address(route.get("gw") or "")


def _read_network(text: str) -> None:
    with contextlib.suppress(ValueError):
        if "/" in text:
            ipaddress.ip_interface(without_zone(text))
            return
    raise _RefusedError(f"invalid CIDR address: {text}")


def _read_address(text: str) -> None:
    if text:
        with contextlib.suppress(ValueError):
            ipaddress.ip_address(text)
            return
        raise _RefusedError(f"invalid IP address: {text}")


def _read_argument(ip: str) -> None:
    if ip:
        with contextlib.suppress(ValueError):
            ipaddress.ip_interface(ip)
            return
        raise _RefusedError(f'ARGS: error parsing value of pair "IP={ip}": invalid IP address {ip}')


def _check(sets: Sequence[Sequence[Mapping[str, Any]]], one_per_family: str) -> None:
    if not sets:
        raise _RefusedError("no IP ranges specified")
    canonical = []
    for at, items in enumerate(sets):
        try:
            canonical.append(_canonical_set(items))
        except _RefusedError as error:
            raise _RefusedError(f"invalid range set {at}: {error}") from error
    versions = [ranges[0].subnet.version for ranges in canonical]
    if one_per_family and len(versions) > len(set(versions)):
        raise _RefusedError(f"CNI version {one_per_family} does not support more than 1 address per family")
    for at, ranges in enumerate(canonical):
        for later, others in enumerate(canonical[at + 1 :], at + 1):
            if any(one.overlaps(other) for one in ranges for other in others):
                raise _RefusedError(f"range set {at} overlaps with {later}")


def _canonical_set(items: Sequence[Mapping[str, Any]]) -> list[_Canonical]:
    if not items:
        raise _RefusedError("empty range set")
    ranges = []
    for item in items:
        ranges.append(_canonical(item))
        if ranges[-1].subnet.version != ranges[0].subnet.version:
            raise _RefusedError("mixed address families")
    for at, one in enumerate(ranges):
        for other in ranges[at + 1 :]:
            if one.overlaps(other):
                raise _RefusedError(f"subnets {one.text} and {other.text} overlap")
    return ranges


def _canonical(item: Mapping[str, Any]) -> _Canonical:
    interface = ipaddress.ip_interface(item["subnet"])
    subnet: Network = interface.network
    if subnet.prefixlen > subnet.max_prefixlen - _NETWORK_BITS_LEFT:
        raise _RefusedError(f"Network {item['subnet']} too small to allocate from")
    if interface.ip != subnet.network_address:
        raise _RefusedError(
            "Network has host bits set. For a subnet mask of length "
            f"{subnet.prefixlen} the network address is {subnet.network_address}"
        )
    return _Canonical(subnet, *_ends(item, subnet))


def _ends(item: Mapping[str, Any], subnet: Network) -> tuple[int, int]:
    """Return the first and last address; a start after the end is reported as outside of the subnet."""
    given = {key: ipaddress.ip_address(item[key]) for key in ("rangeStart", "rangeEnd") if item.get(key)}
    first = int(given.get("rangeStart", subnet.network_address + 1))
    below_broadcast = int(subnet.broadcast_address) - (subnet.version == 4)  # noqa: PLR2004 - the IP version
    last = int(given.get("rangeEnd", below_broadcast))
    for key, name in (("rangeStart", "RangeStart"), ("rangeEnd", "RangeEnd")):
        address = given.get(key)
        if address is not None and not (address in subnet and first <= int(address) <= last):
            raise _RefusedError(f"{name} {item[key]} not in network {subnet}")
    return first, last
