"""The subnets and ranges of a configuration as range sets; their problems are collected."""

import ipaddress
import socket
from collections.abc import Iterator, Sequence
from typing import NotRequired, TypedDict

from cni_ipam.ranges import (
    Interval,
    Network,
    Range,
    RangeSet,
    clip,
    edges,
    first_usable,
    merge,
    without_zone,
)

NO_GATEWAY = "none"


class Subnet(TypedDict):
    """A subnet or range as configured; the keys are spelled as in JSON."""

    subnet: str
    ipRange: NotRequired[str]
    rangeStart: NotRequired[str]
    rangeEnd: NotRequired[str]
    gateway: NotRequired[str]
    auxAddresses: NotRequired[dict[str, str]]
    exclude: NotRequired[list[str]]


def range_sets(
    named: Sequence[tuple[str, Sequence[Subnet]]], subnets: Sequence[Subnet], problems: list[str]
) -> list[RangeSet]:
    """Return a range set for each named list, and for Docker-style subnets one for each family."""
    sets: list[list[Range]] = []
    for path, items in named:
        if not items:
            problems.append(f"{path}: empty range set")
        sets.append(_ranges(path, items, problems))
    sets += _by_family(_ranges("ipam.subnets", subnets, problems))
    problems += _overlap_problems(sets)
    problems += [f"ipam: mixed address families in {_shown(s)}" for s in sets if _mixed(s)]
    sets = [ranges for ranges in sets if ranges]
    return [RangeSet(ranges) for ranges in (sets if sum(map(len, sets)) == 1 else _shared(sets))]


def _shared(sets: Sequence[Sequence[Range]]) -> Iterator[list[Range]]:
    """Yield the sets, whose ranges also reserve the addresses that the others reserve in their subnets."""
    every = [item for ranges in sets for item in ranges]
    reserved = {
        version: merge(hole for item in every if item.version == version for hole in item.reserved)
        for version in {item.version for item in every}
    }
    for ranges in sets:
        yield [
            item._replace(reserved=tuple(clip(reserved[item.version], *_ends(item.subnet))))
            for item in ranges
        ]


def _ends(subnet: Network) -> Interval:
    return int(subnet.network_address), int(subnet.broadcast_address)


def _ranges(path: str, items: Sequence[Subnet], problems: list[str]) -> list[Range]:
    found = []
    for at, item in enumerate(items):
        where = path if path == "ipam" else f"{path}.{at}"
        parsed = _range(item, where, problems)
        if parsed is not None:
            found.append(parsed)
    return found


def _by_family(ranges: Sequence[Range]) -> list[list[Range]]:
    """Return Docker's grouping: one address of each family, from the first subnet with room."""
    families = [[item for item in ranges if item.version == version] for version in (4, 6)]
    return [family for family in families if family]


def _range(conf: Subnet, path: str, problems: list[str]) -> Range | None:
    try:
        subnet = ipaddress.ip_network(without_zone(conf["subnet"]))
    except ValueError:
        problems.append(f"{path}.subnet {conf['subnet']}: {_subnet_problem(conf['subnet'])}")
        return None
    fault = len(problems)
    first, last = _bounds(conf, subnet, path, problems)
    gateway = _gateway(conf.get("gateway", ""), subnet, path, problems)
    reserved = [(number, number) for number in edges(subnet)]
    for name, text in conf.get("auxAddresses", {}).items():
        reserved += _holes(text, subnet, f"{path}.auxAddresses.{name}", problems)
    reserved += _exclusions(conf.get("exclude", ()), subnet, f"{path}.exclude", problems)
    if len(problems) > fault:
        return None
    if gateway:  # a gateway in another subnet is reserved for the ranges there
        reserved.append((int(ipaddress.ip_address(gateway)),) * 2)
    found = Range(subnet, first, last, gateway, tuple(merge(reserved)))
    if next(found.free_intervals(), None) is None:
        problems.append(
            f"{path}.subnet {conf['subnet']}: too small to allocate from: every address is reserved"
        )
    return found


def _subnet_problem(text: str) -> str:
    try:
        network = ipaddress.ip_network(without_zone(text), strict=False)
    except ValueError:
        return "not a subnet in CIDR form"
    return (
        "Network has host bits set. For a subnet mask of length"
        f" {network.prefixlen} the network address is {network.network_address}"
    )


