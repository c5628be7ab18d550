"""What is packed and read directly is, byte for byte and field for field, what pyroute2 makes of it.

pyroute2 lacks the attributes of a macvlan's source addresses and queue, and of an ipvlan's flags: for those
its codecs get a map of their own here.
"""

import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import builds, integers, ip_addresses, lists, none, sampled_from, text, tuples
from pyroute2.netlink import nla
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from cni_core.family import Family
from cni_net import link_messages, route_messages
from cni_net.observed import HostAddress, Link, RouteEntry
from cni_net.operations import (
    MACVLAN_MODES,
    AddAddress,
    AddNeighbour,
    AddRoute,
    CreateChild,
    DeleteLink,
    Rename,
    SetAlias,
    SetUp,
    describe,
    inverse,
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


class Macvlan(nla):  # type: ignore[misc] # pyroute2 is untyped
    """IFLA_INFO_DATA of a macvlan (linux/if_link.h)."""

    prefix = "IFLA_"
    nla_map = (
        ("IFLA_MACVLAN_UNSPEC", "none"),
        ("IFLA_MACVLAN_MODE", "uint32"),
        ("IFLA_MACVLAN_FLAGS", "uint16"),
        ("IFLA_MACVLAN_MACADDR_MODE", "uint32"),
        ("IFLA_MACVLAN_MACADDR", "l2addr"),
        ("IFLA_MACVLAN_MACADDR_DATA", "addresses"),
        ("IFLA_MACVLAN_MACADDR_COUNT", "uint32"),
        ("IFLA_MACVLAN_BC_QUEUE_LEN", "uint32"),
    )

    class addresses(nla):  # type: ignore[misc] # noqa: N801 - named by the map above
        """The list of source addresses: attributes of one type."""

        nla_map = ((4, "IFLA_MACVLAN_MACADDR", "l2addr"),)


class Ipvlan(nla):  # type: ignore[misc] # pyroute2 is untyped
    """IFLA_INFO_DATA of an ipvlan (linux/if_link.h)."""

    prefix = "IFLA_"
    nla_map = (
        ("IFLA_IPVLAN_UNSPEC", "none"),
        ("IFLA_IPVLAN_MODE", "uint16"),
        ("IFLA_IPVLAN_FLAGS", "uint16"),
    )


@pytest.fixture(autouse=True, scope="module")
def complete_codecs() -> Iterator[None]:
    kinds = ifinfmsg.ifinfo.data_map
    before = {kind: kinds[kind] for kind in ("macvlan", "ipvlan")}
    kinds.update(macvlan=Macvlan, ipvlan=Ipvlan)
    yield
    kinds.update(before)


def changed(operation: Rename | SetAlias | SetUp | DeleteLink) -> bytes:
    return link_messages.change_link(operation).body


@given(INDEXES, NAMES, ALIASES)
def test_changes_of_links(index: int, name: str, alias: str) -> None:
    assert changed(SetUp(index, name)) == link([], index, 1)
    assert changed(DeleteLink(index, name)) == link([], index)
    assert changed(SetAlias(index, name, alias)) == link([("IFLA_IFALIAS", alias)], index)
    both = [("IFLA_IFNAME", name), ("IFLA_IFALIAS", alias)]
    assert changed(Rename(index, name, alias)) == link(both, index)


@given(
    NAMES,
    INDEXES,
    integers(0, 65535),
    MACS,
    sampled_from(sorted(MACVLAN_MODES)),
    lists(MACS.filter(bool), max_size=3),
    integers(0, 1 << 31),
)
def test_macvlans(  # noqa: PLR0913, PLR0917 - each is drawn
    name: str, fd: int, mtu: int, mac: str, mode: str, source_macs: list[str], queue_length: int
) -> None:
    child = CreateChild(name, PARENT, "macvlan", mode, "", fd, mtu, mac, tuple(source_macs), queue_length)
    data: list[tuple[str, Any]] = [("IFLA_MACVLAN_MODE", MACVLAN_MODES[mode])]
    if source_macs:
        macs = [("IFLA_MACVLAN_MACADDR", mac) for mac in source_macs]
        data.append(("IFLA_MACVLAN_MACADDR_MODE", 3))
        data.append(("IFLA_MACVLAN_MACADDR_DATA", {"attrs": macs}))
    if queue_length:
        data.append(("IFLA_MACVLAN_BC_QUEUE_LEN", queue_length))
    assert link_messages.create_child(child).body == created(child, data)


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
    assert link_messages.create_child(child).body == created(child, data)


def created(child: CreateChild, data: list[tuple[str, Any]]) -> bytes:
    attributes: list[tuple[str, Any]] = [
        ("IFLA_IFNAME", child.name),
        ("IFLA_LINK", child.parent.ifindex),
    ]
    attributes += [] if child.sandbox_fd is None else [("IFLA_NET_NS_FD", child.sandbox_fd)]
    attributes += [("IFLA_MTU", child.mtu)] if child.mtu else []
    attributes += [("IFLA_ADDRESS", child.mac)] if child.mac else []
    info = [("IFLA_INFO_KIND", child.driver), ("IFLA_INFO_DATA", {"attrs": data})]
    return link([*attributes, ("IFLA_LINKINFO", {"attrs": info})])


def deleted(added: Any) -> Any:  # noqa: ANN401 - pyroute2 is untyped
    message = ifaddrmsg()
    for field in ("family", "prefixlen", "index"):
        message[field] = added[field]
    message["attrs"] = added["attrs"][:2]
    return message


@given(INDEXES, NAMES, sampled_from(["macvlan", "ipvlan"]))
def test_a_link_of_the_host_s_own_namespace(index: int, name: str, driver: str) -> None:
    """It is the same without a descriptor; NOARP is a flag like UP."""
    mode = "bridge" if driver == "macvlan" else "l2"
    child = CreateChild(name, PARENT, driver, mode, "bridge")
    data = [("IFLA_MACVLAN_MODE", 4)]
    if driver == "ipvlan":
        data = [("IFLA_IPVLAN_MODE", 0), ("IFLA_IPVLAN_FLAGS", 0)]
    assert link_messages.create_child(child).body == created(child, data)
    assert changed(SetUp(index, name, arp=False)) == link([], index, 0x81)


@given(INDEXES, ip_addresses(), MACS.filter(bool))
def test_neighbours(index: int, address: object, mac: str) -> None:
    message = ndmsg()
    message["family"] = socket.AF_INET6 if ":" in str(address) else socket.AF_INET
    message["ifindex"], message["state"] = index, 0x80
    message["attrs"] = [("NDA_DST", str(address)), ("NDA_LLADDR", mac)]
    add = AddNeighbour(index, "eth0", str(address), mac)
    assert route_messages.change_neighbour(add).body == body(message)
    deletion = ndmsg()
    for field in ("family", "ifindex", "state"):
        deletion[field] = message[field]
    deletion["attrs"] = message["attrs"][:1]
    assert route_messages.change_neighbour(inverse(add)).body == body(deletion)


@given(INDEXES, ip_addresses(v=4), sampled_from([0, 253, 254]))
def test_an_address_without_a_route(index: int, address: object, scope: int) -> None:
    message = ifaddrmsg()
    message["family"], message["prefixlen"], message["index"] = socket.AF_INET, 32, index
    message["scope"] = scope
    message["attrs"] = [("IFA_LOCAL", str(address)), ("IFA_ADDRESS", str(address)), ("IFA_FLAGS", 0x200)]
    add = AddAddress(index, "eth0", f"{address}/32", scope, bare=True)
    assert route_messages.change_address(add).body == body(message)


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
    add = AddAddress(index, "eth0", f"{address}/{prefix}")
    assert route_messages.change_address(add).body == body(message)
    assert route_messages.change_address(inverse(add)).body == body(deleted(message))


@given(INDEXES, ip_addresses(v=6), integers(0, 128))
def test_ipv6_addresses(index: int, address: object, prefix: int) -> None:
    message = ifaddrmsg()
    message["family"], message["prefixlen"], message["index"] = socket.AF_INET6, prefix, index
    message["attrs"] = [("IFA_LOCAL", str(address)), ("IFA_ADDRESS", str(address)), ("IFA_FLAGS", 2)]
    add = AddAddress(index, "eth0", f"{address}/{prefix}")
    assert route_messages.change_address(add).body == body(message)
    assert route_messages.change_address(inverse(add)).body == body(deleted(message))


ROUTES = builds(
    AddRoute,
    INDEXES,
    NAMES,
    sampled_from(["0.0.0.0/0", "10.1.0.0/16", "192.0.2.1/32"]),
    sampled_from(["", "10.0.0.1"]),
    onlink=sampled_from([False, True]),
    mtu=none() | integers(0, 1 << 31),
    advmss=none() | integers(0, 1 << 31),
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
        metrics = [("RTAX_MTU", route.mtu), ("RTAX_ADVMSS", route.advmss)]
        given_metrics = [(name, value) for name, value in metrics if value is not None]
        if given_metrics:
            message["attrs"] = [*attributes, ("RTA_METRICS", {"attrs": given_metrics})]
        assert route_messages.add_route(route).body == body(message)
        gone = rtmsg()
        for field in ("family", "dst_len", "table"):
            gone[field] = message[field]
        gone["scope"], gone["attrs"] = 255, attributes
        assert route_messages.delete_route(inverse(route)).body == body(gone)


@given(ROUTES, INDEXES)
def test_a_route_is_read(route: AddRoute, oif: int) -> None:
    message = rtmsg()
    destination, _slash, prefix = route.dst.partition("/")
    message["family"], message["dst_len"], message["type"] = socket.AF_INET, int(prefix), 1
    message["proto"], message["scope"] = 4, route.scope or 0
    attributes: list[tuple[str, Any]] = [("RTA_OIF", oif), ("RTA_TABLE", route.table or 254)]
    attributes += [("RTA_DST", destination)] if int(prefix) else []
    attributes += [("RTA_GATEWAY", route.gateway)] if route.gateway else []
    attributes += [("RTA_PRIORITY", route.priority)] if route.priority else []
    metrics = [
        (name, value) for name, value in (("RTAX_MTU", route.mtu), ("RTAX_ADVMSS", route.advmss)) if value
    ]
    message["attrs"] = [*attributes, ("RTA_METRICS", {"attrs": metrics})]
    message.encode()

    assert route_messages.parse_route(bytes(message.data)) == RouteEntry(
        route.dst, route.gateway, oif, route.table or 254, route.priority or 0, route.scope or 0,
        route.mtu or 0, route.advmss or 0, 4,
    )  # fmt: skip


@pytest.mark.parametrize(("kind", "attributes"), [(1, []), (6, [("RTA_OIF", 3)])])
def test_a_route_without_a_device_or_of_another_type_is_none_of_ours(
    kind: int, attributes: list[tuple[str, Any]]
) -> None:
    message = rtmsg()
    message["family"], message["type"], message["attrs"] = socket.AF_INET6, kind, attributes
    message.encode()

    assert route_messages.parse_route(bytes(message.data)) is None


@pytest.mark.parametrize("address", ["10.0.0.7/24", "2001:db8::7/64"])
def test_an_address_is_read(address: str) -> None:
    own, _slash, prefix = address.partition("/")
    message = ifaddrmsg()
    message["family"] = socket.AF_INET6 if ":" in own else socket.AF_INET
    message["prefixlen"], message["attrs"] = int(prefix), [("IFA_ADDRESS", own)]
    message.encode()

    assert route_messages.parse_address(bytes(message.data)) == address


def test_queries() -> None:
    message = rtmsg()
    message["family"], message["attrs"] = socket.AF_INET6, [("RTA_TABLE", 254)]
    assert route_messages.query_routes(Family.IPV6, 254).body == body(message)
    addresses = ifaddrmsg()
    addresses["index"] = 7
    assert route_messages.query_addresses(7).body == body(addresses)


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        (AddAddress(3, "eth0", "10.0.0.2/24"), "delete address 10.0.0.2/24 from eth0"),
        (AddRoute(3, "eth0", "::/0", "fe80::1"), "delete route ::/0 via fe80::1 dev eth0"),
        (AddRoute(3, "eth0", "10.0.0.0/8"), "delete route 10.0.0.0/8 dev eth0"),
    ],
)
def test_an_inverse_names_the_same_thing(operation: AddAddress | AddRoute, words: str) -> None:
    assert describe(inverse(operation)) == words


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

    assert link_messages.parse_link(frame) == Link(
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

    link = link_messages.parse_link(replied(attributes, 3, 8))

    assert (link.kind, link.mode, link.flag, link.parent_elsewhere) == ("ipvlan", "l3", "private", True)
    assert (link.up, link.loopback, link.mtu, link.mac) == (False, True, 0, "")


@pytest.mark.parametrize(
    ("address", "flags", "fleeting"),
    [
        ("192.0.2.50", 0x81, False), ("192.0.2.50", 0xA0, True), ("2001:db8::1", 0x80, False),
        ("2001:db8::1", 0x01, True), ("2001:db8::1", 0x40, True), ("2001:db8::1", 0x20, True),
    ],
)  # fmt: skip
def test_addresses_that_do_not_last(address: str, flags: int, *, fleeting: bool) -> None:
    """Of an IPv4 address 0x01 is a second one of its subnet, of an IPv6 address a temporary one."""
    message = ifaddrmsg()
    message["family"] = socket.AF_INET6 if ":" in address else socket.AF_INET
    message["prefixlen"], message["index"], message["scope"] = 24, 3, 253
    message["attrs"] = [("IFA_ADDRESS", address), ("IFA_FLAGS", flags)]

    read = route_messages.parse_host_address(bytes(16) + body(message))

    assert read == HostAddress(f"{address}/24", 3, 253, fleeting)
