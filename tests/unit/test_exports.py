"""Which prefixes and rules a node's records want, as a table of cases."""

import pytest

from cni_core.call import AttachmentKey
from cni_core.family import Family
from cni_core.result import IPConfig, Result
from cni_net.operations import AddBlackhole, AddRule, DeleteBlackhole, DeleteRule
from cni_vlan.attachment import Export
from cni_vlan.exports import Exports, Guarded, Routed, additions, exported, prefixes, removals, wanted
from cni_vlan.records import AttachmentRecord

V4 = IPConfig("10.0.0.5/24", prefixes=("10.0.0.0/28",))
V6 = IPConfig("2001:db8::5/64", prefixes=("2001:db8::/124",))
TWO = IPConfig("10.0.0.5/24", prefixes=("10.0.0.4/30", "10.0.0.8/31"))
UNKNOWN = IPConfig("10.0.0.5/24")

CASES = [
    ("the block of each family", Export(177), (V4, V6), ("10.0.0.0/28", "2001:db8::/124")),
    ("a range that is no CIDR", Export(177), (TWO,), ("10.0.0.4/30", "10.0.0.8/31")),
    ("each pod alone", Export(177, each_pod=True), (V4, V6), ("10.0.0.5/32", "2001:db8::5/128")),
    ("another IPAM plugin", Export(177), (UNKNOWN,), ("10.0.0.5/32",)),
    ("two addresses of one block", Export(177), (V4, V4._replace(address="10.0.0.6/24")), ("10.0.0.0/28",)),
]


@pytest.mark.parametrize(("export", "ips", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_what_is_exported_for_a_pod(
    export: Export, ips: tuple[IPConfig, ...], expected: tuple[str, ...]
) -> None:
    assert prefixes(export, Result((), ips)) == expected


def record(name: str, *found: str, table: int = 177, parent: str = "eth0") -> AttachmentRecord:
    return AttachmentRecord(AttachmentKey(name, "eth0"), "n", parent, table=table, prefixes=found)


def test_pods_of_one_prefix_share_a_route() -> None:
    found = wanted([record("a", "10.0.0.0/28"), record("b", "10.0.0.0/28", "2001:db8::/124")])

    assert found.routes == {Routed("10.0.0.0/28", 177), Routed("2001:db8::/124", 177)}
    assert found.rules == {Guarded(Family.IPV4, "eth0", 177), Guarded(Family.IPV6, "eth0", 177)}


def test_pods_that_are_not_exported_want_nothing() -> None:
    assert wanted([record("a", table=0), record("b", "10.0.0.0/28", table=0)]) == Exports()


def test_what_only_one_pod_wants_goes_with_it() -> None:
    own, other = record("a", "10.0.0.0/28", "10.0.1.0/28"), record("b", "10.0.0.0/28")

    assert wanted([own]).without(wanted([other])) == Exports(frozenset({Routed("10.0.1.0/28", 177)}))


def test_routes_and_rules_are_removed_as_they_were_added() -> None:
    found = wanted([record("a", "10.0.0.0/28")])

    assert additions(found) == [
        AddBlackhole("10.0.0.0/28", 177),
        AddRule(Family.IPV4, "eth0", 177, 177),
    ]
    assert removals(found) == [
        DeleteBlackhole("10.0.0.0/28", 177),
        DeleteRule(Family.IPV4, "eth0", 177, 177),
    ]


def test_a_record_knows_what_is_exported_for_it() -> None:
    found = exported(record("a", table=0), Export(50), Result((), (V4,)))

    assert (found.table, found.prefixes) == (50, ("10.0.0.0/28",))
