"""The `ipam` object of a network: JSON in, range sets and requests out. Has no side effects.

Two schemas: Docker's (`subnets`) and host-local's (`ranges`, or `subnet` at the top). All problems of a
configuration are reported at once; docs/configuration.md has the keys.
"""

import ipaddress
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

from cni_core.call import Call
from cni_core.document import section
from cni_core.errors import InvalidConfig
from cni_core.netconf import DnsKeys, load
from cni_core.result import DNS, ONE_PER_FAMILY, Route
from cni_core.result_json import parse_dns, parse_route, route_problem
from cni_ipam import place
from cni_ipam.cluster import BLOCK_SIZE, FILES, Cluster, ClusterKeys, parse_cluster
from cni_ipam.place import DATA_DIR, Place
from cni_ipam.ranges import RangeSet, without_zone
from cni_ipam.subnets import Subnet, range_sets

CREDENTIALS = "/etc/cni-vlan"  # mounted into the agent's container
_OBJECT_NAME = r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?"  # compiled at its use, which most processes have not
_ORDINAL = r"-\d{1,4}$"


class _Route(TypedDict):
    dst: str
    gw: NotRequired[str]
    mtu: NotRequired[int]
    advmss: NotRequired[int]
    priority: NotRequired[int]
    table: NotRequired[int]
    scope: NotRequired[int]


class Schema(TypedDict, total=False):
    """The keys of the section "ipam"."""

    type: str
    subnets: list[Subnet]
    ranges: list[list[Subnet]]
    subnet: str
    rangeStart: str
    rangeEnd: str
    gateway: str
    exclude: list[str]
    ipv6: bool
    routes: list[_Route]
    dns: DnsKeys
    resolvConf: str
    dataDir: str
    pool: str
    statusWhenFull: Literal["warn", "fail"]
    cluster: ClusterKeys
    blockSize: int | str
    pinned: list[str]
    sticky: int


class _Runtime(TypedDict, total=False):
    ipRanges: list[list[Subnet]]


class AllocationRequest(NamedTuple):
    """The request of an ADD to the pool.

    Without range sets, the network gets a default pool, with IPv6 if `ipv6`. `implied_default` adds a default
    route for each gateway. Addresses in `requested` are plain text. `host_local`: the configuration has
    host-local's schema, whose users expect host-local's errors, word for word. `may_be_full`: STATUS succeeds
    without a free address. `cluster` is None if the pool is this node's alone. `owner` is who gets the same
    address again within `keep_s` seconds, "" for nobody.
    """

    place: Place
    range_sets: tuple[RangeSet, ...]
    requested: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    implied_default: bool = False
    dns: DNS = DNS()
    resolv_conf: str = ""
    ipv6: bool = False
    host_local: bool = False
    may_be_full: bool = True
    cluster: Cluster | None = None
    owner: str = ""
    keep_s: int = 0


def parse(call: Call, warn: Callable[[str], None]) -> AllocationRequest:
    """Return the request in a network's `ipam`, or raise InvalidConfig with every problem."""
    document = call.conf.get("ipam")
    if not isinstance(document, dict):
        raise InvalidConfig("IPAM config missing 'ipam' key")
    known, problems = _read(document, _runtime_ranges(call, warn), call.network, warn)
    conf, sets, routes = known.conf, known.sets, known.routes
    problems += _family_problems(sets, call.cni_version)
    requested = _requested(call, problems)
    cluster = _cluster(conf, call.network, problems)
    if document.get("type") == "host-local" and (problems or not sets):
        _refuse_as_host_local(call, document)
    if problems:
        raise InvalidConfig.of(problems)
    docker_schema = bool(conf.get("subnets")) or not sets
    return AllocationRequest(
        place=Place(conf.get("pool") or call.network, conf.get("dataDir") or DATA_DIR),
        range_sets=tuple(sets),
        requested=requested,
        routes=routes,
        implied_default=docker_schema and not any(route.is_default for route in routes),
        dns=parse_dns(conf.get("dns", {})),
        resolv_conf=conf.get("resolvConf", ""),
        ipv6=conf.get("ipv6", False),
        host_local=not docker_schema,
        may_be_full=conf.get("statusWhenFull") != "fail",
        cluster=cluster,
        owner=_owner(call) if conf.get("sticky") else "",
        keep_s=conf.get("sticky", 0),
    )


