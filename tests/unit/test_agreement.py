"""What a node holds after it has asked the engine: a table of what can have happened meanwhile."""

import pytest

from cni_core.call import AttachmentKey
from cni_ipam.agreement import agree, foreign, may_take, void
from cni_ipam.blocks import Block
from cni_ipam.engine import Entry, Fields, Kind, Snapshot
from cni_ipam.holdings import HeldBlock, HeldPin, Holdings, State
from cni_ipam.lease import Tenant

ME, OTHER = "aaaa", "bbbb"
A = Block(4, 0x0A000010, 16)


def entry(fields: Fields, kind: Kind = "block", revision: str = "7") -> Entry:
    return Entry(kind, "lan.x", fields, revision)


def block(incarnation: str) -> Entry:
    return entry({"start": A.address, "size": A.size, "node": f"n-{incarnation}", "incarnation": incarnation})


def pin(incarnation: str, address: str = "10.0.0.20", **fields: object) -> Entry:
    return entry({"address": address, "incarnation": incarnation, "node": "n", **fields}, "pin")


def engine(*entries: Entry, revision: int = 10, cluster: str = "c") -> Snapshot:
    return Snapshot(entries, revision, cluster)


def holding(state: State = State.HELD) -> Holdings:
    return Holdings((HeldBlock(A, "5", state),), engine="c", revision=9)


CASES = [
    ("still ours", holding(), engine(block(ME)), [(State.HELD, "7")], []),
    ("another's now", holding(), engine(block(OTHER)), [(State.LOST, "5")], []),
    ("lost, and ours again", holding(State.LOST), engine(block(ME)), [(State.HELD, "7")], []),
    ("claimed, and not recorded", Holdings(), engine(block(ME)), [(State.HELD, "7")], []),
    ("taken as that of a dead node", holding(), engine(), [], [State.DRAINING]),
    ("the engine was restored: older", holding(), engine(revision=8), [], [State.HELD]),
    ("the engine was restored: another", holding(), engine(cluster="d"), [], [State.HELD]),
    ("given back, and killed before it was forgotten", holding(State.RELEASING), engine(), [], []),
    ("about to be given back", holding(State.RELEASING), engine(block(ME)), [(State.RELEASING, "7")], []),
    ("a damaged object", holding(), engine(entry({"start": "x"})), [], [State.DRAINING]),
]


