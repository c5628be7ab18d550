"""The `ipam` object of a network: JSON in, range sets and requests out. Touches nothing.

Two schemas: Docker's (`subnets`) and host-local's (`ranges`, or `subnet` at the top). Every problem of a
configuration is reported at once; docs/configuration.md has the keys.
"""

import ipaddress
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import Field

from cni_core.errors import InvalidConfig
from cni_core.invocation import Invocation, section
from cni_core.netconf import Conf, load, problems_text
from cni_core.result import DNS, Route
from cni_ipam.ranges import Interval, Network, Range, RangeSet, edges, first_usable
from cni_ipam.store import DATA_DIR

NO_GATEWAY = "none"


class _RouteConf(Conf):
    dst: str
    gw: str = ""
    mtu: int | None = None
    advmss: int | None = None
    priority: int | None = None
    table: int | None = None
    scope: int | None = None


class _DnsConf(Conf):
    nameservers: list[str] = []
    domain: str = ""
    search: list[str] = []
    options: list[str] = []


class _SubnetConf(Conf):
    subnet: str
    ip_range: str = Field("", alias="ipRange")
    range_start: str = Field("", alias="rangeStart")
    range_end: str = Field("", alias="rangeEnd")
    gateway: str = ""
    aux_addresses: dict[str, str] = Field({}, alias="auxAddresses")
    exclude: list[str] = []


class _IpamConf(Conf):
    type: str = ""
    subnets: list[_SubnetConf] = []
    ranges: list[list[_SubnetConf]] = []
    subnet: str = ""
    range_start: str = Field("", alias="rangeStart")
    range_end: str = Field("", alias="rangeEnd")
    gateway: str = ""
    exclude: list[str] = []
    ipv6: bool = False
    routes: list[_RouteConf] = []
    dns: _DnsConf | None = None
    resolv_conf: str = Field("", alias="resolvConf")
    data_dir: str = Field(DATA_DIR, alias="dataDir")
    pool: str = ""


class _RuntimeRange(Conf):
    ip_ranges: list[list[_SubnetConf]] = Field([], alias="ipRanges")


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
    conf = load(_IpamConf, document, "ipam.", invocation.warn)
    runtime = section(invocation.conf, "runtimeConfig")
    extra = load(_RuntimeRange, runtime or {}, "runtimeConfig.", lambda _text: None)
    problems: list[str] = []
    range_sets = _range_sets(conf, extra.ip_ranges, problems)
    problems += _family_problems(range_sets, invocation.cni_version)
    requested = _requested(invocation, problems)
    routes = tuple(Route(**route.model_dump(include=set(Route._fields))) for route in conf.routes)
    problems += _route_problems(routes)
    if problems:
        raise InvalidConfig(problems_text(problems))
    docker_schema = bool(conf.subnets) or not range_sets
    explicit = any(route.dst.endswith("/0") for route in routes)
    return Request(
        pool=conf.pool or invocation.network,
        data_dir=conf.data_dir,
        range_sets=tuple(range_sets),
        requested=requested,
        routes=routes,
        implied_default=docker_schema and not explicit,
        dns=_dns(conf.dns),
        resolv_conf=conf.resolv_conf,
        ipv6=conf.ipv6,
    )


def _range_sets(
    conf: _IpamConf, runtime: Sequence[Sequence[_SubnetConf]], problems: list[str]
) -> list[RangeSet]:
    """Return the range sets of either schema; those of the runtime come first, as in host-local."""
    sets: list[list[Range]] = []
    if conf.subnets and (conf.ranges or conf.subnet):
        problems.append("ipam: subnets excludes ranges and subnet, use one schema")
    named = [(f"runtimeConfig.ipRanges.{at}", items) for at, items in enumerate(runtime)]
    if conf.subnet:
        top = _SubnetConf.model_validate(conf.model_dump(by_alias=True, include=_TOP_LEVEL))
        named.append(("ipam", [top]))
    named += [(f"ipam.ranges.{at}", items) for at, items in enumerate(conf.ranges)]
    for path, items in named:
        if not items:
            problems.append(f"{path}: empty range set")
        sets.append(_ranges(path, items, problems))
    sets += _by_family(_ranges("ipam.subnets", conf.subnets, problems))
    problems += _overlap_problems(sets)
    problems += [f"ipam: mixed address families in {_shown(s)}" for s in sets if _mixed(s)]
    return [RangeSet(tuple(ranges)) for ranges in sets if ranges]


_TOP_LEVEL = {"subnet", "range_start", "range_end", "gateway", "exclude"}


def _ranges(path: str, items: Sequence[_SubnetConf], problems: list[str]) -> list[Range]:
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


def _range(conf: _SubnetConf, path: str, problems: list[str]) -> Range | None:
    try:
        subnet = ipaddress.ip_network(conf.subnet)
    except ValueError:
        problems.append(f"{path}.subnet {conf.subnet}: {_subnet_problem(conf.subnet)}")
        return None
    fault = len(problems)
    first, last = _bounds(conf, subnet, path, problems)
    gateway = _gateway(conf.gateway, subnet, path, problems)
    reserved = [(number, number) for number in edges(subnet)]
    for name, text in conf.aux_addresses.items():
        reserved += _holes(text, subnet, f"{path}.auxAddresses.{name}", problems)
    for at, text in enumerate(conf.exclude):
        reserved += _holes(text, subnet, f"{path}.exclude.{at}", problems)
    if len(problems) > fault:
        return None
    if gateway and ipaddress.ip_address(gateway) in subnet:
        reserved.append((int(ipaddress.ip_address(gateway)),) * 2)
    found = Range(subnet, first, last, gateway, tuple(sorted(reserved)))
    if not found.free_intervals():
        problems.append(f"{path}.subnet {conf.subnet}: too small to allocate from, all is reserved")
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


def _bounds(conf: _SubnetConf, subnet: Network, path: str, problems: list[str]) -> tuple[int, int]:
    first, last = int(subnet.network_address), int(subnet[-1])
    if conf.ip_range:
        if conf.range_start or conf.range_end:
            problems.append(f"{path}: ipRange excludes rangeStart and rangeEnd")
        holes = _holes(conf.ip_range, subnet, f"{path}.ipRange", problems)
        return holes[0] if holes else (first, last)
    if conf.range_start:
        first = _inside(conf.range_start, subnet, f"{path}.rangeStart", problems) or first
    if conf.range_end:
        last = _inside(conf.range_end, subnet, f"{path}.rangeEnd", problems) or last
    if first > last:
        problems.append(f"{path}: rangeStart {conf.range_start} is after rangeEnd {conf.range_end}")
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
            ipaddress.ip_network(route.dst, strict=False)
            if route.gw:
                ipaddress.ip_address(route.gw)
        except ValueError as error:
            found.append(f"ipam.routes {route.dst} {route.gw}: {error}")
    return found


def _dns(conf: _DnsConf | None) -> DNS:
    if conf is None:
        return DNS()
    return DNS(tuple(conf.nameservers), conf.domain, tuple(conf.search), tuple(conf.options))
