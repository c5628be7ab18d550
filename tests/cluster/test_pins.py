"""Addresses that are kept for one: requested by name, or the same again for a StatefulSet's pod."""

from pathlib import Path

import pytest

from tests.cluster.etcds import Etcds
from tests.cluster.nodes import Node
from tests.store.ipam import Json, Reply

BAND = ["10.0.0.200-10.0.0.209"]


@pytest.fixture
def nodes(etcd: Etcds, executable: Path, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Node, Node]:
    conf = etcd.conf(prefix=f"/{request.node.name}")
    one, two = (Node(executable, tmp_path, conf, name, pinned=BAND, sticky=3600) for name in ("n1", "n2"))
    return one, two


def request_for(node: Node, container: str, address: str) -> Reply:
    return node.call("ADD", container, extra={"runtimeConfig": {"ips": [address]}})


def given(reply: Reply) -> str:
    assert reply.status == 0, reply
    return reply.addresses[0].partition("/")[0]


def pins(etcd: Etcds, node: Node) -> list[str]:
    prefix = node.conf["ipam"]["cluster"]["prefix"]
    return etcd.keys(f"{prefix}/v1/pin/")


def test_nobody_gets_a_pinned_address_by_chance(nodes: tuple[Node, Node]) -> None:
    """Two nodes take every address of the pool's blocks."""
    found = []
    for at in range(300):
        reply = nodes[at % 2].call("ADD", f"c{at}")
        if reply.status:
            break
        found.append(given(reply))

    assert len(found) > 200
    assert not {f"10.0.0.{n}" for n in range(200, 210)} & set(found)


@pytest.mark.parametrize(("before", "after"), [(["10.0.0.3-10.0.0.14"], []), ([], ["10.0.0.3-10.0.0.14"])])
def test_a_band_that_is_edited_counts_at_once(
    etcd: Etcds,
    executable: Path,
    tmp_path: Path,
    before: list[str],
    after: list[str],
    request: pytest.FixtureRequest,
) -> None:
    """Also in an agent, which has seen the pool before."""
    conf = etcd.conf(prefix=f"/{request.node.name}")
    node = Node(executable, tmp_path, conf, "n1", "10.0.0.0/28", pinned=before)
    assert node.warm("ADD", "a").status == 0

    node.conf["ipam"]["pinned"] = after

    reply = node.warm("ADD", "b")
    assert (reply.code or given(reply)) == (110 if after else "10.0.0.3")


def test_a_requested_address_is_one_node_s_until_its_pod_is_gone(
    etcd: Etcds, nodes: tuple[Node, Node]
) -> None:
    one, two = nodes
    assert given(request_for(one, "a", "10.0.0.200")) == "10.0.0.200"

    refused = request_for(two, "b", "10.0.0.200")
    assert refused.code == 111
    assert "n1" in refused.document["details"]

    one.delete("a")
    assert pins(etcd, one) == []
    assert given(request_for(two, "b", "10.0.0.200")) == "10.0.0.200"


def test_a_requested_address_in_an_own_block_asks_nobody(etcd: Etcds, nodes: tuple[Node, Node]) -> None:
    one, _two = nodes
    one.add("a")
    block = one.blocks()[0]
    wanted = block.rpartition(".")[0] + "." + str(int(block.rpartition(".")[2]) + 7)

    assert given(request_for(one, "b", wanted)) == wanted
    assert pins(etcd, one) == []