@pytest.mark.parametrize(
    ("before", "found", "kept", "missing"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_blocks(
    before: Holdings, found: Snapshot, kept: list[tuple[State, str]], missing: list[State]
) -> None:
    agreed = agree(before, found, engine(), ME)

    assert [(held.state, held.revision) for held in agreed.blocks] == kept
    assert [held.state for held in agreed.missing] == missing


def test_a_missing_block_that_another_node_has_claimed_is_lost() -> None:
    agreed = agree(holding(), engine(), engine(), ME)

    assert agreed.resolved(agreed.missing[0], "9").blocks == (HeldBlock(A, "9", State.DRAINING),)
    assert agreed.resolved(agreed.missing[0], "").blocks == (HeldBlock(A, "5", State.LOST),)


def test_pins_of_others_in_our_blocks_are_not_ours_to_lease() -> None:
    pins = engine(pin(OTHER), pin(OTHER, "10.0.0.99"), pin(ME, "10.0.0.21"))

    found = agree(holding(), engine(block(ME)), pins, ME)
    assert list(foreign(pins, ME, found.usable)) == [(4, 0x0A000014)]


def test_a_pin_that_the_engine_has_lost_is_made_again() -> None:
    key = AttachmentKey("c", "eth0")
    before = holding()._replace(pins=(HeldPin(4, 0x0A000099, "3", key),))
    found = agree(before, engine(block(ME)), engine(), ME)

    assert found.missing_pins == before.pins
    assert found.pinned_again(before.pins[0], "9").pins == (HeldPin(4, 0x0A000099, "9", key),)
    (warning,) = found.pinned_again(before.pins[0], "").warnings
    assert warning == "address 10.0.0.153 of a pod here is another node's now"


def test_a_block_that_is_missing_beside_the_node_s_own_object_was_lost_with_a_backup() -> None:
    found = agree(holding(), engine(), engine(), ME, was_known=True)

    assert [held.state for held in found.missing] == [State.HELD]


def test_a_pin_that_was_made_and_not_recorded_is_found() -> None:
    made = pin(ME, container="c", interface="eth0", keep=60)

    assert agree(Holdings(), engine(), engine(made), ME).pins == (
        HeldPin(4, 0x0A000014, "7", AttachmentKey("c", "eth0"), 60),
    )


def test_what_changed_while_the_engine_was_asked_is_kept() -> None:
    """A call on this node leased a pinned address between the two reads."""
    fresh = HeldPin(4, 1, "8", AttachmentKey("c", "eth0"))
    agreed = agree(Holdings(), engine(), engine(), ME)

    assert agreed.merged(Holdings(pins=(fresh,)), Holdings()).pins == (fresh,)


def test_after_a_boot_pins_have_no_attachment() -> None:
    key = AttachmentKey("c", "eth0")

    assert void([HeldPin(4, 1, "8", key), HeldPin(4, 2, "8", key, 60)], 5.0, lambda _key: False) == (
        HeldPin(4, 1, "8", None),
        HeldPin(4, 2, "8", None, 60, 65.0),
    )


def test_a_pin_with_a_lease_has_its_attachment_still() -> None:
    pin = HeldPin(4, 1, "8", AttachmentKey("c", "eth0"))

    assert void([pin], 5.0, lambda key: key == pin.key) == (pin,)


# A store that was restored gives a node what it gave back: another may have it, with pods.


def joined(before: Holdings) -> Holdings:
    return before._replace(incarnation=ME)


RETURNED = [
    ("a block that is in no record", joined(Holdings()), False, False),
    ("a claim was killed", joined(Holdings()), True, True),
    ("a claim was killed, and the engine is older", joined(Holdings(engine="c", revision=11)), True, False),
    ("the record was lost", Holdings(), False, True),
]


@pytest.mark.parametrize(
    ("before", "is_unsure", "is_kept"), [c[1:] for c in RETURNED], ids=[c[0] for c in RETURNED]
)
def test_a_block_without_a_record(before: Holdings, is_unsure: object, is_kept: object) -> None:
    found = agree(before, engine(block(ME)), engine(), ME, is_unsure=bool(is_unsure))

    assert bool(found.blocks) is is_kept
    assert bool(found.surplus) is not is_kept
    assert found.is_restored is not is_kept


def test_a_pin_without_a_record_is_given_back() -> None:
    returned = pin(ME, container="c", interface="eth0")
    found = agree(joined(Holdings()), engine(), engine(returned), ME)

    assert (found.pins, found.surplus) == ((), (returned,))


def test_a_pin_that_a_call_has_just_given_back_stays_away() -> None:
    """A DEL on this node did so between the two reads."""
    held = joined(Holdings(pins=(HeldPin(4, 0x0A000014, "7", AttachmentKey("c", "eth0")),)))
    agreed = agree(held, engine(), engine(pin(ME, container="c", interface="eth0")), ME)

    assert agreed.merged(held._replace(pins=()), held).pins == ()


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ({"incarnation": ME, "container": "c", "interface": "eth0"}, True),
        ({"incarnation": ME, "container": "d", "interface": "eth0"}, False),
        ({"incarnation": OTHER, "container": "", "owner": "web/db-0"}, True),
        ({"incarnation": OTHER, "container": "d", "owner": "web/db-0"}, False),
        ({"incarnation": OTHER, "container": "", "owner": "web/db-1"}, False),
    ],
)
def test_who_may_have_a_pinned_address(fields: Fields, allowed: object) -> None:
    tenant = Tenant(AttachmentKey("c", "eth0"), "lan", owner="web/db-0")

    assert may_take(entry(fields, "pin"), tenant, ME) is allowed
