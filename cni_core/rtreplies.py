"""Replies of rtnetlink (rtnetlink(7)) as values."""

import socket
from typing import Any

from cni_core.links import (
    IPVLAN_FLAGS,
    IPVLAN_MODES,
    MACVLAN_MODES,
    VLAN_PROTOCOLS,
    Link,
    RouteEntry,
)
from cni_core.rtcodecs import ifaddrmsg, ifinfmsg, rtmsg

_IFF_UP, _IFF_LOOPBACK, _IFF_LOWER_UP = 0x1, 0x8, 0x10000
_RTN_UNICAST = 1
_ANY = {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}  # noqa: S104 - a destination


def parse_link(frame: bytes) -> Link:
    """Read a link from a reply."""
    message = ifinfmsg(frame)
    message.decode()
    info = message.get_attr("IFLA_LINKINFO")
    kind = (info.get_attr("IFLA_INFO_KIND") if info else "") or ""
    data = info.get_attr("IFLA_INFO_DATA") if info and kind in {"vlan", "macvlan", "ipvlan"} else None
    vlan_id, protocol, mode, flag = _parse_kind(kind, data)
    return Link(
        ifindex=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        mac=message.get_attr("IFLA_ADDRESS") or "",
        mtu=message.get_attr("IFLA_MTU") or 0,
        up=bool(message["flags"] & _IFF_UP),
        carrier=bool(message["flags"] & _IFF_LOWER_UP),
        loopback=bool(message["flags"] & _IFF_LOOPBACK),
        kind=kind,
        alias=message.get_attr("IFLA_IFALIAS") or "",
        parent_index=message.get_attr("IFLA_LINK") or 0,
        parent_elsewhere=message.get_attr("IFLA_LINK_NETNSID") is not None,
        vlan_id=vlan_id,
        vlan_protocol=protocol,
        mode=mode,
        flag=flag,
    )


def _parse_kind(kind: str, data: Any) -> tuple[int, str, str, str]:  # noqa: ANN401 - untyped
    """Return VLAN id and protocol, mode and flag of the kinds that have them."""
    if data is None:
        return 0, "", "", ""
    match kind:
        case "vlan":
            protocol = _name_of(VLAN_PROTOCOLS, data.get_attr("IFLA_VLAN_PROTOCOL"))
            return data.get_attr("IFLA_VLAN_ID") or 0, protocol, "", ""
        case "macvlan":
            return 0, "", _name_of(MACVLAN_MODES, data.get_attr("IFLA_MACVLAN_MODE")), ""
        case _:
            mode = _name_of(IPVLAN_MODES, data.get_attr("IFLA_IPVLAN_MODE"))
            return 0, "", mode, _name_of(IPVLAN_FLAGS, data.get_attr("IFLA_IPVLAN_FLAGS") or 0)


def _name_of(table: dict[str, int], number: int) -> str:
    return next((name for name, value in table.items() if value == number), str(number))


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
