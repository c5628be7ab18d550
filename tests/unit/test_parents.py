"""What is done for a parent, by what is seen: each state of an interface, a VLAN, a nested one, a dummy."""

from typing import NamedTuple

import pytest

from cni_core.errors import CniError, ParentConflict, UplinkDown, UplinkMissing
from cni_net.observed import Link
from cni_net.operations import CreateVlan
from cni_vlan import guards
from cni_vlan.attachment import Attachment, Claim
from cni_vlan.parent_decision import Action, Closing, Seen, base_link, close, decide, rebuild
from cni_vlan.parents import (
    Existing,
    Isolated,
    Parent,
    Vlan,
    is_auto,
    levels,
    parse_parent,
    resolve_auto,
    vlan_on,
)
from cni_vlan.records import CREATING, FOUND, OURS, ParentRecord

PLAIN = Link(2, "eth0", "02:00:00:00:00:02", 1500, up=True, carrier=True, loopback=False)
VLAN = PLAIN._replace(
    ifindex=3, name="eth0.10", kind="vlan", parent_index=2, vlan_id=10, vlan_protocol="802.1q"
)
OUR_VLAN = VLAN._replace(alias="cni-vlan parent: vlan 10 802.1q on eth0")
AD = OUR_VLAN._replace(vlan_protocol="802.1ad", alias="cni-vlan parent: vlan 10 802.1ad on eth0")
INNER = OUR_VLAN._replace(ifindex=4, name="eth0.10.20", parent_index=3, vlan_id=20)
DUMMY = PLAIN._replace(ifindex=5, name="dm-lan", kind="dummy", alias="cni-vlan parent: isolated network lan")
OF_ANOTHER = DUMMY._replace(alias="cni-vlan parent: isolated network x")

WANTED = parse_parent("eth0.10", "802.1q")
NESTED = parse_parent("eth0.10.20", "802.1q")
EXACT = parse_parent("eth0.10.20", "802.1q", "802.1q")
ISOLATED = Isolated("dm-lan", "lan")
USE, RAISE, ADOPT, CREATE = Action.USE, Action.RAISE, Action.ADOPT, Action.CREATE


class Case(NamedTuple):
    """What is wanted, the links that are there, the one half made; and the actions, or the error."""

    wanted: Parent
    links: tuple[Link, ...]
    outcome: list[Action] | type[CniError]
    half_made: str = ""


