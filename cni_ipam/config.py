"""The `ipam` object of a network: JSON in, range sets and requests out. Touches nothing.

Two schemas: Docker's (`subnets`) and host-local's (`ranges`, or `subnet` at the top). Every problem of a
configuration is reported at once; docs/configuration.md has the keys.
"""

import ipaddress
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, NotRequired, TypedDict

from cni_core.errors import InvalidConfig
from cni_core.invocation import Invocation, section
from cni_core.netconf import load, problems_text
from cni_core.result import DNS, Route, parse_route
from cni_ipam.ranges import Interval, Network, Range, RangeSet, edges, first_usable
from cni_ipam.store import DATA_DIR

NO_GATEWAY = "none"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")


class _Route(TypedDict):
    dst: str
    gw: NotRequired[str]
    mtu: NotRequired[int]
    advmss: NotRequired[int]
    priority: NotRequired[int]
    table: NotRequired[int]
    scope: NotRequired[int]


class _Dns(TypedDict, total=False):
    nameservers: list[str]
    domain: str
    search: list[str]
    options: list[str]


class _Subnet(TypedDict):
    subnet: str
    ipRange: NotRequired[str]
    rangeStart: NotRequired[str]
    rangeEnd: NotRequired[str]
    gateway: NotRequired[str]
    auxAddresses: NotRequired[dict[str, str]]
    exclude: NotRequired[list[str]]


class _Ipam(TypedDict, total=False):
    type: str
    subnets: list[_Subnet]
    ranges: list[list[_Subnet]]
    subnet: str
    rangeStart: str
    rangeEnd: str
    gateway: str
    exclude: list[str]
    ipv6: bool
    routes: list[_Route]
    dns: _Dns
    resolvConf: str
    dataDir: str
    pool: str


class _Runtime(TypedDict, total=False):
    ipRanges: list[list[_Subnet]]


class Request(NamedTuple):
    """What an ADD asks of the pool.

    No range sets: the network gets a default pool, with IPv6 if `ipv6`. `implied_default` adds a default
    route for each gateway. Addresses in `requested` are plain text.
    """

    pool: str
    data_dir: str
    range_sets: tuple[RangeSet, ...]
    requested: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    implied_default: bool = False
    dns: DNS = DNS()
    resolv_conf: str = ""
    ipv6: bool = False


def parse(invocation: Invocation) -> Request:
    """Return what a network's `ipam` asks for, or raise InvalidConfig with all that is wrong."""
    document = invocation.conf.get("ipam")
    if not isinstance(document, dict):
        raise InvalidConfig("IPAM config missing 'ipam' key")
    conf = load(_Ipam, document, "ipam.", invocation.warn)
    problems = _name_problems(conf)
    range_sets = _range_sets(conf, _runtime_ranges(invocation), problems)
    problems += _family_problems(range_sets, invocation.cni_version)
    requested = _requested(invocation, problems)
    given = conf.get("routes", ())
    routes = tuple(parse_route(route) for route in given)
    problems += _route_problems(routes)
    if problems:
        raise InvalidConfig(problems_text(problems))
    docker_schema = bool(conf.get("subnets")) or not range_sets
    explicit = any(route.dst.endswith("/0") for route in routes)
    return Request(
        pool=conf.get("pool") or invocation.network,
        data_dir=conf.get("dataDir") or DATA_DIR,
        range_sets=tuple(range_sets),
        requested=requested,
        routes=routes,
        implied_default=docker_schema and not explicit,
        dns=_dns(conf.get("dns", {})),
        resolv_conf=conf.get("resolvConf", ""),
        ipv6=conf.get("ipv6", False),
    )


def _name_problems(conf: _Ipam) -> list[str]:
    """Return what cannot be a directory."""
    pool, data_dir = conf.get("pool", ""), conf.get("dataDir", "")
    found = (
        [f"ipam.pool {pool}: a pool is named like a network"] if pool and not _NAME.fullmatch(pool) else []
    )
    if data_dir and not data_dir.startswith("/"):
        found.append(f"ipam.dataDir {data_dir}: not an absolute path")
    return found


def _runtime_ranges(invocation: Invocation) -> list[list[_Subnet]]:
    """Return the range sets that the runtime adds (capability ipRanges)."""
    ranges = section(invocation.conf, "runtimeConfig", "ipRanges")
    if not ranges:
        return []
    return load(_Runtime, {"ipRanges": ranges}, "runtimeConfig.", invocation.warn)["ipRanges"]


def _range_sets(conf: _Ipam, runtime: Sequence[Sequence[_Subnet]], problems: list[str]) -> list[RangeSet]:
    """Return the range sets of either schema; those of the runtime come first, as in host-local."""
    sets: list[list[Range]] = []
    subnets, ranges = conf.get("subnets", []), conf.get("ranges", [])
    if subnets and (ranges or conf.get("subnet")):
        problems.append("ipam: subnets excludes ranges and subnet, use one schema")
    named = [(f"runtimeConfig.ipRanges.{at}", items) for at, items in enumerate(runtime)]
    if conf.get("subnet"):
        named.append(("ipam", [_top_level(conf)]))
    named += [(f"ipam.ranges.{at}", items) for at, items in enumerate(ranges)]
    for path, items in named:
        if not items:
            problems.append(f"{path}: empty range set")
        sets.append(_ranges(path, items, problems))
    sets += _by_family(_ranges("ipam.subnets", subnets, problems))
    problems += _overlap_problems(sets)
    problems += [f"ipam: mixed address families in {_shown(s)}" for s in sets if _mixed(s)]
    return [RangeSet(tuple(ranges)) for ranges in sets if ranges]


