"""The messages of links, packed and read directly (rtnetlink(7), linux/if_link.h).

All messages of a pod are packed here and in cni_net.route_messages; those that create a parent go through
pyroute2, in cni_net.parent_messages. The codecs of pyroute2 are general, and their code is cold in a process
that makes one call now and then: of the 4.6 ms of an ADD in a warm process they took 2, these take 0.2. And
a one-shot process need not import them (28 ms). tests/unit/test_messages.py compares both.
"""

import struct

from cni_net.attributes import attribute, number, read, read_number, read_text, text
from cni_net.observed import Link
from cni_net.operations import (
    IPVLAN_FLAGS,
    IPVLAN_MODES,
    MACVLAN_MODES,
    VLAN_PROTOCOLS,
    CreateChild,
    DeleteLink,
    Rename,
    SetAlias,
    SetUp,
)
from cni_net.rtsocket import CREATE, EXCL, HEADER_BYTES, Request

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_IFF_UP, _IFF_LOOPBACK, _IFF_NOARP, _IFF_LOWER_UP = 0x1, 0x8, 0x80, 0x10000
_ADDRESS, _IFNAME, _MTU, _LINK, _LINKINFO, _IFALIAS = 1, 3, 4, 5, 18, 20
_NET_NS_FD, _EXT_MASK, _LINK_NETNSID = 28, 29, 37
_OF_A_LINK = frozenset({_ADDRESS, _IFNAME, _MTU, _LINK, _LINKINFO, _IFALIAS, _LINK_NETNSID})
_INFO_KIND, _INFO_DATA = 1, 2
_MODE, _FLAGS = 1, 2  # of a macvlan and an ipvlan alike
_MACADDR_MODE, _MACADDR, _MACADDR_DATA, _BC_QUEUE_LEN = 3, 4, 5, 7
_MACADDR_SET = 3
_VLAN_ID, _VLAN_PROTOCOL = 1, 5
_SKIP_STATS = 8  # RTEXT_FILTER_SKIP_STATS

_IFINFO = struct.Struct("=BxHiII")  # family, type, index, flags, change


def change_link(operation: Rename | SetAlias | SetUp | DeleteLink) -> Request:
    """Return the request that changes or deletes a link."""
    match operation:
        case Rename(index, name, alias):
            return Request(_RTM_NEWLINK, 0, _ifinfo(index) + text(_IFNAME, name) + text(_IFALIAS, alias))
        case SetAlias(index, _, alias):
            return Request(_RTM_NEWLINK, 0, _ifinfo(index) + text(_IFALIAS, alias))
        case SetUp(index, _, arp):
            flags = _IFF_UP if arp else _IFF_UP | _IFF_NOARP
            return Request(_RTM_NEWLINK, 0, _IFINFO.pack(0, 0, index, flags, flags))
        case DeleteLink(index, _):
            return Request(_RTM_DELLINK, 0, _ifinfo(index))


def query_link(name: str, index: int) -> Request:
    """Return the query of one link by its name or index."""
    attributes = number(_EXT_MASK, _SKIP_STATS) + (text(_IFNAME, name) if name else b"")
    return Request(_RTM_GETLINK, 0, _ifinfo(index) + attributes)


def probe_kind(kind: str) -> Request:
    """Return a request for an impossible link: no device below it, an address of one byte.

    The kernel refuses it, with EOPNOTSUPP only if it does not know the kind (rtnl_newlink).
    """
    attributes = (
        text(_IFNAME, "probe")
        + attribute(_ADDRESS, b"\0")
        + number(_LINK, 0x7FFFFFFF)
        + attribute(_LINKINFO, text(_INFO_KIND, kind))
    )
    return Request(_RTM_NEWLINK, CREATE | EXCL, _ifinfo(0) + attributes)


def create_child(child: CreateChild) -> Request:
    """Return the request that creates a macvlan or ipvlan."""
    data = _ipvlan(child) if child.driver == "ipvlan" else _macvlan(child)
    attributes = [
        text(_IFNAME, child.name),
        number(_LINK, child.parent.ifindex),
        b"" if child.sandbox_fd is None else number(_NET_NS_FD, child.sandbox_fd),
        number(_MTU, child.mtu) if child.mtu else b"",
        attribute(_ADDRESS, _mac(child.mac)) if child.mac else b"",
        attribute(_LINKINFO, text(_INFO_KIND, child.driver) + attribute(_INFO_DATA, data)),
    ]
    return Request(_RTM_NEWLINK, CREATE | EXCL, _ifinfo(0) + b"".join(attributes))


def _ipvlan(child: CreateChild) -> bytes:
    mode = struct.pack("=H", IPVLAN_MODES[child.mode])
    return attribute(_MODE, mode) + attribute(_FLAGS, struct.pack("=H", IPVLAN_FLAGS[child.flag]))


def _macvlan(child: CreateChild) -> bytes:
    data = number(_MODE, MACVLAN_MODES[child.mode])
    if child.source_macs:
        macs = b"".join(attribute(_MACADDR, _mac(mac)) for mac in child.source_macs)
        data += number(_MACADDR_MODE, _MACADDR_SET) + attribute(_MACADDR_DATA, macs)
    if child.queue_length:
        data += number(_BC_QUEUE_LEN, child.queue_length)
    return data


def _ifinfo(index: int) -> bytes:
    return _IFINFO.pack(0, 0, index, 0, 0)


def _mac(written: str) -> bytes:
    return bytes.fromhex(written.replace(":", ""))


def parse_link(frame: bytes) -> Link:
    """Read a link from a reply."""
    _family, _type, index, flags, _change = _IFINFO.unpack_from(frame, HEADER_BYTES)
    found = read(frame, HEADER_BYTES + _IFINFO.size, _OF_A_LINK)
    info = read(found.get(_LINKINFO, b""))
    kind = read_text(info.get(_INFO_KIND, b""))
    vlan_id, protocol, mode, flag = _parse_kind(kind, read(info.get(_INFO_DATA, b"")))
    return Link(
        ifindex=index,
        name=read_text(found[_IFNAME]),
        mac=found.get(_ADDRESS, b"").hex(":"),
        mtu=read_number(found.get(_MTU, b"")),
        up=bool(flags & _IFF_UP),
        carrier=bool(flags & _IFF_LOWER_UP),
        loopback=bool(flags & _IFF_LOOPBACK),
        kind=kind,
        alias=read_text(found.get(_IFALIAS, b"")),
        parent_index=read_number(found.get(_LINK, b"")),
        parent_elsewhere=_LINK_NETNSID in found,
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
            return read_number(data.get(_VLAN_ID, b"")), _name_of(VLAN_PROTOCOLS, protocol), "", ""
        case "macvlan":
            return 0, "", _name_of(MACVLAN_MODES, read_number(data.get(_MODE, b""))), ""
        case "ipvlan":
            mode = _name_of(IPVLAN_MODES, read_number(data.get(_MODE, b"")))
            return 0, "", mode, _name_of(IPVLAN_FLAGS, read_number(data.get(_FLAGS, b"")))
        case _:
            return 0, "", "", ""


def _name_of(table: dict[str, int], value: int) -> str:
    return next((name for name, known in table.items() if known == value), str(value))
