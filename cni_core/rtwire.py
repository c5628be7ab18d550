"""The messages of links, addresses and plain routes, packed and read directly.

pyroute2's codecs are general, and their code is cold in a process that makes one call now and then: of the
4.6 ms of an ADD in a warm process they took 2, these take 0.2; and a one-shot process need not import them
(28 ms). What is rare or wide is left to them. tests/unit/test_rtwire.py holds both against each other.
Layouts: rtnetlink(7), linux/if_link.h, linux/if_addr.h, linux/rtnetlink.h.
"""

import ipaddress
import struct
import sys

from cni_core.links import (
    IPVLAN_FLAGS,
    IPVLAN_MODES,
    MACVLAN_MODES,
    VLAN_PROTOCOLS,
    AddAddress,
    AddRoute,
    CreateChild,
    DeleteLink,
    Link,
    Operation,
    Rename,
    SetAlias,
    SetUp,
)
from cni_core.rtsocket import Request

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR, _RTM_NEWROUTE, _RTM_GETROUTE = 20, 24, 26
_EXCL, _CREATE, _APPEND = 0x200, 0x400, 0x800
_IFF_UP, _IFF_LOOPBACK, _IFF_LOWER_UP = 0x1, 0x8, 0x10000
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_LINKINFO, _IFLA_IFALIAS = 1, 3, 4, 5, 18, 20
_IFLA_NET_NS_FD, _IFLA_EXT_MASK, _IFLA_LINK_NETNSID = 28, 29, 37
_INFO_KIND, _INFO_DATA = 1, 2
_MODE, _FLAGS = 1, 2  # of a macvlan and an ipvlan alike
_VLAN_ID, _VLAN_PROTOCOL = 1, 5
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_IFA_F_NODAD = 0x2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_TABLE = 1, 4, 5, 6, 15
_RTNH_F_ONLINK, _RTPROT_STATIC, _RTN_UNICAST = 0x4, 4, 1
_RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK, _RT_TABLE_MAIN = 0, 253, 254
_SKIP_STATS = 8  # RTEXT_FILTER_SKIP_STATS
_AF_INET, _AF_INET6 = 2, 10

_IFINFO = struct.Struct("=BxHiII")  # family, type, index, flags, change
_IFADDR = struct.Struct("=BBBBI")  # family, prefixlen, flags, scope, index
_RTMSG = struct.Struct("=BBBBBBBBI")  # family, dst_len, src_len, tos, table, protocol, scope, type, flags
_ATTRIBUTE = struct.Struct("=HH")
_TYPE = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
_HEADER_BYTES = 16  # of a netlink message


def pack(operation: Operation) -> Request | None:
    """Return the request that carries out an operation, None for one that is left to pyroute2."""
    match operation:
        case Rename(index, name, alias):
            return _change_link(index, _text(_IFLA_IFNAME, name) + _text(_IFLA_IFALIAS, alias))
        case SetAlias(index, _, alias):
            return _change_link(index, _text(_IFLA_IFALIAS, alias))
        case SetUp(index, _):
            return Request(_RTM_NEWLINK, 0, _IFINFO.pack(0, 0, index, _IFF_UP, _IFF_UP))
        case DeleteLink(index, _):
            return Request(_RTM_DELLINK, 0, _IFINFO.pack(0, 0, index, 0, 0))
        case CreateChild(source_macs=(), queue_length=0):
            return _pack_child(operation)
        case AddAddress(index, _, address):
            return _pack_address(index, address)
        case AddRoute(mtu=None, advmss=None):
            return _pack_route(operation)
        case _:
            return None


def query_link(name: str, index: int) -> Request:
    """Return the query of one link by its name or index."""
    attributes = _number(_IFLA_EXT_MASK, _SKIP_STATS) + (_text(_IFLA_IFNAME, name) if name else b"")
    return Request(_RTM_GETLINK, 0, _IFINFO.pack(0, 0, index, 0, 0) + attributes)


def probe_kind(kind: str) -> Request:
    """Return a request for a link that cannot be: no device below it, an address of one byte.

    The kernel refuses it, with EOPNOTSUPP only if it does not know the kind (rtnl_newlink).
    """
    attributes = (
        _text(_IFLA_IFNAME, "probe")
        + _attribute(_IFLA_ADDRESS, b"\0")
        + _number(_IFLA_LINK, 0x7FFFFFFF)
        + _attribute(_IFLA_LINKINFO, _text(_INFO_KIND, kind))
    )
    return Request(_RTM_NEWLINK, _CREATE | _EXCL, _IFINFO.pack(0, 0, 0, 0, 0) + attributes)


def query_routes(*, ipv6: bool, table: int) -> Request:
    """Return the query of a family's routes in a table, 0 for every table."""
    body = _RTMSG.pack(_AF_INET6 if ipv6 else _AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)
    return Request(_RTM_GETROUTE, 0, body + (_number(_RTA_TABLE, table) if table else b""))


def _change_link(index: int, attributes: bytes) -> Request:
    return Request(_RTM_NEWLINK, 0, _IFINFO.pack(0, 0, index, 0, 0) + attributes)


def _pack_child(child: CreateChild) -> Request:
    if child.driver == "ipvlan":
        mode = struct.pack("=H", IPVLAN_MODES[child.mode])
        data = _attribute(_MODE, mode) + _attribute(_FLAGS, struct.pack("=H", IPVLAN_FLAGS[child.flag]))
    else:
        data = _number(_MODE, MACVLAN_MODES[child.mode])
    attributes = [
        _text(_IFLA_IFNAME, child.name),
        _number(_IFLA_LINK, child.parent.ifindex),
        _number(_IFLA_NET_NS_FD, child.sandbox_fd),
        _number(_IFLA_MTU, child.mtu) if child.mtu else b"",
        _attribute(_IFLA_ADDRESS, bytes.fromhex(child.mac.replace(":", ""))) if child.mac else b"",
        _attribute(_IFLA_LINKINFO, _text(_INFO_KIND, child.driver) + _attribute(_INFO_DATA, data)),
    ]
    return Request(_RTM_NEWLINK, _CREATE | _EXCL, _IFINFO.pack(0, 0, 0, 0, 0) + b"".join(attributes))