def _top_level(conf: _Ipam) -> _Subnet:
    """Return the one range that host-local's oldest schema has."""
    return {
        "subnet": conf["subnet"],
        "rangeStart": conf.get("rangeStart", ""),
        "rangeEnd": conf.get("rangeEnd", ""),
        "gateway": conf.get("gateway", ""),
        "exclude": conf.get("exclude", []),
    }


def _ranges(path: str, items: Sequence[_Subnet], problems: list[str]) -> list[Range]:
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


def _range(conf: _Subnet, path: str, problems: list[str]) -> Range | None:
    try:
        subnet = ipaddress.ip_network(conf["subnet"])
    except ValueError:
        problems.append(f"{path}.subnet {conf['subnet']}: {_subnet_problem(conf['subnet'])}")
        return None
    fault = len(problems)
    first, last = _bounds(conf, subnet, path, problems)
    gateway = _gateway(conf.get("gateway", ""), subnet, path, problems)
    reserved = [(number, number) for number in edges(subnet)]
    for name, text in conf.get("auxAddresses", {}).items():
        reserved += _holes(text, subnet, f"{path}.auxAddresses.{name}", problems)
    for at, text in enumerate(conf.get("exclude", ())):
        reserved += _holes(text, subnet, f"{path}.exclude.{at}", problems)
    if len(problems) > fault:
        return None
    if gateway and ipaddress.ip_address(gateway) in subnet:
        reserved.append((int(ipaddress.ip_address(gateway)),) * 2)
    found = Range(subnet, first, last, gateway, tuple(sorted(reserved)))
    if not found.free_intervals():
        problems.append(f"{path}.subnet {conf['subnet']}: too small to allocate from, all is reserved")
    return found


def _subnet_problem(text: str) -> str:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return "not a subnet in CIDR form"
    return (
        "Network has host bits set. For a subnet mask of length"
        f" {network.prefixlen} the network address is {network.network_address}"
    )


def _bounds(conf: _Subnet, subnet: Network, path: str, problems: list[str]) -> tuple[int, int]:
    first, last = int(subnet.network_address), int(subnet[-1])
    if conf.get("ipRange", ""):
        if conf.get("rangeStart", "") or conf.get("rangeEnd", ""):
            problems.append(f"{path}: ipRange excludes rangeStart and rangeEnd")
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
        address = ipaddress.ip_address(text)
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
        network = ipaddress.ip_network(text)
    except ValueError:
        problems.append(f"{path} {text}: not an address, range or CIDR")
        return []
    first, last = network[0], network[-1]
    if first not in subnet or last not in subnet:
        problems.append(f"{path} {text}: not in network {subnet}")
        return []
    return [(int(first), int(last))]


def _gateway(text: str, subnet: Network, path: str, problems: list[str]) -> str:
    if text == NO_GATEWAY:
        return ""
    if not text:
        return first_usable(subnet)
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        problems.append(f"{path}.gateway {text}: not an IP address, nor {NO_GATEWAY!r}")
        return ""
    if address.version != subnet.version:
        problems.append(f"{path}.gateway {text}: of another family than {subnet}")
    return str(address)


def _overlap_problems(sets: Sequence[Sequence[Range]]) -> list[str]:
    """Return a problem for every two ranges that overlap, within a set and between sets."""
    ranges = [item for ranges in sets for item in ranges]
    return [
        f"ipam: subnets {one.subnet} and {other.subnet} overlap in {one.describe()} and {other.describe()}"
        for at, one in enumerate(ranges)
        for other in ranges[at + 1 :]
        if one.version == other.version and one.first <= other.last and other.first <= one.last
    ]


def _mixed(ranges: Sequence[Range]) -> bool:
    return len({item.version for item in ranges}) > 1


def _shown(ranges: Sequence[Range]) -> str:
    return ", ".join(str(item.subnet) for item in ranges)


def _family_problems(range_sets: Sequence[RangeSet], cni_version: str) -> list[str]:
    versions = [range_set.version for range_set in range_sets]
    if cni_version in {"0.1.0", "0.2.0"} and len(versions) > len(set(versions)):
        return [f"CNI version {cni_version} does not support more than 1 address per family"]
    return []


def _requested(invocation: Invocation, problems: list[str]) -> tuple[str, ...]:
    """Return the addresses asked for by the strongest of three sources, without their prefix lengths."""
    sources: tuple[tuple[str, Any], ...] = (
        ("runtimeConfig.ips", section(invocation.conf, "runtimeConfig", "ips")),
        ("args.cni.ips", section(invocation.conf, "args", "cni", "ips")),
        ("CNI_ARGS IP", [p for p in invocation.args.get("IP", "").split(",") if p]),
    )
    where, items = next(((where, items) for where, items in sources if items), ("", []))
    found = []
    for item in items if isinstance(items, list) else [items]:
        try:
            found.append(str(ipaddress.ip_interface(item).ip))
        except (TypeError, ValueError):
            problems.append(f"{where} {item}: not an IP address")
    return tuple(found)


def _route_problems(routes: Sequence[Route]) -> list[str]:
    found = []
    for route in routes:
        try:
            destination = ipaddress.ip_network(route.dst, strict=False)
            if route.gw and ipaddress.ip_address(route.gw).version != destination.version:
                found.append(f"ipam.routes {route.dst}: gateway {route.gw} is of another family")
        except ValueError as error:
            found.append(f"ipam.routes {route.dst} {route.gw}: {error}")
    return found


def _dns(conf: _Dns) -> DNS:
    return DNS(
        tuple(conf.get("nameservers", ())),
        conf.get("domain", ""),
        tuple(conf.get("search", ())),
        tuple(conf.get("options", ())),
    )
