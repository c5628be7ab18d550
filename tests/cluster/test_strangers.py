"""Agents of three hosts on one wire: addresses that somebody else has are declined."""

import ipaddress
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.conftest import launchers, one_shot
from tests.cluster.etcds import Etcds
from tests.cluster.members import Member, three
from tests.lab.waiting import wait_until

__all__ = ["launchers", "one_shot"]


@pytest.fixture
def own_etcd() -> Iterator[Etcds]:
    with Etcds() as running:
        yield running


@pytest.fixture
def members(own_etcd: Etcds, launchers: Path, one_shot: Path) -> Iterator[list[Member]]:
    with three(own_etcd, launchers, one_shot) as made:
        yield made


def declined(member: Member) -> dict[str, str]:
    rows = json.loads(member.tool("blocks", "--json"))
    return {row["address"]: row["owner"] for row in rows if row["kind"] == "declined"}


def in_block(member: Member, offset: int) -> str:
    """Return an address of a member's first block."""
    return str(ipaddress.ip_address(member.blocks()[0]) + offset)


def stranger(member: Member, address: str, change: str = "add") -> str:
    """Have a host on the wire that nobody has asked, or no more; return its MAC address."""
    member.wire.run("ip", "address", change, f"{address}/32", "dev", "switch")
    mac: str = member.wire.links()["switch"]["address"]
    return mac


def router(member: Member, prefix: str) -> None:
    """Have a host on the wire that answers for everything, as by proxy ARP."""
    member.wire.run("ip", "route", "add", "local", prefix, "dev", "switch")


def addresses(member: Member, *names: str) -> set[str]:
    """Attach pods; return their addresses."""
    return {pod.addresses()[0].partition("/")[0] for pod in member.attach(*names)}


def test_an_address_that_somebody_answers_for_is_declined_until_it_is_silent(members: list[Member]) -> None:
    one, two, _three = members
    one.attach("a")
    taken = in_block(one, 7)
    mac = stranger(one, taken)
    two.attach("b")

    wait_until(lambda: declined(two) == {taken: f"{mac} on the wire"})
    assert taken not in addresses(one, *(f"p{n}" for n in range(15)))
    (pod,) = two.host.pods("x")
    asking = {**two.conf, "runtimeConfig": {"ips": [f"{taken}/24"]}}
    assert f"{mac} on the wire has it" in pod.add(asking).msg

    stranger(one, taken, "del")
    wait_until(lambda: declined(two) == {})
    assert "dead node" not in one.log + two.log
    (late,) = one.host.pods("late")
    late.attach({**one.conf, "runtimeConfig": {"ips": [f"{taken}/24"]}})


@pytest.mark.parametrize("link", ["eth0", "lo"])
def test_an_address_of_the_node_itself_is_declined(members: list[Member], link: str) -> None:
    """It does not answer its own node, and would get none of the pod's packets to it."""
    one, _two, _three = members
    one.attach("a")
    own = in_block(one, 9)
    one.host.run("ip", "address", "add", f"{own}/32", "dev", link)

    wait_until(lambda: declined(one) == {own: "node n1"})
    assert own not in addresses(one, *(f"p{n}" for n in range(15)))


def test_a_router_that_answers_for_every_address_has_nothing_declined(members: list[Member]) -> None:
    one, _two, three_ = members
    one.attach("a")
    router(one, f"{one.blocks()[0]}/29")
    taken = in_block(one, 9)
    three_.host.run("ip", "address", "add", f"{taken}/32", "dev", "eth0")  # whose fate shows the looks

    wait_until(lambda: declined(one) != {})
    assert set(declined(one)) == {taken}
    assert one.log.count("answers for leased addresses too") == 1