def _bounds(conf: Subnet, subnet: Network, path: str, problems: list[str]) -> tuple[int, int]:
    first, last = int(subnet.network_address), int(subnet[-1])
    if conf.get("ipRange", ""):
        if conf.get("rangeStart", "") or conf.get("rangeEnd", ""):
            problems.append(f"{path}: ipRange cannot be combined with rangeStart and rangeEnd")
        holes = _holes(conf.get("ipRange", ""), subnet, f"{path}.ipRange", problems)
        return holes[0] if holes else (first, last)
    if conf.get("rangeStart", ""):
        first = _inside(conf.get("rangeStart", ""), subnet, f"{path}.rangeStart", problems) or first
    if conf.get("rangeEnd", ""):
        last = _inside(conf.get("rangeEnd", ""), subnet, f"{path}.rangeEnd", problems) or last
    if first > last:
        problems.append(
            f"{path}: rangeStart {conf.get('rangeStart', '')} is after rangeEnd {conf.get('rangeEnd', '')}"
        )
    return first, last


def _inside(text: str, subnet: Network, path: str, problems: list[str]) -> int | None:
    try:
        address = ipaddress.ip_address(without_zone(text))
    except ValueError:
        problems.append(f"{path} {text}: not an IP address")
        return None
    if address not in subnet:
        problems.append(f"{path} {text}: not in network {subnet}")
        return None
    return int(address)


def _holes(text: str, subnet: Network, path: str, problems: list[str]) -> list[Interval]:
    """Return the interval of an address, a range `first-last` or a CIDR inside a subnet."""
    start, dash, end = text.partition("-")
    if dash:
        ends = [_inside(part.strip(), subnet, path, problems) for part in (start, end)]
        if ends[0] is None or ends[1] is None:
            return []
        if ends[0] > ends[1]:
            problems.append(f"{path} {text}: ends before it starts")
        return [(ends[0], ends[1])]
    try:
        network = ipaddress.ip_network(without_zone(text))
    except ValueError:
        problems.append(f"{path} {text}: not an address, range or CIDR")
        return []
    first, last = network[0], network[-1]
    if first not in subnet or last not in subnet:
        problems.append(f"{path} {text}: not in network {subnet}")
        return []
    return [(int(first), int(last))]


def _exclusions(texts: Sequence[str], subnet: Network, path: str, problems: list[str]) -> list[Interval]:
    """Return the intervals of a list of exclusions, which may be long and mostly has single addresses."""
    family = socket.AF_INET if subnet.version == 4 else socket.AF_INET6  # noqa: PLR2004 - the IP version
    try:
        numbers = [int.from_bytes(socket.inet_pton(family, text)) for text in texts]
    except (OSError, ValueError):
        return [
            hole for at, text in enumerate(texts) for hole in _holes(text, subnet, f"{path}.{at}", problems)
        ]
    low, high = _ends(subnet)
    if numbers and not low <= min(numbers) <= max(numbers) <= high:
        problems += [
            f"{path}.{at} {texts[at]}: not in network {subnet}"
            for at, number in enumerate(numbers)
            if not low <= number <= high
        ]
    numbers.sort()
    return [(number, number) for number in numbers]


def _gateway(text: str, subnet: Network, path: str, problems: list[str]) -> str:
    if text == NO_GATEWAY:
        return ""
    if not text:
        return first_usable(subnet)
    try:
        address = ipaddress.ip_address(without_zone(text))
    except ValueError:
        problems.append(f"{path}.gateway {text}: must be an IP address or {NO_GATEWAY!r}")
        return ""
    if address.version != subnet.version:
        problems.append(f"{path}.gateway {text}: not of the address family of {subnet}")
    return str(address)


def _overlap_problems(sets: Sequence[Sequence[Range]]) -> list[str]:
    """Return a problem for each range that overlaps one that begins before it, within a set and between sets.

    One pass over the sorted ranges: there may be 40,000.
    """
    ordered = sorted((item.version, item.first, at) for at, item in enumerate(_flat(sets)))
    ranges = _flat(sets)
    found = []
    widest: dict[int, Range] = {}
    for version, first, at in ordered:
        item, before = ranges[at], widest.get(version)
        if before is not None and first <= before.last:
            what = f"subnets {before.subnet} and {item.subnet} overlap"
            found.append(f"ipam: {what} in {before.describe()} and {item.describe()}")
        if before is None or item.last > before.last:
            widest[version] = item
    return found


def _flat(sets: Sequence[Sequence[Range]]) -> list[Range]:
    return [item for ranges in sets for item in ranges]


def _mixed(ranges: Sequence[Range]) -> bool:
    return len({item.version for item in ranges}) > 1


def _shown(ranges: Sequence[Range]) -> str:
    return ", ".join(str(item.subnet) for item in ranges)