def test_a_requested_address_in_another_s_block_is_refused_with_its_name(nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    one.add("a")
    block = one.blocks()[0]
    wanted = block.rpartition(".")[0] + "." + str(int(block.rpartition(".")[2]) + 7)

    refused = request_for(two, "b", wanted)

    assert refused.code == 111
    assert f"node n1 holds block {block}/28" in refused.document["details"]


def test_a_requested_address_in_nobody_s_block_is_kept_from_who_claims_it(
    etcd: Etcds, executable: Path, tmp_path: Path
) -> None:
    conf = etcd.conf(prefix="/claimed")
    one, two = (Node(executable, tmp_path, conf, name, "10.0.0.0/28") for name in ("n1", "n2"))
    assert given(request_for(one, "a", "10.0.0.7")) == "10.0.0.7"

    found = [given(two.call("ADD", f"c{n}")) for n in range(12)]

    assert "10.0.0.7" not in found
    assert len(set(found)) == 12  # 14 usable without the gateway and the pinned one
    assert two.call("ADD", "more").code == 110


@pytest.mark.parametrize("address", ["10.0.0.1", "10.0.0.255", "10.0.1.7"])
def test_a_reserved_address_is_no_pin(etcd: Etcds, nodes: tuple[Node, Node], address: str) -> None:
    one, _two = nodes

    assert request_for(one, "a", address).code == 111
    assert pins(etcd, one) == []


def test_an_add_that_fails_keeps_nothing(etcd: Etcds, executable: Path, tmp_path: Path) -> None:
    """The second family has no such address."""
    conf = etcd.conf(prefix="/fails")
    one = Node(executable, tmp_path, conf, "n1", "10.0.0.0/24", "2001:db8::/64", pinned=BAND)
    two = Node(executable, tmp_path, conf, "n2", "10.0.0.0/24", "2001:db8::/64", pinned=BAND)
    assert request_for(two, "x", "2001:db8::77").status == 0
    wanted = {"runtimeConfig": {"ips": ["10.0.0.200", "2001:db8::77"]}}

    assert one.call("ADD", "a", extra=wanted).code == 111
    assert given(request_for(two, "y", "10.0.0.200")) == "10.0.0.200"


# Sticky addresses.


def start(node: Node, pod: str, container: str, **args: Json) -> Reply:
    node.args = f"IgnoreUnknown=1;K8S_POD_NAMESPACE=web;K8S_POD_NAME={pod};K8S_POD_UID=1"
    try:
        return node.call("ADD", container, extra=args)
    finally:
        node.args = ""


def test_a_pod_of_a_statefulset_gets_its_address_again_on_any_node(nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    first = given(start(one, "db-0", "a"))
    other = given(start(one, "db-1", "b"))
    one.delete("a")

    assert given(start(two, "db-0", "c")) == first
    assert first != other
    assert int(first.rpartition(".")[2]) in range(200, 210)
    two.delete("c")
    assert given(start(one, "db-0", "d")) == first


def test_a_pod_of_a_deployment_gets_any(nodes: tuple[Node, Node]) -> None:
    one, _two = nodes

    for pod in ("web-5d8f7c9b6-x2x9z", "web-5d8f7c9b6-12345"):
        assert int(given(start(one, pod, pod)).rpartition(".")[2]) not in range(200, 210)


def test_who_names_an_owner_gets_its_address_again(nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    owner = {"args": {"cni": {"owner": "vm/mail"}}}
    first = given(one.call("ADD", "a", extra=owner))
    one.delete("a")

    assert given(two.call("ADD", "b", extra=owner)) == first


def test_an_owner_whose_pod_still_runs_elsewhere_is_refused(nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    start(one, "db-0", "a")

    refused = start(two, "db-0", "b")

    assert refused.code == 111
    assert "web/db-0 on node n1 has it" in refused.document["details"]


def test_every_pinned_address_is_taken(nodes: tuple[Node, Node]) -> None:
    one, _two = nodes
    found = {given(start(one, f"db-{n}", f"c{n}")) for n in range(10)}

    assert len(found) == 10
    refused = start(one, "db-10", "c10")
    assert refused.code == 110
    assert "every pinned address of pool lan is taken" in refused.document["msg"]


def test_pins_outlive_a_store_that_was_restored_from_a_backup(executable: Path, tmp_path: Path) -> None:
    with Etcds() as etcd:
        one, two = (Node(executable, tmp_path, etcd.conf(), name, pinned=BAND) for name in ("n1", "n2"))
        assert given(request_for(one, "a", "10.0.0.200")) == "10.0.0.200"
        assert given(request_for(two, "x", "10.0.0.209")) == "10.0.0.209"
        etcd.kill(0)
        etcd.forget(0)  # an empty one: the oldest of all backups
        etcd.start(0)

        assert given(request_for(one, "b", "10.0.0.201")) == "10.0.0.201"

        refused = request_for(two, "y", "10.0.0.200")
        assert "on node n1 has it" in refused.document["details"], refused


def test_the_pin_of_a_running_pod_outlives_a_lost_record(nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    assert given(request_for(one, "a", "10.0.0.200")) == "10.0.0.200"
    (one.data_dir / "lan" / "holdings").write_text("")

    one.add("b")

    assert "on node n1 has it" in request_for(two, "c", "10.0.0.200").document["details"]


def test_a_damaged_record_of_the_cluster_keeps_no_pin(etcd: Etcds, nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    request_for(one, "a", "10.0.0.200")
    (one.data_dir / "lan" / "cluster").write_text("")

    one.delete("a")
    one.add("b")
    one.delete("b")

    assert pins(etcd, one) == []
    assert given(request_for(two, "c", "10.0.0.200")) == "10.0.0.200"


def test_an_owner_gets_its_address_again_after_the_store_was_restored(
    executable: Path, tmp_path: Path
) -> None:
    """Of the pod that runs, and of the one that has gone."""
    with Etcds() as etcd:
        conf = etcd.conf()
        one, two = (Node(executable, tmp_path, conf, n, pinned=BAND, sticky=3600) for n in ("n1", "n2"))
        first, second = given(start(one, "db-0", "a")), given(start(one, "db-1", "b"))
        one.delete("b")
        etcd.kill(0)
        etcd.forget(0)
        etcd.start(0)
        request_for(one, "other", "10.0.0.209")  # it notices
        one.delete("a")

        assert given(start(two, "db-1", "c")) == second
        assert given(start(two, "db-0", "d")) == first


def test_an_address_in_a_block_is_leased_again_once_its_pin_is_gone(nodes: tuple[Node, Node]) -> None:
    """Another node pinned it before this one claimed the block."""
    one, two = nodes
    for node in nodes:
        node.conf["ipam"] |= {"subnets": [{"subnet": "10.0.0.0/27"}], "pinned": [], "sticky": 0}
    assert given(request_for(two, "a", "10.0.0.20")) == "10.0.0.20"
    found = [given(one.call("ADD", f"c{n}")) for n in range(15)]  # both blocks
    two.delete("a")

    found += [given(reply) for n in range(16) if (reply := one.call("ADD", f"d{n}")).status == 0]

    assert len(found) == len(set(found)) == 29
