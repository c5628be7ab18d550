"""The messages of addresses, routes and neighbours, packed and read directly.

Layouts: rtnetlink(7), linux/if_addr.h, linux/rtnetlink.h, linux/neighbour.h.
The reason for not using pyroute2 is in cni_net.link_messages.
"""

import socket
import struct

from cni_core.cidr import Cidr
from cni_core.family import Family
from cni_net.attributes import attribute, number, read, read_number
from cni_net.observed import HostAddress, RouteEntry
from cni_net.operations import (
    AddAddress,
    AddNeighbour,
    AddRoute,
    DeleteAddress,
    DeleteNeighbour,
    DeleteRoute,
)
from cni_net.rtsocket import APPEND, CREATE, EXCL, HEADER_BYTES, REPLACE, Request

_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, _RTM_GETROUTE = 24, 25, 26
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_IFA_F_NODAD, _IFA_F_NOPREFIXROUTE = 0x2, 0x200
_RTM_NEWNEIGH, _RTM_DELNEIGH = 28, 29
_NDA_DST, _NDA_LLADDR, _NUD_PERMANENT = 1, 2, 0x80
RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_METRICS, RTA_TABLE = 1, 4, 5, 6, 8, 15
_RTAX_MTU, _RTAX_ADVMSS = 2, 8
_RTNH_F_ONLINK, _RTPROT_STATIC, _RTN_UNICAST = 0x4, 4, 1
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK, _RT_SCOPE_NOWHERE = 0, 253, 255
_RT_TABLE_MAIN, _TABLES_IN_HEADER = 254, 256
AF = {Family.IPV4: socket.AF_INET, Family.IPV6: socket.AF_INET6}
_ANY: dict[int, str] = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}  # noqa: S104 - a destination
_POINT_TO_POINT = 31  # RFC 3021: a /31 has no broadcast address

# Deprecated, or not usable (tentative, failed duplicate address detection); for IPv6 also temporary, a flag
# that in IPv4 means a second address of one subnet.
_FLEETING = {socket.AF_INET: 0x20 | 0x40 | 0x08, socket.AF_INET6: 0x01 | 0x20 | 0x40 | 0x08}

_IFADDR = struct.Struct("=BBBBI")  # family, prefixlen, flags, scope, index
_NDMSG = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type
RTMSG = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags


def change_address(operation: AddAddress | DeleteAddress) -> Request:
    """Return the request that adds or deletes an address; a new IPv6 one is not probed for duplicates."""
    own = Cidr.parse(operation.address)
    family, prefix = own.family, own.prefix
    scope = operation.scope if isinstance(operation, AddAddress) else 0
    body = _IFADDR.pack(AF[family], prefix, 0, scope, operation.ifindex)
    body += attribute(_IFA_LOCAL, own.packed) + attribute(_IFA_ADDRESS, own.packed)
    if isinstance(operation, DeleteAddress):
        return Request(_RTM_DELADDR, 0, body)
    flags = _IFA_F_NODAD if family is Family.IPV6 else 0
    flags |= _IFA_F_NOPREFIXROUTE if operation.bare else 0
    if flags:
        body += number(_IFA_FLAGS, flags)
    if family is Family.IPV4 and prefix < _POINT_TO_POINT:
        body += attribute(_IFA_BROADCAST, own.last.packed)
    return Request(_RTM_NEWADDR, CREATE | EXCL, body)


def change_neighbour(operation: AddNeighbour | DeleteNeighbour) -> Request:
    """Return the request that adds, replaces or deletes a neighbour."""
    neighbour = Cidr.parse(operation.address)
    body = _NDMSG.pack(AF[neighbour.family], operation.ifindex, _NUD_PERMANENT, 0, 0)
    body += attribute(_NDA_DST, neighbour.packed)
    if isinstance(operation, DeleteNeighbour):
        return Request(_RTM_DELNEIGH, 0, body)
    mac = bytes.fromhex(operation.mac.replace(":", ""))
    return Request(_RTM_NEWNEIGH, CREATE | REPLACE, body + attribute(_NDA_LLADDR, mac))


def query_addresses(index: int) -> Request:
    """Return the query of a link's addresses, 0 for every link's."""
    return Request(_RTM_GETADDR, 0, _IFADDR.pack(0, 0, 0, 0, index))


