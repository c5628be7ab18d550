"""When a node is dead, as a table of cases: a wrong yes gives an address twice."""

from collections.abc import Mapping

import pytest

from cni_ipam.engine import NOBODY, Entry
from cni_ipam.reclaim import Proof, dead, due, observed

BLOCK = Entry("block", "lan.1", {"node": "n1", "incarnation": "aaaa"}, "1")


def joined(node: str, incarnation: str) -> Entry:
    return Entry("node", node, {"node": node, "incarnation": incarnation}, "1")


CASES = [
    ("alive", [joined("n1", "aaaa")], None, False),
    ("alive, Kubernetes knows it", [joined("n1", "aaaa")], {"n1": ""}, False),
    ("removed by an operator", [], None, True),
    ("removed, and Kubernetes knows it", [], {"n1": ""}, True),
    ("a machine of that name joined anew", [joined("n1", "bbbb")], {"n1": ""}, True),
    ("its Node object is gone", [joined("n1", "aaaa")], {"n2": ""}, True),
    ("its Node is tainted as out of service", [joined("n1", "aaaa")], {"n1": "out-of-service"}, True),
    ("renamed: its blocks bear the former name", [joined("n9", "aaaa")], {"n9": ""}, False),
    (
        "renamed, and its former object is there",
        [joined("n9", "aaaa"), joined("n1", "aaaa")],
        {"n9": ""},
        False,
    ),
    ("two names, and both are dead", [joined("n9", "aaaa"), joined("n1", "aaaa")], {"n2": ""}, True),
]


@pytest.mark.parametrize(
    ("nodes", "authority", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_is_it_dead(nodes: list[Entry], authority: Mapping[str, str] | None, expected: object) -> None:
    assert bool(dead([BLOCK], nodes, authority)) is expected


def test_a_declined_address_is_no_dead_node_s() -> None:
    declined = Entry("pin", "lan.2", {"node": "-", "incarnation": NOBODY}, "1")

    assert dead([declined], [], None) == {}


def test_a_proof_needs_two_looks_and_a_grace() -> None:
    first = observed({}, {"a": "gone"}, 100.0)
    second = observed(first, {"a": "gone"}, 150.0)

    assert due(first, 900.0, 600.0) == {}  # one look alone
    assert due(second, 650.0, 600.0) == {}
    assert due(second, 700.0, 600.0) == {"a": "gone"}


def test_a_node_that_was_seen_alive_begins_anew() -> None:
    proofs = observed(observed({}, {"a": "gone"}, 100.0), {}, 150.0)

    assert observed(proofs, {"a": "gone"}, 200.0) == {"a": Proof("gone", 200.0)}
