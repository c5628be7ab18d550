"""What a pod is given, decided from values: settings, addresses, routes and the result."""

from typing import NamedTuple

import pytest

from cni_core.family import Family
from cni_core.result import DNS, Interface, IPConfig, Result, Route
from cni_net.observed import Link
from cni_net.operations import AddAddress, AddRoute, SetSysctl, SetUp
from cni_vlan import plan
from cni_vlan.attachment import Attachment, Claim, Ipam
from cni_vlan.parents import Existing, Isolated, Parent

CHILD = Link(7, "eth0", "02:00:00:00:00:07", 1500, up=False, carrier=False, loopback=False, kind="macvlan")
FOUR, SIX = IPConfig("10.0.0.2/24", "10.0.0.1"), IPConfig("2001:db8::2/64", "2001:db8::1")
IMPLIED = (Route("0.0.0.0/0", "10.0.0.1", implied=True), Route("::/0", "2001:db8::1", implied=True))
EXPLICIT = Route("0.0.0.0/0", "10.0.0.254")
OTHER = Route("192.0.2.0/24", "10.0.0.9")
BRIDGE = Claim("macvlan", "bridge", "")
L2, L3 = Claim("ipvlan", "l2", "bridge"), Claim("ipvlan", "l3", "bridge")
ETH0, DUMMY = Existing("eth0"), Isolated("dm-lan", "lan")


class Case(NamedTuple):
    """A claim on a parent, what IPAM gave, the default routes of the sandbox; and the routes that follow."""

    claim: Claim
    parent: Parent
    routes: tuple[Route, ...]
    taken: set[Family]
    wanted: list[tuple[str, str]]


CASES = {
    "implied": Case(BRIDGE, ETH0, IMPLIED, set(), [("0.0.0.0/0", "10.0.0.1"), ("::/0", "2001:db8::1")]),
    "implied, the sandbox has one": Case(BRIDGE, ETH0, IMPLIED, {Family.IPV4}, [("::/0", "2001:db8::1")]),
    "implied, the sandbox has both": Case(BRIDGE, ETH0, IMPLIED, set(Family), []),
    "no gateway": Case(BRIDGE, ETH0, (), set(), []),
    "explicit": Case(BRIDGE, ETH0, (EXPLICIT,), set(), [("0.0.0.0/0", "10.0.0.254")]),
    "explicit, the sandbox has one": Case(
        BRIDGE, ETH0, (EXPLICIT,), {Family.IPV4}, [("0.0.0.0/0", "10.0.0.254")]
    ),
    "explicit beside implied": Case(
        BRIDGE, ETH0, (EXPLICIT, *IMPLIED), set(), [("0.0.0.0/0", "10.0.0.254"), ("::/0", "2001:db8::1")]
    ),
    "explicit, written with two digits": Case(
        BRIDGE,
        ETH0,
        (EXPLICIT._replace(dst="0.0.0.0/00"), *IMPLIED[:1]),
        set(),
        [("0.0.0.0/00", "10.0.0.254")],
    ),
    "another route": Case(L2, ETH0, (OTHER,), set(), [("192.0.2.0/24", "10.0.0.9")]),
    "isolated": Case(BRIDGE, DUMMY, IMPLIED, set(), []),
    "isolated, explicit": Case(L2, DUMMY, (OTHER,), set(), [("192.0.2.0/24", "10.0.0.9")]),
    "layer 3": Case(L3, ETH0, IMPLIED, set(), [("0.0.0.0/0", ""), ("::/0", "")]),
    "layer 3, the sandbox has one": Case(L3, ETH0, IMPLIED, {Family.IPV6}, [("0.0.0.0/0", "")]),
    "layer 3, explicit": Case(
        L3, ETH0, (EXPLICIT, OTHER), {Family.IPV6}, [("0.0.0.0/0", ""), ("192.0.2.0/24", "")]
    ),
    "layer 3, isolated": Case(L3, DUMMY, (), set(), [("0.0.0.0/0", ""), ("::/0", "")]),
}


@pytest.mark.parametrize("name", CASES)
def test_routes(name: str) -> None:
    case = CASES[name]
    attachment = Attachment("lan", case.parent, case.claim)

    planned = plan.configure(attachment, CHILD, Result((), (FOUR, SIX), case.routes), case.taken)

    added = [(each.dst, each.gateway) for each in planned.operations if isinstance(each, AddRoute)]
    assert added == case.wanted
    assert [(route.dst, route.gw) for route in planned.result.routes] == case.wanted