def _refuse_as_host_local(call: Call, document: Mapping[str, Any]) -> None:
    """Raise host-local's error when cni-ipam runs in its place; its users want no default pool either."""
    from cni_ipam.hostlocal_words import reference_error

    runtime = section(call.conf, "runtimeConfig", "ipRanges") or ()
    version = call.cni_version if call.cni_version in ONE_PER_FAMILY else ""
    text = reference_error(document, runtime, call.args.get("IP", ""), version)
    if text:
        raise InvalidConfig(text)


def _cluster(conf: Schema, network: str, problems: list[str]) -> Cluster | None:
    """Return the cluster that shares the pool, None if it is this node's alone."""
    keys = conf.get("cluster")
    if keys is None:
        beside = [key for key in ("blockSize", "pinned", "sticky") if conf.get(key)]
        problems += [f"ipam.{key}: only with ipam.cluster" for key in beside]
        return None
    if not (conf.get("subnets") or conf.get("ranges") or conf.get("subnet")):
        problems.append("ipam.cluster: subnets are required: each node would choose a different default")
    pool = conf.get("pool") or network
    if keys.get("store") == "kubernetes" and not re.fullmatch(_OBJECT_NAME, pool):
        problems.append(f"ipam.pool {pool}: Kubernetes allows lower case letters, digits, - and .")
    if conf.get("sticky", 0) < 0 or (conf.get("sticky") and not conf.get("pinned")):
        problems.append(f"ipam.sticky {conf.get('sticky')}: seconds, with ipam.pinned for the addresses")
    return parse_cluster(keys, conf.get("blockSize", BLOCK_SIZE), conf.get("pinned", ()), problems)


def _owner(call: Call) -> str:
    """Return the owner that gets the same address again, "" for none: the named one, or a StatefulSet's pod.

    A StatefulSet's pods end in an ordinal. Those of a Deployment end in five characters, which may be digits.
    """
    named = section(call.conf, "args", "cni", "owner") or call.args.get("OWNER")
    if isinstance(named, str) and named:
        return named
    return call.pod.label if re.search(_ORDINAL, call.pod.name) else ""


class _Known(NamedTuple):
    """A section "ipam" that was read before."""

    document: dict[str, Any]
    runtime: list[list[Subnet]]
    warnings: list[str]
    conf: Schema
    sets: list[RangeSet]
    routes: tuple[Route, ...]


# The agent serves the same few networks again and again, and reading a long list of exclusions takes longer
# than leasing an address.
_known: dict[str, _Known] = {}
_KNOWN_MOST = 256


def _read(
    document: dict[str, Any], runtime: list[list[Subnet]], network: str, warn: Callable[[str], None]
) -> tuple[_Known, list[str]]:
    """Return the section with its range sets and routes, and its problems."""
    known = _known.get(network)
    if known is None or (known.document, known.runtime) != (document, runtime):
        warnings: list[str] = []
        conf = load(Schema, document, "ipam.", warnings.append)
        problems = _name_problems(conf)
        sets = _range_sets(conf, runtime, problems)
        routes = tuple(parse_route(route) for route in conf.get("routes", ()))
        problems += _route_problems(routes)
        known = _Known(document, runtime, warnings, conf, sets, routes)
        if problems:
            return known, problems
        warnings += _gateway_warnings(sets)
        if len(_known) >= _KNOWN_MOST:
            _known.clear()
        _known[network] = known
    for text in known.warnings:
        warn(text)
    return known, []


def _gateway_warnings(sets: Sequence[RangeSet]) -> list[str]:
    """Return a warning for each gateway that is outside its pods' subnet."""
    found = dict.fromkeys(
        (item.gateway, item.subnet) for range_set in sets for item in range_set.ranges if item.gateway
    )
    return [
        f"ipam: gateway {gateway} is outside of subnet {subnet}"
        for gateway, subnet in found
        if ipaddress.ip_address(gateway) not in subnet
    ]


