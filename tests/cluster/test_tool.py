"""What operators see and do: blocks, drain, forget."""

import json
import shutil
from pathlib import Path

import pytest

from tests.cluster.etcds import Etcds
from tests.cluster.nodes import Node


@pytest.fixture
def nodes(etcd: Etcds, executable: Path, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Node, Node]:
    conf = etcd.conf(prefix=f"/{request.node.name}")
    one, two = (
        Node(executable, tmp_path, conf, name, pinned=["10.0.0.200/29"]) for name in ("n1", "n2.example")
    )
    return one, two


def tool(node: Node, *arguments: str) -> str:
    done = node.tool(*arguments, "--data-dir", str(node.data_dir))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_who_holds_what_is_shown_for_the_whole_cluster(nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    one.add("a")
    two.add("b")
    two.call("ADD", "c", extra={"runtimeConfig": {"ips": ["10.0.0.200"]}})

    rows = json.loads(tool(one, "blocks", "--json"))

    assert [(row["kind"], row["node"]) for row in rows if row["kind"] == "pin"] == [("pin", "n2.example")]
    blocks = {row["address"]: row for row in rows if row["kind"] == "block"}
    assert blocks[f"{one.blocks()[0]}/28"]["here"] == "held"
    assert blocks[f"{two.blocks()[0]}/28"]["here"] == ""
    table = tool(one, "blocks").splitlines()
    assert table[0].split() == ["POOL", "KIND", "ADDRESS", "NODE", "USED", "OWNER", "SINCE", "HERE"]
    assert len(table) == 4


def test_a_drained_node_keeps_what_its_pods_have(nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    one.add("a")
    block = one.blocks()[0]

    assert f"{block}/28 has 1 lease," in tool(one, "drain", "lan")
    assert one.blocks("draining") == [block]
    assert block in tool(one, "blocks")

    one.delete("a")
    said = tool(one, "drain", "lan")
    assert f"gave {block}/28 back" in said
    assert "this node has left it" in said
    two.add("b")
    assert block not in tool(two, "blocks")


def test_a_drained_node_joins_again_with_its_next_pod(nodes: tuple[Node, Node]) -> None:
    one, _two = nodes
    one.add("a")
    one.delete("a")
    tool(one, "drain")

    one.add("b")

    assert len(one.blocks()) == 1


def test_a_node_of_another_name_is_the_same_node(nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    two.add("x")
    one.add("a")
    block = one.blocks()[0]
    one.conf["ipam"]["cluster"]["node"] = "renamed"
    holdings = one.data_dir / "lan" / "holdings"
    holdings.write_text(json.dumps({**one.holdings(), "confirmed": "an earlier boot"}))

    one.add("b")

    held = {row["address"]: row["node"] for row in json.loads(tool(two, "blocks", "--json"))}
    assert held[f"{block}/28"] == "renamed"


def test_a_second_machine_of_the_same_name_is_refused(etcd: Etcds, nodes: tuple[Node, Node]) -> None:
    one, _two = nodes
    prefix = one.conf["ipam"]["cluster"]["prefix"]
    other = {"node": "n1", "incarnation": "0123456789abcdef", "machine": "0:1"}
    etcd.put(f"{prefix}/v1/node/n1", json.dumps(other))

    refused = one.call("ADD", "b")

    assert refused.code == 11
    assert refused.document["msg"] == "join the cluster as node n1: another machine has this name"
    assert "cni-ipam forget n1" in refused.document["details"]


def test_a_node_that_nobody_knows_is_not_forgotten(nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    one.add("a")
    two.add("b")

    done = one.tool("forget", "n3", "--yes", "--data-dir", str(one.data_dir))

    assert done.returncode == 1
    assert "n3 is not a node of the cluster: the nodes are n1, n2.example" in done.stderr


def test_what_an_earlier_machine_of_this_name_left_is_freed(
    etcd: Etcds, executable: Path, tmp_path: Path, nodes: tuple[Node, Node]
) -> None:
    one, two = nodes
    one.add("a")
    two.add("b")
    tool(two, "forget", "n1", "--yes")
    shown = {row["node"] for row in json.loads(tool(two, "blocks", "--json"))}
    assert shown == {"n1 (gone)", "n2.example"}
    prefix = one.conf["ipam"]["cluster"]["prefix"]
    again = Node(executable, tmp_path / "installed-again", etcd.conf(prefix=prefix), "n1")
    again.add("c")

    assert "n1 is forgotten, and 1 blocks" in tool(again, "forget", "n1", "--now", "--yes")

    held = {row["address"] for row in json.loads(tool(two, "blocks", "--json"))}
    assert held == {f"{again.blocks()[0]}/28", f"{two.blocks()[0]}/28"}
    assert "n1 is this node" in again.tool("forget", "n1", "--data-dir", str(again.data_dir)).stderr


def test_a_node_is_forgotten_with_any_prefix(etcd: Etcds, executable: Path, tmp_path: Path) -> None:
    conf = etcd.conf(prefix="/infra/node/cni")
    one, two = (Node(executable, tmp_path, conf, name) for name in ("n1", "n2"))
    one.add("a")
    two.add("b")

    assert "n1 is forgotten" in tool(two, "forget", "n1", "--yes")


def test_a_renamed_node_leaves_no_object_of_its_former_name(etcd: Etcds, nodes: tuple[Node, Node]) -> None:
    one, _two = nodes
    one.add("a")
    one.conf["ipam"]["cluster"]["node"] = "renamed"
    (one.data_dir / "lan" / "holdings").unlink()

    one.add("b")

    prefix = one.conf["ipam"]["cluster"]["prefix"]
    assert etcd.keys(f"{prefix}/v1/node/") == [f"{prefix}/v1/node/renamed"]


def test_a_block_that_somebody_has_damaged_is_not_shown(etcd: Etcds, nodes: tuple[Node, Node]) -> None:
    one, _two = nodes
    one.add("a")
    prefix = one.conf["ipam"]["cluster"]["prefix"]
    huge = {"pool": "lan", "start": "128.0.0.0", "size": 1 << 31, "node": "x", "incarnation": "y"}
    etcd.put(f"{prefix}/v1/block/lan/lan.80000000", json.dumps(huge))

    assert [row["address"] for row in json.loads(tool(one, "blocks", "--json"))] == [f"{one.blocks()[0]}/28"]


# More than one data directory on a machine.


def test_a_second_data_directory_of_a_machine_is_refused(
    etcd: Etcds, executable: Path, tmp_path: Path, nodes: tuple[Node, Node]
) -> None:
    one, _two = nodes
    one.add("a")
    prefix = one.conf["ipam"]["cluster"]["prefix"]
    other = Node(executable, tmp_path / "other", etcd.conf(prefix=prefix), "n1")

    refused = other.call("ADD", "b")

    assert refused.code == 11
    assert "this machine has joined with another dataDir" in refused.document["msg"]
    assert str(other.data_dir) in refused.document["details"]


def test_a_copied_data_directory_leases_nothing(
    etcd: Etcds, executable: Path, tmp_path: Path, nodes: tuple[Node, Node]
) -> None:
    one, _two = nodes
    one.add("a")
    shutil.copytree(one.data_dir, tmp_path / "copy" / "n1")
    prefix = one.conf["ipam"]["cluster"]["prefix"]
    copy = Node(executable, tmp_path / "copy", etcd.conf(prefix=prefix), "n1")

    assert copy.call("ADD", "b").code == 11
    one.add("b")


def test_without_a_cluster_it_is_said(tmp_path: Path, nodes: tuple[Node, Node]) -> None:
    one, _two = nodes

    done = one.tool("blocks", "--data-dir", str(tmp_path / "none"))

    assert done.returncode == 1
    assert "no pool of this node is shared with other nodes" in done.stderr


# Leases that are older than the cluster.


def written(node: Node) -> str:
    """Write the node's network to a file, as an operator has it."""
    path = node.data_dir.parent / f"{node.name}.conf"
    path.write_text(json.dumps(node.conf))
    return str(path)


def test_a_pool_that_was_this_node_s_joins_with_its_pods(nodes: tuple[Node, Node]) -> None:
    one, two = nodes
    keys = one.conf["ipam"].pop("cluster")
    pinned = one.conf["ipam"].pop("pinned")
    before = [one.add(f"p{n}")[0] for n in range(20)]
    one.conf["ipam"] |= {"cluster": keys, "pinned": pinned}

    done = one.tool("join", written(one))
    assert done.returncode == 0, done.stderr
    assert "pinned 20 addresses; 0 were this node's already" in done.stdout
    assert "pinned 0 addresses; 20 were" in one.tool("join", written(one)).stdout

    later = [node.add(f"q{n}")[0] for n in range(30) for node in nodes]
    assert not set(before) & set(later)
    assert one.check("p3", [before[3]]).status == 0
    for n in range(20):
        one.delete(f"p{n}")
    assert [row for row in json.loads(tool(two, "blocks", "--json")) if row["kind"] == "pin"] == []


def test_leases_of_whereabouts_are_taken_over(nodes: tuple[Node, Node], tmp_path: Path) -> None:
    one, two = nodes
    given = {
        "20": {"id": "here", "ifname": "net1", "podref": "web/a-0"},
        "21": {"id": "there", "ifname": "net1", "podref": "web/b-0"},
    }
    document = {"items": [{"spec": {"range": "10.0.0.0/24", "allocations": given}}]}
    (tmp_path / "pools.json").write_text(json.dumps(document))
    results = Path("/var/lib/cni/results")
    results.mkdir(parents=True, exist_ok=True)
    record = results / "lan-here-net1"
    record.write_text(json.dumps({"netns": "/run/netns/x"}))
    try:
        done = one.tool("join", written(one), "--whereabouts", str(tmp_path / "pools.json"))
    finally:
        record.unlink()

    assert done.returncode == 0, done.stderr
    assert "pinned 1 addresses; 0 were this node's already, 1 are of other nodes" in done.stdout
    refused = two.call("ADD", "x", extra={"runtimeConfig": {"ips": ["10.0.0.20"]}})
    assert "web/a-0 on node n1 has it" in refused.document["details"]


def test_a_join_that_fails_leaves_the_pool_as_it_was(nodes: tuple[Node, Node]) -> None:
    one, _two = nodes
    keys = one.conf["ipam"].pop("cluster")
    del one.conf["ipam"]["pinned"]
    own = json.dumps(one.conf)
    one.add("a")
    one.conf["ipam"]["cluster"] = {**keys, "endpoints": ["http://127.0.0.1:1"]}

    assert "connection refused" in one.tool("join", written(one)).stderr

    one.conf = json.loads(own)
    one.add("b")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\0"])
def test_what_is_no_list_of_pools_is_told(nodes: tuple[Node, Node], tmp_path: Path, text: str) -> None:
    one, _two = nodes
    (tmp_path / "pools.json").write_text(text)

    done = one.tool("join", written(one), "--whereabouts", str(tmp_path / "pools.json"))

    assert done.returncode == 1
    assert "not JSON" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_interface_that_no_kernel_has_is_told(nodes: tuple[Node, Node], tmp_path: Path) -> None:
    one, _two = nodes
    given = {"5": {"id": "a", "ifname": "../../evil"}}
    document = {"spec": {"range": "10.0.0.0/24", "allocations": given}}
    (tmp_path / "pools.json").write_text(json.dumps(document))

    done = one.tool("join", written(one), "--whereabouts", str(tmp_path / "pools.json"))

    assert "interface '../../evil'" in done.stderr


@pytest.mark.parametrize("is_forgotten", [False, True])
def test_the_blocks_of_a_machine_that_is_off_are_free_at_once(
    nodes: tuple[Node, Node], *, is_forgotten: bool
) -> None:
    """Also later: an operator may learn only then that the addresses of an L3 network answer nobody."""
    one, two = nodes
    one.add("a")
    two.add("b")
    block = one.blocks()[0]
    if is_forgotten:
        tool(two, "forget", "n1", "--yes")

    assert "n1 is forgotten, and 1 blocks" in tool(two, "forget", "n1", "--now", "--yes")
    assert block not in tool(two, "blocks")