@pytest.mark.parametrize(
    ("claim", "routes", "families"),
    [
        (BRIDGE, IMPLIED, set(Family)),
        (BRIDGE, IMPLIED[:1], {Family.IPV4}),
        (BRIDGE, (EXPLICIT,), set()),
        (L3, (), set(Family)),
    ],
)
def test_families_whose_default_route_gives_way(
    claim: Claim, routes: tuple[Route, ...], families: set[Family]
) -> None:
    attachment = Attachment("lan", ETH0, claim)

    assert plan.yielding_families(attachment, Result((), (FOUR, SIX), routes)) == families


@pytest.mark.parametrize(
    ("ips", "accept_ra", "settings"),
    [
        ((FOUR, SIX), False, {"accept_ra": "0", "disable_ipv6": "0", "keep_addr_on_down": "1"}),
        ((FOUR,), False, {"accept_ra": "0", "disable_ipv6": "1"}),
        ((FOUR,), True, {"accept_ra": "1", "disable_ipv6": "0"}),
        ((), False, {"accept_ra": "0"}),
    ],
)
def test_ipv6_settings_come_before_addresses_and_up(
    ips: tuple[IPConfig, ...], *, accept_ra: bool, settings: dict[str, str]
) -> None:
    attachment = Attachment("lan", ETH0, BRIDGE, accept_ra=accept_ra)

    operations = plan.configure(attachment, CHILD, Result((), ips), set()).operations

    own = {op.key: op.value for op in operations if isinstance(op, SetSysctl) and op.interface == "eth0"}
    kinds = [type(op) for op in operations]
    assert own == settings
    assert kinds == sorted(kinds, key=[SetSysctl, AddAddress, SetUp, AddRoute].index)


@pytest.mark.parametrize(
    ("claim", "parent", "gateway"), [(BRIDGE, ETH0, "10.0.0.1"), (BRIDGE, DUMMY, ""), (L3, ETH0, "")]
)
def test_a_gateway_is_shown_where_it_means_something(claim: Claim, parent: Parent, gateway: str) -> None:
    planned = plan.configure(Attachment("lan", parent, claim), CHILD, Result((), (FOUR,)), set())

    assert planned.result.ips[0].gateway == gateway


@pytest.mark.parametrize(
    ("gateway", "onlink"),
    [
        ("10.0.0.1", False),
        ("10.9.9.9", True),
        ("fe80::1", False),
        ("2001:db8::9", False),
        ("2001:dbf::9", True),
    ],
)
def test_a_gateway_outside_the_subnet_is_on_the_link(gateway: str, *, onlink: bool) -> None:
    route = Route("::/0" if ":" in gateway else "0.0.0.0/0", gateway)

    planned = plan.configure(Attachment("lan", ETH0, BRIDGE), CHILD, Result((), (FOUR, SIX), (route,)), set())

    (added,) = (each for each in planned.operations if isinstance(each, AddRoute))
    assert added.onlink is onlink


@pytest.mark.parametrize(("scope", "gateway"), [(None, "10.0.0.1"), (0, "10.0.0.1"), (253, ""), (254, "")])
def test_a_route_without_a_gateway_takes_that_of_its_family(scope: int | None, gateway: str) -> None:
    route = Route("192.0.2.0/24", scope=scope, priority=5, table=100, mtu=1400)

    planned = plan.configure(Attachment("lan", ETH0, BRIDGE), CHILD, Result((), (SIX, FOUR), (route,)), set())

    assert (
        AddRoute(7, "eth0", "192.0.2.0/24", gateway, mtu=1400, priority=5, table=100, scope=scope)
        in planned.operations
    )


def test_the_network_s_name_servers_go_before_those_of_ipam() -> None:
    ipam = Result(dns=DNS(("10.0.0.53",)))
    own = Attachment("lan", ETH0, BRIDGE, dns=DNS(("192.0.2.53",)))

    assert plan.configure(own, CHILD, ipam, set()).result.dns == own.dns
    assert plan.configure(own._replace(dns=None), CHILD, ipam, set()).result.dns == ipam.dns


def test_a_result_goes_on_from_the_one_before() -> None:
    before = Result((Interface("br0"),), (IPConfig("192.0.2.7/24", "", 0),), (OTHER,))
    attachment = Attachment("lan", ETH0, BRIDGE)
    configured = Result((), (FOUR,), (EXPLICIT,))

    layer2 = plan.complete(attachment, CHILD, "/n", configured, before)
    with_ipam = plan.complete(
        attachment._replace(ipam=Ipam("cni-ipam", 30.0)), CHILD, "/n", configured, before
    )

    own = FOUR._replace(interface=1)
    assert (layer2.ips, layer2.routes) == ((own,), (EXPLICIT,))
    assert (with_ipam.ips, with_ipam.routes) == ((before.ips[0], own), (OTHER, EXPLICIT))
    assert with_ipam.interfaces == (Interface("br0"), Interface("eth0", CHILD.mac, "/n", 1500))
