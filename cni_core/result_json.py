"""Reading and writing results in the JSON form of every CNI version.

CNI spec 1.1.0, section 5 "Result Types", and its earlier versions for the older forms.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from cni_core.errors import DecodingFailure
from cni_core.family import Family
from cni_core.result import DNS, LATEST, ONE_PER_FAMILY, Interface, IPConfig, Result, Route

_CIDR = re.compile(r"[0-9a-fA-F.:]+/[0-9]{1,3}")
_VERSIONED_IPS = ("0.3.0", "0.3.1", "0.4.0")


def parse_result(document: object, default_version: str) -> Result:
    """Read a result of any supported version, or raise DecodingFailure."""
    try:
        return _check(_parse(document, default_version))
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise DecodingFailure(f"parse result: {type(error).__name__}: {error}") from error


_ROUTE_LIMITS = {"mtu": 32, "advmss": 32, "priority": 32, "table": 32, "scope": 8}  # bits in a route message


def route_problem(route: Route) -> str:
    """Return the reason why no kernel would accept a route, "" if there is none."""
    import ipaddress

    for key, bits in _ROUTE_LIMITS.items():
        number = getattr(route, key)
        if number is not None and (type(number) is not int or not 0 <= number < 1 << bits):
            return f"{key} {number!r}: must be 0 to {(1 << bits) - 1}"
    try:
        _check_cidr(route.dst)
        destination = ipaddress.ip_network(route.dst, strict=False)
        if "%" in route.gw:
            return f"gateway {route.gw} has a zone"
        if route.gw and ipaddress.ip_address(route.gw).version != destination.version:
            return f"gateway {route.gw} is of another family"
    except ValueError as error:
        return str(error)
    return ""


def _check_cidr(text: str) -> None:
    """Raise ValueError for text that Python accepts as an address with a prefix, and Go's runtimes do not."""
    if not _CIDR.fullmatch(text):
        raise ValueError(f"invalid CIDR address: {text}")


def _check(result: Result) -> Result:
    """Return a result whose addresses are all valid, or raise ValueError: later steps rely on it."""
    import ipaddress

    texts = [text for i in result.interfaces for text in (i.name, i.mac, i.sandbox)]
    texts += [text for ip in result.ips for text in (ip.address, ip.gateway)]
    texts += [text for route in result.routes for text in (route.dst, route.gw)]
    dns = result.dns
    for text in (*texts, *dns.nameservers, dns.domain, *dns.search, *dns.options):
        if not isinstance(text, str):
            raise TypeError(f"{text!r}: not a string")
    for ip in result.ips:
        _check_cidr(ip.address)
        ipaddress.ip_interface(ip.address)
        if ip.gateway:
            _check_cidr(f"{ip.gateway}/0")
            ipaddress.ip_address(ip.gateway)
        if ip.interface is not None and type(ip.interface) is not int:
            raise ValueError(f"interface {ip.interface!r}: not an index")
    for route in result.routes:
        problem = route_problem(route)
        if problem:
            raise ValueError(f"route {route.dst}: {problem}")
    return result


def _parse(document: Any, default_version: str) -> Result:  # noqa: ANN401 - JSON from anyone
    version = document.get("cniVersion") or default_version
    dns = parse_dns(document.get("dns") or {})
    if version in ONE_PER_FAMILY:
        parts = [document[key] for key in ("ip4", "ip6") if document.get(key)]
        routes = [route for part in parts for route in part.get("routes") or ()]
        ips = tuple(IPConfig(part["ip"], part.get("gateway") or "") for part in parts)
        return Result((), ips, tuple(parse_route(route) for route in routes), dns)
    return Result(
        tuple(
            Interface(
                item["name"],
                item.get("mac") or "",
                item.get("sandbox") or "",
                int(item.get("mtu") or 0),
            )
            for item in document.get("interfaces") or ()
        ),
        tuple(
            IPConfig(item["address"], item.get("gateway") or "", item.get("interface"))
            for item in document.get("ips") or ()
        ),
        tuple(parse_route(item) for item in document.get("routes") or ()),
        dns,
    )


def parse_route(item: Mapping[str, Any]) -> Route:
    """Read a route in its JSON form."""
    numbers: dict[str, Any] = {key: item.get(key) for key in _ROUTE_LIMITS}
    return Route(item["dst"], item.get("gw") or "", **numbers)


def parse_dns(item: Mapping[str, Any]) -> DNS:
    """Read name servers in their JSON form."""
    return DNS(
        tuple(item.get("nameservers") or ()),
        item.get("domain") or "",
        tuple(item.get("search") or ()),
        tuple(item.get("options") or ()),
    )


def render_result(result: Result, version: str) -> dict[str, Any]:
    """Return the JSON document of a result in the given CNI version."""
    if version in ONE_PER_FAMILY:
        return _render_per_family(result, version)
    document: dict[str, Any] = {"cniVersion": version}
    if result.interfaces:
        document["interfaces"] = [_render_interface(i, version) for i in result.interfaces]
    if result.ips:
        document["ips"] = [_render_ip(ip, version) for ip in result.ips]
    if result.routes:
        document["routes"] = [_render_route(route, version) for route in result.routes]
    dns = _render_dns(result.dns)
    if dns or version in _VERSIONED_IPS:
        document["dns"] = dns
    return document


def _render_per_family(result: Result, version: str) -> dict[str, Any]:
    """Return the form before 0.3.0, which has one address of each family."""
    document: dict[str, Any] = {"cniVersion": version}
    for key, family in (("ip4", Family.IPV4), ("ip6", Family.IPV6)):
        first = next((ip for ip in result.ips if ip.family is family), None)
        if first is None:
            continue
        part: dict[str, Any] = {"ip": first.address}
        if first.gateway:
            part["gateway"] = first.gateway
        routes = [_render_route(r, version) for r in result.routes if r.family is family]
        if routes:
            part["routes"] = routes
        document[key] = part
    document["dns"] = _render_dns(result.dns)
    return document


def _render_interface(interface: Interface, version: str) -> dict[str, Any]:
    item: dict[str, Any] = {"name": interface.name}
    if interface.mac:
        item["mac"] = interface.mac
    if interface.mtu and version == LATEST:
        item["mtu"] = interface.mtu
    if interface.sandbox:
        item["sandbox"] = interface.sandbox
    return item


def _render_ip(ip: IPConfig, version: str) -> dict[str, Any]:
    item: dict[str, Any] = {}
    if version in _VERSIONED_IPS:
        item["version"] = str(ip.family.value)
    if ip.interface is not None:
        item["interface"] = ip.interface
    item["address"] = ip.address
    if ip.gateway:
        item["gateway"] = ip.gateway
    return item


def _render_route(route: Route, version: str) -> dict[str, Any]:
    item: dict[str, Any] = {"dst": route.dst}
    if route.gw:
        item["gw"] = route.gw
    if version == LATEST:
        item |= {key: value for key in _ROUTE_LIMITS if (value := getattr(route, key)) is not None}
    return item


def _render_dns(dns: DNS) -> dict[str, Any]:
    fields: Sequence[tuple[str, Any]] = (
        ("nameservers", list(dns.nameservers)),
        ("domain", dns.domain),
        ("search", list(dns.search)),
        ("options", list(dns.options)),
    )
    return {key: value for key, value in fields if value}