CASES = {
    "interface": Case(Existing("eth0"), (PLAIN,), [USE]),
    "interface, missing": Case(Existing("eth0"), (), UplinkMissing),
    "interface, down": Case(Existing("eth0"), (PLAIN._replace(up=False),), UplinkDown),
    "interface, no carrier": Case(Existing("eth0"), (PLAIN._replace(carrier=False),), [USE]),
    "loopback": Case(Existing("eth0"), (PLAIN._replace(loopback=True),), ParentConflict),
    "vlan, absent": Case(WANTED, (PLAIN,), [USE, CREATE]),
    "vlan, uplink missing": Case(WANTED, (), UplinkMissing),
    "vlan, uplink down": Case(WANTED, (PLAIN._replace(up=False),), UplinkDown),
    "vlan, found": Case(WANTED, (PLAIN, VLAN), [USE, USE]),
    "vlan, found, down": Case(WANTED, (PLAIN, VLAN._replace(up=False)), UplinkDown),
    "vlan, ours": Case(WANTED, (PLAIN, OUR_VLAN), [USE, RAISE]),
    "vlan, ours, down": Case(WANTED, (PLAIN, OUR_VLAN._replace(up=False)), [USE, RAISE]),
    "vlan, half made": Case(WANTED, (PLAIN, VLAN), [USE, ADOPT], "eth0.10"),
    "vlan, half made, another has the name": Case(
        WANTED, (PLAIN, VLAN._replace(kind="dummy")), ParentConflict, "eth0.10"
    ),
    "vlan, half made, with somebody's mark": Case(
        WANTED, (PLAIN, VLAN._replace(alias="mine")), [USE, USE], "eth0.10"
    ),
    "vlan, another id": Case(WANTED, (PLAIN, VLAN._replace(vlan_id=11)), ParentConflict),
    "vlan, another protocol": Case(WANTED, (PLAIN, AD), ParentConflict),
    "vlan, on another link": Case(WANTED, (PLAIN, VLAN._replace(parent_index=9)), ParentConflict),
    "vlan, parent elsewhere": Case(WANTED, (PLAIN, VLAN._replace(parent_elsewhere=True)), ParentConflict),
    "vlan, a dummy": Case(WANTED, (PLAIN, DUMMY._replace(name="eth0.10")), ParentConflict),
    "nested, both absent": Case(NESTED, (PLAIN,), [USE, CREATE, CREATE]),
    "nested, middle found": Case(NESTED, (PLAIN, VLAN), [USE, USE, CREATE]),
    "nested, middle ours": Case(NESTED, (PLAIN, OUR_VLAN), [USE, RAISE, CREATE]),
    "nested, middle of another protocol": Case(NESTED, (PLAIN, AD, INNER), [USE, RAISE, RAISE]),
    "nested, middle of a protocol not asked for": Case(EXACT, (PLAIN, AD), ParentConflict),
    "nested, middle a dummy": Case(NESTED, (PLAIN, DUMMY._replace(name="eth0.10")), ParentConflict),
    "nested, middle another vlan": Case(NESTED, (PLAIN, VLAN._replace(vlan_id=99)), ParentConflict),
    "nested, middle down": Case(NESTED, (PLAIN, VLAN._replace(up=False)), UplinkDown),
    "nested, inner elsewhere": Case(NESTED, (PLAIN, VLAN, INNER._replace(parent_index=2)), ParentConflict),
    "nested, inner without its middle": Case(NESTED, (PLAIN, INNER), ParentConflict),
    "isolated, absent": Case(ISOLATED, (), [CREATE]),
    "isolated, ours": Case(ISOLATED, (DUMMY,), [RAISE]),
    "isolated, half made": Case(ISOLATED, (DUMMY._replace(alias=""),), [ADOPT], "dm-lan"),
    "isolated, half made, with somebody's mark": Case(
        ISOLATED, (DUMMY._replace(alias="mine"),), ParentConflict, "dm-lan"
    ),
    "isolated, somebody's dummy": Case(ISOLATED, (DUMMY._replace(alias=""),), ParentConflict),
    "isolated, another network's": Case(ISOLATED, (OF_ANOTHER,), ParentConflict),
    "isolated, a vlan": Case(ISOLATED, (VLAN._replace(name="dm-lan"),), ParentConflict, "dm-lan"),
}  # fmt: skip


def seen(case: Case) -> dict[str, Seen]:
    links = {link.name: link for link in case.links}
    return {
        level.name: Seen(
            links.get(level.name),
            ParentRecord(level.name, CREATING) if level.name == case.half_made else None,
        )
        for level in levels(case.wanted)
    }


@pytest.mark.parametrize("name", CASES)
def test_a_decision(name: str) -> None:
    case = CASES[name]
    if isinstance(case.outcome, type):
        with pytest.raises(case.outcome):
            decide(case.wanted, seen(case), "lan")
    else:
        assert [step.action for step in decide(case.wanted, seen(case), "lan")] == case.outcome


def test_a_decision_changes_nothing_twice() -> None:
    """Once the steps were taken, the same decision finds nothing to create or to adopt."""
    after = Case(NESTED, (PLAIN, OUR_VLAN, INNER), [])

    assert [step.action for step in decide(NESTED, seen(after), "lan")] == [USE, RAISE, RAISE]


@pytest.mark.parametrize(
    ("links", "base"),
    [((PLAIN,), "eth0"), ((PLAIN, OUR_VLAN), "eth0.10"), ((PLAIN, OUR_VLAN, INNER), "eth0.10.20")],
)
def test_the_mtu_is_bounded_by_the_highest_link_that_is_there(links: tuple[Link, ...], base: str) -> None:
    found = base_link(decide(NESTED, seen(Case(NESTED, links, [])), "lan"))

    assert found is not None
    assert found.name == base


@pytest.mark.parametrize(
    ("recorded", "link", "ours"),
    [
        (OURS, OUR_VLAN, True),
        (CREATING, OUR_VLAN, True),
        (CREATING, VLAN, True),
        (CREATING, VLAN._replace(kind="bridge"), False),
        (CREATING, VLAN._replace(alias="mine"), False),
        (OURS, VLAN, False),
        (FOUND, OUR_VLAN, False),
    ],
)
def test_a_parent_that_carries_nothing_goes_if_it_is_ours(recorded: str, link: Link, *, ours: bool) -> None:
    record = ParentRecord("eth0.10", recorded, "eth0")

    assert close(record, link) == Closing(link if ours else None, "eth0")