def parse_address(frame: bytes) -> str:
    """Read an address, in CIDR form, from a reply."""
    family, prefix, _flags, _scope, _index = _IFADDR.unpack_from(frame, HEADER_BYTES)
    found = read(frame, HEADER_BYTES + _IFADDR.size)
    packed = found.get(_IFA_LOCAL) or found[_IFA_ADDRESS]
    return f"{socket.inet_ntop(family, packed)}/{prefix}"


def parse_host_address(frame: bytes) -> HostAddress:
    """Read an address with the link that has it from a reply."""
    family, _prefix, _flags, scope, index = _IFADDR.unpack_from(frame, HEADER_BYTES)
    flags = read_number(read(frame, HEADER_BYTES + _IFADDR.size).get(_IFA_FLAGS, b""))
    return HostAddress(parse_address(frame), index, scope, bool(flags & _FLEETING[family]))


def add_route(route: AddRoute) -> Request:
    """Return the request that adds a route."""
    scope = _RT_SCOPE_UNIVERSE if route.gateway else _RT_SCOPE_LINK
    scope = scope if route.scope is None else route.scope
    flags = _RTNH_F_ONLINK if route.onlink else 0
    body = _route(route, (_RTPROT_STATIC, scope, _RTN_UNICAST, flags))
    metrics = ((_RTAX_MTU, route.mtu), (_RTAX_ADVMSS, route.advmss))
    given = b"".join(number(kind, value) for kind, value in metrics if value is not None)
    return Request(RTM_NEWROUTE, CREATE | APPEND, body + (attribute(_RTA_METRICS, given) if given else b""))


def delete_route(route: DeleteRoute) -> Request:
    """Return the request that deletes a route, of any origin and scope."""
    return Request(RTM_DELROUTE, 0, _route(route, (0, _RT_SCOPE_NOWHERE, 0, 0)))


def _route(route: AddRoute | DeleteRoute, end_of_header: tuple[int, int, int, int]) -> bytes:
    """Return header and key of a route; protocol, scope, type and flags are given."""
    destination = Cidr.parse(route.dst)
    table = _RT_TABLE_MAIN if route.table is None else route.table
    in_header = table if table < _TABLES_IN_HEADER else 0
    body = RTMSG.pack(AF[destination.family], destination.prefix, 0, 0, in_header, *end_of_header)
    body += number(RTA_TABLE, table) + number(_RTA_OIF, route.ifindex)
    if destination.prefix:
        body += attribute(RTA_DST, destination.first.packed)
    if route.gateway:
        body += attribute(_RTA_GATEWAY, Cidr.parse(route.gateway).packed)
    if route.priority is not None:
        body += number(_RTA_PRIORITY, route.priority)
    return body


def query_routes(family: Family, table: int) -> Request:
    """Return the query of a family's routes in a table, 0 for every table."""
    body = RTMSG.pack(AF[family], 0, 0, 0, 0, 0, 0, 0, 0)
    return Request(_RTM_GETROUTE, 0, body + (number(RTA_TABLE, table) if table else b""))


def destination(family: int, packed: bytes | None, length: int) -> str:
    """Return a destination in CIDR form; that of a default route has no address in its message."""
    return f"{socket.inet_ntop(family, packed) if packed else _ANY[family]}/{length}"


def parse_route(frame: bytes) -> RouteEntry | None:
    """Read a route from a reply; None for one that is not unicast, or without a single device."""
    family, length, _src, _tos, in_header, protocol, scope, kind, _flags = RTMSG.unpack_from(
        frame, HEADER_BYTES
    )
    found = read(frame, HEADER_BYTES + RTMSG.size)
    if kind != _RTN_UNICAST or _RTA_OIF not in found:
        return None
    metrics = read(found.get(_RTA_METRICS, b""))
    via = found.get(_RTA_GATEWAY)
    return RouteEntry(
        dst=destination(family, found.get(RTA_DST), length),
        gateway=socket.inet_ntop(family, via) if via else "",
        oif=read_number(found[_RTA_OIF]),
        table=read_number(found.get(RTA_TABLE, b"")) or in_header,
        priority=read_number(found.get(_RTA_PRIORITY, b"")),
        scope=scope,
        mtu=read_number(metrics.get(_RTAX_MTU, b"")),
        advmss=read_number(metrics.get(_RTAX_ADVMSS, b"")),
        protocol=protocol,
    )
