"""Operations and queries as rtnetlink requests (rtnetlink(7))."""

import ipaddress
import socket
from typing import Any

from cni_core.links import (
    IPVLAN_FLAGS,
    IPVLAN_MODES,
    MACVLAN_MODES,
    VLAN_PROTOCOLS,
    AddAddress,
    AddRoute,
    CreateChild,
    CreateDummy,
    CreateVlan,
    DeleteLink,
    Operation,
    Rename,
    SetAlias,
    SetUp,
)
from cni_core.rtcodecs import ifaddrmsg, ifinfmsg, rtmsg
from cni_core.rtsocket import Request

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR, _RTM_GETADDR = 20, 22
_RTM_NEWROUTE, _RTM_GETROUTE = 24, 26
_NLM_F_EXCL, _NLM_F_CREATE, _NLM_F_APPEND = 0x200, 0x400, 0x800
_IFF_UP, _IFF_LOOPBACK, _IFF_LOWER_UP = 0x1, 0x8, 0x10000
_IFA_F_NODAD = 0x02
_RTNH_F_ONLINK = 0x4
_RTPROT_STATIC = 4
_RTN_UNICAST = 1
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK = 0, 253
_RT_TABLE_MAIN = 254
_RTEXT_FILTER_SKIP_STATS = 8
_MACADDR_SET = 3
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


def encode(operation: Operation) -> Request:
    """Return the request that carries out an operation."""
    match operation:
        case CreateVlan() | CreateDummy() | CreateChild():
            return _encode_create(operation)
        case Rename(index, name, alias):
            return _link_request(0, index, [("IFLA_IFNAME", name), ("IFLA_IFALIAS", alias)])
        case SetAlias(index, _, alias):
            return _link_request(0, index, [("IFLA_IFALIAS", alias)])
        case SetUp(index, _):
            return _link_request(0, index, [], up=True)
        case DeleteLink(index, _):
            return _link_request(0, index, [])._replace(type=_RTM_DELLINK)
        case AddAddress(index, _, address):
            return _encode_address(index, address)
        case AddRoute():
            return _encode_route(operation)


def _encode_create(operation: CreateVlan | CreateDummy | CreateChild) -> Request:
    attributes: list[tuple[str, Any]] = [("IFLA_IFNAME", operation.name)]
    data: list[tuple[str, Any]] = []
    match operation:
        case CreateVlan(_, uplink, vlan_id, protocol):
            kind = "vlan"
            data = [("IFLA_VLAN_ID", vlan_id), ("IFLA_VLAN_PROTOCOL", VLAN_PROTOCOLS[protocol])]
            attributes.append(("IFLA_LINK", uplink.ifindex))
        case CreateDummy(_, mtu):
            kind = "dummy"
            attributes += [("IFLA_MTU", mtu)] if mtu else []
        case _:
            kind, data = operation.driver, _child_data(operation)
            attributes += [("IFLA_LINK", operation.parent.ifindex), ("IFLA_NET_NS_FD", operation.sandbox_fd)]
            attributes += [("IFLA_MTU", operation.mtu)] if operation.mtu else []
            attributes += [("IFLA_ADDRESS", operation.mac)] if operation.mac else []
    info: list[tuple[str, Any]] = [("IFLA_INFO_KIND", kind)]
    info += [("IFLA_INFO_DATA", {"attrs": data})] if data else []
    attributes.append(("IFLA_LINKINFO", {"attrs": info}))
    return _link_request(_NLM_F_CREATE | _NLM_F_EXCL, 0, attributes)


def _child_data(child: CreateChild) -> list[tuple[str, Any]]:
    if child.driver == "ipvlan":
        return [
            ("IFLA_IPVLAN_MODE", IPVLAN_MODES[child.mode]),
            ("IFLA_IPVLAN_FLAGS", IPVLAN_FLAGS[child.flag]),
        ]
    data: list[tuple[str, Any]] = [("IFLA_MACVLAN_MODE", MACVLAN_MODES[child.mode])]
    if child.source_macs:
        macs = [("IFLA_MACVLAN_MACADDR", mac) for mac in child.source_macs]
        data.append(("IFLA_MACVLAN_MACADDR_MODE", _MACADDR_SET))
        data.append(("IFLA_MACVLAN_MACADDR_DATA", {"attrs": macs}))
    if child.queue_length:
        data.append(("IFLA_MACVLAN_BC_QUEUE_LEN", child.queue_length))
    return data


def _link_request(flags: int, index: int, attributes: list[tuple[str, Any]], *, up: bool = False) -> Request:
    message = ifinfmsg()
    message["index"] = index
    if up:
        message["flags"] = message["change"] = _IFF_UP
    message["attrs"] = attributes
    return Request(_RTM_NEWLINK, flags, _body(message))


def _encode_address(index: int, address: str) -> Request:
    interface = ipaddress.ip_interface(address)
    message = ifaddrmsg()
    message["family"] = _FAMILY[interface.version]
    message["prefixlen"] = interface.network.prefixlen
    message["index"] = index
    attributes: list[tuple[str, Any]] = [
        ("IFA_LOCAL", str(interface.ip)),
        ("IFA_ADDRESS", str(interface.ip)),
    ]
    if interface.version == 6:  # noqa: PLR2004 - the IP version
        attributes.append(("IFA_FLAGS", _IFA_F_NODAD))
    elif interface.network.prefixlen < 31:  # noqa: PLR2004 - RFC 3021: a /31 has no broadcast
        attributes.append(("IFA_BROADCAST", str(interface.network.broadcast_address)))
    message["attrs"] = attributes
    return Request(_RTM_NEWADDR, _NLM_F_CREATE | _NLM_F_EXCL, _body(message))


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


def query_link(*, name: str = "", index: int = 0) -> Request:
    """Return the query of one link by its name or index."""
    message = ifinfmsg()
    message["index"] = index
    attributes: list[tuple[str, Any]] = [("IFLA_EXT_MASK", _RTEXT_FILTER_SKIP_STATS)]
    if name:
        attributes.append(("IFLA_IFNAME", name))
    message["attrs"] = attributes
    return Request(_RTM_GETLINK, 0, _body(message))


def query_addresses(index: int) -> Request:
    """Return the query of a link's addresses."""
    message = ifaddrmsg()
    message["index"] = index
    return Request(_RTM_GETADDR, 0, _body(message))


def query_routes(family: int) -> Request:
    """Return the query of all routes of a family, in every table."""
    message = rtmsg()
    message["family"] = family
    return Request(_RTM_GETROUTE, 0, _body(message))


def _body(message: Any) -> bytes:  # noqa: ANN401 - pyroute2 is untyped
    message.encode()
    return bytes(message.data[16:])  # what follows the header, which cni_core.rtsocket writes