def test_a_parent_that_is_gone_leaves_its_uplink_and_one_without_a_record_leaves_nothing() -> None:
    assert close(ParentRecord("eth0.10", OURS, "eth0"), None) == Closing(None, "eth0")
    assert close(None, OUR_VLAN) == Closing()


def test_a_parent_is_rebuilt_from_its_records() -> None:
    records = {
        "eth0.10.20": ParentRecord("eth0.10.20", OURS, "eth0.10", vlan_id=20, protocol="802.1q"),
        "eth0.10": ParentRecord("eth0.10", FOUND, "eth0", vlan_id=10, protocol="802.1ad"),
        "dm-lan": ParentRecord("dm-lan", OURS, network="lan"),
        "of-version-1": ParentRecord("of-version-1", OURS, "eth0"),
    }

    assert rebuild("eth0.10.20", records) == Vlan(
        "eth0.10.20", Vlan("eth0.10", Existing("eth0"), 10, "802.1ad"), 20
    )
    assert rebuild("dm-lan", records) == ISOLATED
    assert rebuild("of-version-1", records) == Existing("of-version-1")
    assert rebuild("eth0", records) == Existing("eth0")


@pytest.mark.parametrize("uplink_protocol", ["", "802.1ad"])
def test_a_name_and_a_key_say_the_same(uplink_protocol: str) -> None:
    for uplink in ("eth0", "eth0.10", "enp129s0f0np0", "enp129s0f0np0.10"):
        below = parse_parent(uplink, uplink_protocol or "802.1q", uplink_protocol)

        assert parse_parent(f"{uplink}.5", "802.1q", uplink_protocol) == vlan_on(
            below, 5, "802.1q", uplink_protocol
        )


def test_auto_is_replaced_below_a_vlan() -> None:
    auto = vlan_on(Existing("auto"), 7, "802.1q")

    assert is_auto(auto)
    assert resolve_auto(auto, "eth3") == vlan_on(Existing("eth3"), 7, "802.1q")
    assert resolve_auto(auto, "eth3").name == "eth3.7"
    assert not is_auto(WANTED)
    assert resolve_auto(NESTED, "eth3") == NESTED


L2, L2_PRIVATE = Claim("ipvlan", "l2", "bridge"), Claim("ipvlan", "l2", "private")
BRIDGE, VEPA, PASSTHRU = (Claim("macvlan", mode, "") for mode in ("bridge", "vepa", "passthru"))


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        (BRIDGE, BRIDGE, True),
        (BRIDGE, VEPA, True),
        (BRIDGE, L2, False),
        (L2, L2, True),
        (L2, L2_PRIVATE, False),
        (L2, L2._replace(mode="l3"), False),
        (PASSTHRU, BRIDGE, False),
        (PASSTHRU, PASSTHRU, False),
    ],
)
def test_who_may_share_a_parent(one: Claim, other: Claim, *, shared: bool) -> None:
    assert (guards.sharing_conflict(one, other) == "") is shared
    assert (guards.sharing_conflict(other, one) == "") is shared


@pytest.mark.parametrize(("mtu", "fits"), [(0, True), (1500, True), (1501, False)])
def test_an_mtu_fits_the_link_below(mtu: int, *, fits: bool) -> None:
    attachment = Attachment("lan", WANTED, BRIDGE, mtu=mtu)
    if fits:
        guards.check_mtu(attachment, PLAIN)
    else:
        with pytest.raises(CniError, match="must be at most 1500, the MTU of eth0"):
            guards.check_mtu(attachment, PLAIN)


def test_the_vlan_that_has_an_id_already() -> None:
    create = CreateVlan("eth0.10", PLAIN, 10, "802.1q")

    assert guards.is_same_vlan(create, VLAN._replace(name="vlan10"))
    assert not guards.is_same_vlan(create, VLAN._replace(vlan_protocol="802.1ad"))
    assert not guards.is_same_vlan(create, VLAN._replace(parent_index=9))