def _pack_address(index: int, address: str) -> Request:
    interface = ipaddress.ip_interface(address)
    own, prefix = interface.ip.packed, interface.network.prefixlen
    body = _attribute(_IFA_LOCAL, own) + _attribute(_IFA_ADDRESS, own)
    family = _AF_INET
    if interface.version == 6:  # noqa: PLR2004 - the IP version
        family = _AF_INET6
        body += _number(_IFA_FLAGS, _IFA_F_NODAD)
    elif prefix < 31:  # noqa: PLR2004 - RFC 3021: a /31 has no broadcast
        body += _attribute(_IFA_BROADCAST, interface.network.broadcast_address.packed)
    return Request(_RTM_NEWADDR, _CREATE | _EXCL, _IFADDR.pack(family, prefix, 0, 0, index) + body)


def _pack_route(route: AddRoute) -> Request:
    destination = ipaddress.ip_network(route.dst, strict=False)
    table = _RT_TABLE_MAIN if route.table is None else route.table
    default_scope = _RT_SCOPE_UNIVERSE if route.gateway else _RT_SCOPE_LINK
    head = _RTMSG.pack(
        _AF_INET6 if destination.version == 6 else _AF_INET,  # noqa: PLR2004 - the IP version
        destination.prefixlen,
        0,
        0,
        table if table < 256 else 0,  # noqa: PLR2004 - an 8-bit field
        _RTPROT_STATIC,
        default_scope if route.scope is None else route.scope,
        _RTN_UNICAST,
        _RTNH_F_ONLINK if route.onlink else 0,
    )
    body = _number(_RTA_TABLE, table) + _number(_RTA_OIF, route.ifindex)
    if destination.prefixlen:
        body += _attribute(_RTA_DST, destination.network_address.packed)
    if route.gateway:
        body += _attribute(_RTA_GATEWAY, ipaddress.ip_address(route.gateway).packed)
    if route.priority is not None:
        body += _number(_RTA_PRIORITY, route.priority)
    return Request(_RTM_NEWROUTE, _CREATE | _APPEND, head + body)


def _attribute(kind: int, payload: bytes) -> bytes:
    """Return one attribute, padded to four bytes."""
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(payload), kind) + payload + bytes(-len(payload) % 4)


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=I", value))


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")


def parse_link(frame: bytes) -> Link:
    """Read a link from a reply."""
    _family, _type, index, flags, _change = _IFINFO.unpack_from(frame, _HEADER_BYTES)
    found = _attributes(frame, _HEADER_BYTES + _IFINFO.size, len(frame))
    info = _nested(found.get(_IFLA_LINKINFO, b""))
    kind = _read_text(info.get(_INFO_KIND, b""))
    vlan_id, protocol, mode, flag = _parse_kind(kind, _nested(info.get(_INFO_DATA, b"")))
    return Link(
        ifindex=index,
        name=_read_text(found[_IFLA_IFNAME]),
        mac=found.get(_IFLA_ADDRESS, b"").hex(":"),
        mtu=_read_number(found.get(_IFLA_MTU, b"")),
        up=bool(flags & _IFF_UP),
        carrier=bool(flags & _IFF_LOWER_UP),
        loopback=bool(flags & _IFF_LOOPBACK),
        kind=kind,
        alias=_read_text(found.get(_IFLA_IFALIAS, b"")),
        parent_index=_read_number(found.get(_IFLA_LINK, b"")),
        parent_elsewhere=_IFLA_LINK_NETNSID in found,
        vlan_id=vlan_id,
        vlan_protocol=protocol,
        mode=mode,
        flag=flag,
    )


def _parse_kind(kind: str, data: dict[int, bytes]) -> tuple[int, str, str, str]:
    """Return VLAN id and protocol, mode and flag of the kinds that have them."""
    match kind:
        case "vlan":
            protocol = int.from_bytes(data.get(_VLAN_PROTOCOL, b""))  # in network byte order
            return _read_number(data.get(_VLAN_ID, b"")), _name_of(VLAN_PROTOCOLS, protocol), "", ""
        case "macvlan":
            return 0, "", _name_of(MACVLAN_MODES, _read_number(data.get(_MODE, b""))), ""
        case "ipvlan":
            mode = _name_of(IPVLAN_MODES, _read_number(data.get(_MODE, b"")))
            return 0, "", mode, _name_of(IPVLAN_FLAGS, _read_number(data.get(_FLAGS, b"")))
        case _:
            return 0, "", "", ""


def _attributes(frame: bytes, offset: int, end: int) -> dict[int, bytes]:
    found = {}
    while offset + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(frame, offset)
        if length < _ATTRIBUTE.size:
            break
        found[kind & _TYPE] = frame[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return found


def _nested(payload: bytes) -> dict[int, bytes]:
    return _attributes(payload, 0, len(payload))


def _read_text(payload: bytes) -> str:
    return payload.rstrip(b"\0").decode(errors="replace")


def _read_number(payload: bytes) -> int:
    """Read a number of the machine's byte order, of two bytes or four; 0 if there is none."""
    return int.from_bytes(payload, sys.byteorder)


def _name_of(table: dict[str, int], number: int) -> str:
    return next((name for name, value in table.items() if value == number), str(number))