def test_a_pod_that_answers_on_another_parent_of_its_node_is_no_router(members: list[Member]) -> None:
    """It does not hear its node's questions on its own parent, but on the other one of the same wire.

    It is the only one with an IPv6 address, so whoever answers for that answers for all of the node's.
    """
    one, _two, _three = members
    _plug_in_again(one, "eth1")
    other = {**one.conf, "name": "other", "parent": "eth1", "ipam": {**one.conf["ipam"], "pool": "lan"}}
    first, second = one.host.pods("first", "second")
    subnets = [*one.conf["ipam"]["subnets"], {"subnet": "fd00:5::/64"}]
    first.attach({**one.conf, "ipam": {**one.conf["ipam"], "subnets": subnets}})
    second.attach(other)
    (block,) = (start for start in one.blocks() if ":" in start)
    taken = str(ipaddress.ip_address(block) + 9)
    first.run("ip", "address", "add", f"{taken}/128", "dev", "eth0", "nodad")
    mac = first.link()["address"]

    wait_until(lambda: declined(one) != {})
    assert declined(one) == {taken: f"{mac} on the wire"}
    assert "answers for leased addresses too" not in one.log


def _plug_in_again(member: Member, name: str) -> None:
    far = ["peer", "name", name, "netns", str(member.host.holder)]
    member.wire.run("ip", "link", "add", "again", "master", "switch", "type", "veth", *far)
    member.wire.run("ip", "link", "set", "again", "up")
    member.host.run("ip", "link", "set", name, "up")


def test_a_router_empties_no_pool_that_is_nearly_full(members: list[Member]) -> None:
    one, _two, three_ = members
    one.conf["ipam"]["subnets"] = [{"subnet": "10.0.0.0/28"}]
    one.attach(*(f"p{n}" for n in range(9)))
    for prefix in ("10.0.0.0/29", "10.0.0.8/30", "10.0.0.12/31"):
        router(one, prefix)
    three_.host.run("ip", "address", "add", "10.0.0.14/32", "dev", "eth0")  # whose fate shows the looks

    wait_until(lambda: declined(one) != {})
    assert set(declined(one)) == {"10.0.0.14"}
    one.attach("x", "y", "z")


def test_a_host_with_many_addresses_is_no_router(members: list[Member]) -> None:
    """A node that was forgotten too early has its pods' addresses, behind one MAC with ipvlan."""
    one, _two, _three = members
    twice = min(addresses(one, "a", "b", "c"))
    taken = {in_block(one, offset) for offset in range(5, 12)}
    for address in [*taken, twice]:
        stranger(one, address)

    wait_until(lambda: set(declined(one)) == taken)
    assert not taken & addresses(one, *(f"p{n}" for n in range(6)))


def test_half_of_a_block_stays(members: list[Member]) -> None:
    one, _two, _three = members
    one.attach("a")
    for offset in range(4, 16):
        stranger(one, in_block(one, offset))
    wait_until(lambda: len(declined(one)) >= 8)
    first = min(declined(one))
    stranger(one, first, "del")

    wait_until(lambda: first not in declined(one))  # after many more looks

    assert len(declined(one)) <= 8


def test_blocks_of_a_dead_node_are_taken_though_a_stranger_lives_in_them(members: list[Member]) -> None:
    one, two, _three = members
    in_a_pool_of_two_blocks(members)
    one.attach("a")
    two.attach("b")
    mine, taken = one.blocks()[0], in_block(one, 7)
    stranger(one, taken)
    wait_until(lambda: taken in declined(one))
    one.stop()
    one.host.run("ip", "link", "set", "eth0", "down")

    two.tool("forget", "n1", "--yes")

    wait_until(lambda: f"took lan.{int(ipaddress.ip_address(mine)):08x}" in two.log)
    assert taken not in addresses(two, *(f"p{n}" for n in range(26)))


def test_the_next_holder_of_a_block_knows_its_declined_addresses(members: list[Member]) -> None:
    one, two, _three = members
    in_a_pool_of_two_blocks(members)
    (pod,) = one.attach("a")
    two.attach("b")
    taken = in_block(one, 7)
    stranger(one, taken)
    wait_until(lambda: taken in declined(one))

    pod.detach(one.conf)
    one.tool("drain")

    two.stop()  # so that it cannot find out anew
    assert taken not in addresses(two, *(f"p{n}" for n in range(26)))