def _name_problems(conf: Schema) -> list[str]:
    """Return the problems of `pool` and `dataDir`, which become directories."""
    named = (
        ("pool", conf.get("pool"), place.pool_problem),
        ("dataDir", conf.get("dataDir"), place.data_dir_problem),
    )
    return [
        f"ipam.{key} {value}: {problem(value)}" for key, value, problem in named if value and problem(value)
    ]


def _runtime_ranges(call: Call, warn: Callable[[str], None]) -> list[list[Subnet]]:
    """Return the range sets that the runtime adds (capability ipRanges)."""
    ranges = section(call.conf, "runtimeConfig", "ipRanges")
    if not ranges:
        return []
    return load(_Runtime, {"ipRanges": ranges}, "runtimeConfig.", warn)["ipRanges"]


def _range_sets(conf: Schema, runtime: Sequence[Sequence[Subnet]], problems: list[str]) -> list[RangeSet]:
    """Return the range sets of either schema; those of the runtime come first, as in host-local."""
    subnets, ranges = conf.get("subnets", []), conf.get("ranges", [])
    if subnets and (ranges or conf.get("subnet")):
        problems.append("ipam: subnets cannot be combined with ranges or subnet")
    named: list[tuple[str, Sequence[Subnet]]] = [
        (f"runtimeConfig.ipRanges.{at}", items) for at, items in enumerate(runtime)
    ]
    if conf.get("subnet"):
        named.append(("ipam", [_top_level(conf)]))
    named += [(f"ipam.ranges.{at}", items) for at, items in enumerate(ranges)]
    return range_sets(named, subnets, problems)


def _top_level(conf: Schema) -> Subnet:
    """Return the single range of host-local's oldest schema."""
    return {
        "subnet": conf["subnet"],
        "rangeStart": conf.get("rangeStart", ""),
        "rangeEnd": conf.get("rangeEnd", ""),
        "gateway": conf.get("gateway", ""),
        "exclude": conf.get("exclude", []),
    }


def _family_problems(range_sets: Sequence[RangeSet], cni_version: str) -> list[str]:
    versions = [range_set.version for range_set in range_sets]
    if cni_version in ONE_PER_FAMILY and len(versions) > len(set(versions)):
        return [f"CNI version {cni_version} does not support more than 1 address per family"]
    return []


def _requested(call: Call, problems: list[str]) -> tuple[str, ...]:
    """Return the requested addresses without prefix lengths, from the first of three sources that has any."""
    sources: tuple[tuple[str, Any], ...] = (
        ("runtimeConfig.ips", section(call.conf, "runtimeConfig", "ips")),
        ("args.cni.ips", section(call.conf, "args", "cni", "ips")),
        ("CNI_ARGS IP", [p for p in call.args.get("IP", "").split(",") if p]),
    )
    where, items = next(((where, items) for where, items in sources if items), ("", []))
    found = []
    for item in items if isinstance(items, list) else [items]:
        try:
            if not isinstance(item, str):
                raise TypeError  # noqa: TRY301 - only ipaddress takes a number as an address
            found.append(str(ipaddress.ip_interface(without_zone(item)).ip))
        except (TypeError, ValueError):
            problems.append(f"{where} {item}: not an IP address")
    return tuple(found)


def _route_problems(routes: Sequence[Route]) -> list[str]:
    found = ((route, route_problem(route)) for route in routes)
    return [f"ipam.routes {route.dst}: {problem}" for route, problem in found if problem]


def needs_host_files(ipam: Mapping[str, Any]) -> bool:
    """Return whether a section names files that a container may not see.

    It sees the state directory, and the directory for the credentials of an engine.
    """
    data_dir = os.path.normpath(str(ipam.get("dataDir") or DATA_DIR))
    cluster = ipam.get("cluster")
    files = [str(cluster[key]) for key in FILES if cluster.get(key)] if isinstance(cluster, dict) else []
    away = [path for path in files if not os.path.normpath(path).startswith(f"{CREDENTIALS}/")]
    return bool(ipam.get("resolvConf") or away) or not f"{data_dir}/".startswith(f"{DATA_DIR}/")
