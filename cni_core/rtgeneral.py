"""The rare messages of rtnetlink (rtnetlink(7)), through pyroute2's codecs; cni_core.rtwire has the others.

That is: what creates a parent, children and routes with unusual settings, and dumps of addresses and routes.
"""

import ipaddress
import socket
from typing import Any

from cni_core.links import (
    MACVLAN_MODES,
    VLAN_PROTOCOLS,
    AddRoute,
    CreateChild,
    CreateDummy,
    CreateVlan,
    Operation,
    RouteEntry,
)
from cni_core.rtcodecs import ifaddrmsg, ifinfmsg, rtmsg
from cni_core.rtsocket import Request

_RTM_NEWLINK, _RTM_GETADDR, _RTM_NEWROUTE = 16, 22, 24
_NLM_F_EXCL, _NLM_F_CREATE, _NLM_F_APPEND = 0x200, 0x400, 0x800
_RTNH_F_ONLINK = 0x4
_RTPROT_STATIC = 4
_RTN_UNICAST = 1
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK = 0, 253
_RT_TABLE_MAIN = 254
_MACADDR_SET = 3
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}
_ANY = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}  # noqa: S104 - a destination


def encode(operation: Operation) -> Request:
    """Return the request that carries out an operation that rtwire does not pack."""
    match operation:
        case CreateVlan(name, uplink, vlan_id, protocol):
            data: list[tuple[str, Any]] = [
                ("IFLA_VLAN_ID", vlan_id),
                ("IFLA_VLAN_PROTOCOL", VLAN_PROTOCOLS[protocol]),
            ]
            return _create(name, "vlan", [("IFLA_LINK", uplink.ifindex)], data)
        case CreateDummy(name, mtu):
            return _create(name, "dummy", [("IFLA_MTU", mtu)] if mtu else [], [])
        case CreateChild():
            return _encode_macvlan(operation)
        case AddRoute():
            return _encode_route(operation)
        case _:
            raise AssertionError(operation)  # rtwire packs it


def _encode_macvlan(child: CreateChild) -> Request:
    attributes: list[tuple[str, Any]] = [
        ("IFLA_LINK", child.parent.ifindex),
        ("IFLA_NET_NS_FD", child.sandbox_fd),
    ]
    attributes += [("IFLA_MTU", child.mtu)] if child.mtu else []
    attributes += [("IFLA_ADDRESS", child.mac)] if child.mac else []
    data: list[tuple[str, Any]] = [("IFLA_MACVLAN_MODE", MACVLAN_MODES[child.mode])]
    if child.source_macs:
        macs = [("IFLA_MACVLAN_MACADDR", mac) for mac in child.source_macs]
        data.append(("IFLA_MACVLAN_MACADDR_MODE", _MACADDR_SET))
        data.append(("IFLA_MACVLAN_MACADDR_DATA", {"attrs": macs}))
    if child.queue_length:
        data.append(("IFLA_MACVLAN_BC_QUEUE_LEN", child.queue_length))
    return _create(child.name, "macvlan", attributes, data)


def _create(name: str, kind: str, attributes: list[tuple[str, Any]], data: list[tuple[str, Any]]) -> Request:
    info: list[tuple[str, Any]] = [("IFLA_INFO_KIND", kind)]
    info += [("IFLA_INFO_DATA", {"attrs": data})] if data else []
    message = ifinfmsg()
    message["attrs"] = [("IFLA_IFNAME", name), *attributes, ("IFLA_LINKINFO", {"attrs": info})]
    return Request(_RTM_NEWLINK, _NLM_F_CREATE | _NLM_F_EXCL, _body(message))


def _encode_route(route: AddRoute) -> Request:
    destination = ipaddress.ip_network(route.dst, strict=False)
    table = _RT_TABLE_MAIN if route.table is None else route.table
    default_scope = _RT_SCOPE_UNIVERSE if route.gateway else _RT_SCOPE_LINK
    message = rtmsg()
    message["family"] = _FAMILY[destination.version]
    message["dst_len"] = destination.prefixlen
    message["table"] = table if table < 256 else 0  # noqa: PLR2004 - an 8-bit field
    message["proto"] = _RTPROT_STATIC
    message["type"] = _RTN_UNICAST
    message["scope"] = default_scope if route.scope is None else route.scope
    message["flags"] = _RTNH_F_ONLINK if route.onlink else 0
    attributes: list[tuple[str, Any]] = [("RTA_TABLE", table), ("RTA_OIF", route.ifindex)]
    if destination.prefixlen:
        attributes.append(("RTA_DST", str(destination.network_address)))
    if route.gateway:
        attributes.append(("RTA_GATEWAY", route.gateway))
    if route.priority is not None:
        attributes.append(("RTA_PRIORITY", route.priority))
    metrics = [("RTAX_MTU", route.mtu), ("RTAX_ADVMSS", route.advmss)]
    given = [(name, value) for name, value in metrics if value is not None]
    if given:
        attributes.append(("RTA_METRICS", {"attrs": given}))
    message["attrs"] = attributes
    return Request(_RTM_NEWROUTE, _NLM_F_CREATE | _NLM_F_APPEND, _body(message))


def query_addresses(index: int) -> Request:
    """Return the query of a link's addresses."""
    message = ifaddrmsg()
    message["index"] = index
    return Request(_RTM_GETADDR, 0, _body(message))


def _body(message: Any) -> bytes:  # noqa: ANN401 - pyroute2 is untyped
    message.encode()
    return bytes(message.data[16:])  # what follows the header, which cni_core.rtsocket writes


def parse_address(frame: bytes) -> str:
    """Read an address, in CIDR form, from a reply."""
    message = ifaddrmsg(frame)
    message.decode()
    text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
    return f"{text}/{message['prefixlen']}"


def parse_route(frame: bytes) -> RouteEntry | None:
    """Read a route from a reply; None for one without a single device."""
    message = rtmsg(frame)
    message.decode()
    oif = message.get_attr("RTA_OIF")
    if oif is None or message["type"] != _RTN_UNICAST:
        return None
    metrics = message.get_attr("RTA_METRICS")
    destination = message.get_attr("RTA_DST") or _ANY[message["family"]]
    return RouteEntry(
        dst=f"{destination}/{message['dst_len']}",
        gateway=message.get_attr("RTA_GATEWAY") or "",
        oif=oif,
        table=message.get_attr("RTA_TABLE") or message["table"],
        priority=message.get_attr("RTA_PRIORITY") or 0,
        scope=message["scope"],
        mtu=(metrics.get_attr("RTAX_MTU") if metrics else 0) or 0,
        advmss=(metrics.get_attr("RTAX_ADVMSS") if metrics else 0) or 0,
        proto=message["proto"],
    )