def in_a_pool_of_two_blocks(members: list[Member]) -> None:
    for member in members:
        member.conf["ipam"]["subnets"] = [{"subnet": "10.0.0.0/27"}]


def test_an_address_that_moves_is_the_new_holder_s(members: list[Member]) -> None:
    one, _two, _three = members
    one.attach("a")
    moving = in_block(one, 9)
    one.host.run("ip", "address", "add", f"{moving}/32", "dev", "lo")
    wait_until(lambda: declined(one) == {moving: "node n1"})

    one.host.run("ip", "address", "del", f"{moving}/32", "dev", "lo")
    mac = stranger(one, moving)

    wait_until(lambda: declined(one) == {moving: f"{mac} on the wire"})


def test_damaged_objects_keep_no_address_from_being_declined(own_etcd: Etcds, members: list[Member]) -> None:
    one, _two, _three = members
    one.attach("a")
    taken = {in_block(one, offset) for offset in (5, 6, 7, 8, 11)}
    damaged = ["{}", "garbage", '{"address": 7}', '{"address": [1]}']
    for at, text in zip(sorted(taken)[: len(damaged)], damaged, strict=True):
        own_etcd.put(f"/cni-vlan/v1/pin/lan/lan.{int(ipaddress.ip_address(at)):08x}", text)
    for address in taken:
        stranger(one, address)

    wait_until(lambda: set(declined(one)) == taken)
    assert not taken & addresses(one, *(f"p{n}" for n in range(8)))


def test_a_damaged_object_stops_no_task(own_etcd: Etcds, members: list[Member]) -> None:
    one, two, three_ = members
    one.attach("a")
    two.attach("b")
    own_etcd.put("/cni-vlan/v1/block/lan/lan.deadbeef", "{}")
    own_etcd.put("/cni-vlan/v1/pin/lan/lan.deadbeee", "{}")
    three_.attach("c")  # a node joins, so all look

    one.attach(*(f"p{n}" for n in range(13)))
    wait_until(lambda: len(one.blocks()) == 2)
    assert "Error" not in one.log


def test_strangers_are_kept_from_pods_while_the_engine_is_away_and_when_it_is_back(
    members: list[Member],
) -> None:
    one, _two, _three = members
    one.conf["ipam"]["subnets"] = [{"subnet": "10.0.0.0/28"}]
    one.attach("a")
    one.cut_off()
    taken = in_block(one, 7)
    stranger(one, taken)

    wait_until(lambda: _is_aside(one, taken))
    assert taken not in addresses(one, *(f"p{n}" for n in range(11)))
    (pod,) = one.host.pods("full")
    asking = {**one.conf, "runtimeConfig": {"ips": [f"{taken}/28"]}}
    assert "on the wire has it" in pod.add(asking).msg
    one.connect()
    assert pod.add(one.conf).code != 0  # there is no other address
    wait_until(lambda: taken in declined(one))
    assert pod.add(one.conf).code != 0


def _is_aside(member: Member, address: str) -> bool:
    holdings = json.loads(member.host.run("cat", "/var/lib/cni/cni-ipam/lan/holdings").stdout)
    return int(ipaddress.ip_address(address)) in {number for _version, number, _who in holdings["aside"]}


def test_an_owner_with_a_stranger_s_name_gets_nothing_of_it(members: list[Member]) -> None:
    one, _two, _three = members
    one.attach("a")
    taken = in_block(one, 7)
    mac = stranger(one, taken)
    wait_until(lambda: taken in declined(one))
    one.conf["ipam"] |= {"pinned": ["10.0.0.250-10.0.0.253"], "sticky": 60}
    (pod,) = one.host.pods("vm")

    pod.attach({**one.conf, "args": {"cni": {"owner": f"{mac} on the wire"}}})

    assert pod.addresses()[0].startswith("10.0.0.25")


def test_forgetting_nobody_frees_no_declined_address(members: list[Member]) -> None:
    one, _two, _three = members
    one.attach("a")
    taken = in_block(one, 7)
    stranger(one, taken)
    wait_until(lambda: taken in declined(one))

    one.tool("forget", "-", "--now", "--yes", check=False)

    assert taken in declined(one)
