"""What is packed and read directly is, byte for byte and field for field, what pyroute2 makes of it."""

import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import builds, integers, ip_addresses, none, sampled_from, text, tuples
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from cni_core import rtcodecs, rtwire
from cni_core.links import (
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

INDEXES = integers(1, 1 << 20)
NAMES = text("abcdefghijklmnop0123456789.-", min_size=1, max_size=15)
ALIASES = text("abcdefghij :/-", min_size=1, max_size=255)
MACS = sampled_from(["", "02:00:00:00:00:01", "de:ad:be:ef:00:ff"])
PARENT = Link(7, "eth0", "02:00:00:00:00:07", 1500, up=True, carrier=True, loopback=False)


def body(message: Any) -> bytes:  # noqa: ANN401 - pyroute2 is untyped
    message.encode()
    return bytes(message.data[16:])


def link(attributes: list[tuple[str, Any]], index: int = 0, flags: int = 0) -> bytes:
    message = ifinfmsg()
    message["index"], message["flags"], message["change"] = index, flags, flags
    message["attrs"] = attributes
    return body(message)


def packed(operation: Operation) -> bytes:
    request = rtwire.pack(operation)
    assert request is not None
    return request.body


@given(INDEXES, NAMES, ALIASES)
def test_changes_of_links(index: int, name: str, alias: str) -> None:
    assert packed(SetUp(index, name)) == link([], index, 1)
    assert packed(DeleteLink(index, name)) == link([], index)
    assert packed(SetAlias(index, name, alias)) == link([("IFLA_IFALIAS", alias)], index)
    both = [("IFLA_IFNAME", name), ("IFLA_IFALIAS", alias)]
    assert packed(Rename(index, name, alias)) == link(both, index)


@given(NAMES, INDEXES, integers(0, 65535), MACS, sampled_from(["bridge", "private", "vepa", "passthru"]))
def test_macvlans(name: str, fd: int, mtu: int, mac: str, mode: str) -> None:
    assert rtcodecs.ifinfmsg is ifinfmsg  # it has our codecs of macvlan and ipvlan
    modes = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
    child = CreateChild(name, PARENT, "macvlan", mode, "", fd, mtu, mac)
    assert packed(child) == created(child, [("IFLA_MACVLAN_MODE", modes[mode])])


@given(
    NAMES,
    INDEXES,
    integers(0, 65535),
    sampled_from(["l2", "l3", "l3s"]),
    sampled_from(["bridge", "private", "vepa"]),
)
def test_ipvlans(name: str, fd: int, mtu: int, mode: str, flag: str) -> None:
    child = CreateChild(name, PARENT, "ipvlan", mode, flag, fd, mtu)
    modes, flags = ("l2", "l3", "l3s"), ("bridge", "private", "vepa")
    data = [("IFLA_IPVLAN_MODE", modes.index(mode)), ("IFLA_IPVLAN_FLAGS", flags.index(flag))]
    assert packed(child) == created(child, data)


def created(child: CreateChild, data: list[tuple[str, Any]]) -> bytes:
    attributes: list[tuple[str, Any]] = [
        ("IFLA_IFNAME", child.name),
        ("IFLA_LINK", child.parent.ifindex),
        ("IFLA_NET_NS_FD", child.sandbox_fd),
    ]
    attributes += [("IFLA_MTU", child.mtu)] if child.mtu else []
    attributes += [("IFLA_ADDRESS", child.mac)] if child.mac else []
    info = [("IFLA_INFO_KIND", child.driver), ("IFLA_INFO_DATA", {"attrs": data})]
    return link([*attributes, ("IFLA_LINKINFO", {"attrs": info})])


@given(INDEXES, ip_addresses(v=4), integers(0, 32))
def test_ipv4_addresses(index: int, address: object, prefix: int) -> None:
    message = ifaddrmsg()
    message["family"], message["prefixlen"], message["index"] = socket.AF_INET, prefix, index
    attributes = [("IFA_LOCAL", str(address)), ("IFA_ADDRESS", str(address))]
    if prefix < 31:
        host = int.from_bytes(socket.inet_aton(str(address)))
        last = host | (0xFFFFFFFF >> prefix)
        attributes.append(("IFA_BROADCAST", socket.inet_ntoa(last.to_bytes(4))))
    message["attrs"] = attributes
    assert packed(AddAddress(index, "eth0", f"{address}/{prefix}")) == body(message)


@given(INDEXES, ip_addresses(v=6), integers(0, 128))
def test_ipv6_addresses(index: int, address: object, prefix: int) -> None:
    message = ifaddrmsg()
    message["family"], message["prefixlen"], message["index"] = socket.AF_INET6, prefix, index
    message["attrs"] = [("IFA_LOCAL", str(address)), ("IFA_ADDRESS", str(address)), ("IFA_FLAGS", 2)]
    assert packed(AddAddress(index, "eth0", f"{address}/{prefix}")) == body(message)


ROUTES = builds(
    AddRoute,
    INDEXES,
    NAMES,
    sampled_from(["0.0.0.0/0", "10.1.0.0/16", "192.0.2.1/32"]),
    sampled_from(["", "10.0.0.1"]),
    onlink=sampled_from([False, True]),
    mtu=none(),
    advmss=none(),
    priority=none() | integers(0, 1 << 31),
    table=none() | integers(1, 100_000),
    scope=none() | integers(0, 255),
)


@given(ROUTES, tuples(sampled_from(["::/0", "2001:db8::/32"]), sampled_from(["", "fe80::1"])))
def test_routes(four: AddRoute, ipv6: tuple[str, str]) -> None:
    for route in (four, four._replace(dst=ipv6[0], gateway=ipv6[1])):
        destination, _slash, prefix = route.dst.partition("/")
        table = 254 if route.table is None else route.table
        message = rtmsg()
        message["family"] = socket.AF_INET6 if ":" in destination else socket.AF_INET
        message["dst_len"], message["proto"], message["type"] = int(prefix), 4, 1
        message["table"] = table if table < 256 else 0
        message["scope"] = route.scope if route.scope is not None else 0 if route.gateway else 253
        message["flags"] = 4 if route.onlink else 0
        attributes: list[tuple[str, Any]] = [("RTA_TABLE", table), ("RTA_OIF", route.ifindex)]
        attributes += [("RTA_DST", destination)] if int(prefix) else []
        attributes += [("RTA_GATEWAY", route.gateway)] if route.gateway else []
        attributes += [("RTA_PRIORITY", route.priority)] if route.priority is not None else []
        message["attrs"] = attributes
        assert packed(route) == body(message)


@pytest.mark.parametrize(
    "operation",
    [
        CreateChild("v", PARENT, "macvlan", "source", "", 3, source_macs=("02:00:00:00:00:01",)),
        CreateChild("v", PARENT, "macvlan", "bridge", "", 3, queue_length=5),
        AddRoute(3, "eth0", "0.0.0.0/0", "10.0.0.1", mtu=1400),
        AddRoute(3, "eth0", "0.0.0.0/0", "10.0.0.1", advmss=1360),
    ],
)
def test_what_is_rare_is_left_to_pyroute2(operation: Operation) -> None:
    assert rtwire.pack(operation) is None


def replied(attributes: list[tuple[str, Any]], index: int, flags: int) -> bytes:
    message = ifinfmsg()
    message["index"], message["flags"] = index, flags
    message["attrs"] = attributes
    message.encode()
    return bytes(message.data)


def test_a_link_is_read() -> None:
    data = [("IFLA_VLAN_ID", 50), ("IFLA_VLAN_PROTOCOL", 0x88A8)]
    info = {"attrs": [("IFLA_INFO_KIND", "vlan"), ("IFLA_INFO_DATA", {"attrs": data})]}
    frame = replied(
        [
            ("IFLA_IFNAME", "eth0.50"), ("IFLA_MTU", 9000), ("IFLA_LINK", 7), ("IFLA_TXQLEN", 1000),
            ("IFLA_ADDRESS", "02:00:00:00:00:50"), ("IFLA_IFALIAS", "a parent"), ("IFLA_LINKINFO", info),
        ],
        12, 0x10041,
    )  # fmt: skip

    assert rtwire.parse_link(frame) == Link(
        12, "eth0.50", "02:00:00:00:00:50", 9000, up=True, carrier=True, loopback=False, kind="vlan",
        alias="a parent", parent_index=7, vlan_id=50, vlan_protocol="802.1ad",
    )  # fmt: skip


def test_a_child_whose_parent_is_elsewhere_is_read() -> None:
    data = [("IFLA_IPVLAN_MODE", 1), ("IFLA_IPVLAN_FLAGS", 1)]
    info = {"attrs": [("IFLA_INFO_KIND", "ipvlan"), ("IFLA_INFO_DATA", {"attrs": data})]}
    attributes = [
        ("IFLA_IFNAME", "eth0"),
        ("IFLA_LINK_NETNSID", 0),
        ("IFLA_LINK", 7),
        ("IFLA_LINKINFO", info),
    ]

    link = rtwire.parse_link(replied(attributes, 3, 8))

    assert (link.kind, link.mode, link.flag, link.parent_elsewhere) == ("ipvlan", "l3", "private", True)
    assert (link.up, link.loopback, link.mtu, link.mac) == (False, True, 0, "")
