"""One pool, many nodes, a real etcd: who holds which block, and what happens when something goes away."""

import ipaddress
import json
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cni_ipam.sharing import faults
from tests.cluster.etcds import Etcds
from tests.cluster.nodes import Node
from tests.cluster.proxy import slowed
from tests.lab import tools

Make = Callable[..., Node]


@pytest.fixture(scope="module")
def etcd() -> Iterator[Etcds]:
    with Etcds() as etcd:
        yield etcd


@pytest.fixture
def node(etcd: Etcds, executable: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Make:
    """A way to make nodes of a cluster that this test has alone."""
    conf = etcd.conf(prefix=f"/{request.node.name}")
    return lambda name, *subnets, **keys: Node(executable, tmp_path, conf, name, *subnets, **keys)


def addresses(node: Node, *containers: str) -> list[str]:
    return [address for container in containers for address in node.add(container)]


def test_nodes_lease_from_blocks_of_their_own(node: Make) -> None:
    one, two = node("n1"), node("n2")

    found = [*addresses(one, "a", "b"), *addresses(two, "a", "b")]

    assert len(set(found)) == 4
    assert len(one.blocks()) == len(two.blocks()) == 1
    assert one.blocks() != two.blocks()
    for owner, address in zip((one, one, two, two), found, strict=True):
        assert ipaddress.ip_interface(address).ip in ipaddress.ip_network(f"{owner.blocks()[0]}/28")


def test_the_same_address_never_twice_until_the_pool_is_full(node: Make) -> None:
    nodes = [node(f"n{n}", "10.0.0.0/27", blockSize=4) for n in range(3)]
    given: list[str] = []
    for at in range(40):
        reply = nodes[at % 3].call("ADD", f"c{at}")
        if reply.status == 0:
            given += reply.addresses
        else:
            assert reply.code == 110, reply

    assert len(given) == len(set(given)) == 29  # all but network, gateway and broadcast


def test_a_dual_stack_network_has_blocks_of_both_families(node: Make) -> None:
    one = node("n1", "10.0.0.0/24", "2001:db8::/64")

    assert [ipaddress.ip_interface(address).version for address in one.add("a")] == [4, 6]
    assert len(one.blocks()) == 2


def test_a_deleted_pod_s_address_is_leased_again(node: Make) -> None:
    one = node("n1", "10.0.0.0/29", blockSize=8)
    first = addresses(one, "a", "b", "c", "d", "e")
    one.delete("a")

    assert addresses(one, "f") == first[:1]


# The engine is away.


@pytest.fixture
def own_etcd() -> Iterator[Etcds]:
    """An etcd that a test may stop."""
    with Etcds() as etcd:
        yield etcd


@pytest.fixture
def shaky(own_etcd: Etcds, executable: Path, tmp_path: Path) -> Make:
    return lambda name, *subnets, **keys: Node(executable, tmp_path, own_etcd.conf(), name, *subnets, **keys)


def test_held_blocks_serve_while_the_engine_is_away(own_etcd: Etcds, shaky: Make) -> None:
    one, two = shaky("n1", blockSize=4, pinned=["10.0.0.240/28"]), shaky("n2")
    given = addresses(one, "a")
    own_etcd.kill(0)

    while (reply := one.call("ADD", f"c{len(given)}")).status == 0:
        given += reply.addresses
    assert 2 <= len(given) <= 4
    assert reply.code == 11
    assert "etcd" in reply.document["msg"]
    assert two.call("ADD", "a").code == 11
    full, without = one.call("STATUS"), two.call("STATUS")
    assert (full.status, without.code) == (0, 50)
    assert "this node's blocks are full" in full.stderr
    one.delete("a")
    assert addresses(one, "d") == given[:1]

    own_etcd.start(0)
    assert addresses(one, "e") != []
    assert addresses(two, "a") != []


def test_status_is_good_while_there_is_room_without_the_engine(own_etcd: Etcds, shaky: Make) -> None:
    one = shaky("n1")
    one.add("a")
    own_etcd.kill(0)

    assert one.call("STATUS").status == 0


def test_after_a_boot_nothing_is_leased_before_the_engine_was_asked(own_etcd: Etcds, shaky: Make) -> None:
    one = shaky("n1")
    one.add("a")
    forget_boot(one)
    own_etcd.kill(0)

    assert one.call("ADD", "b").code == 11

    own_etcd.start(0)
    assert len(addresses(one, "b")) == 1
    assert len(one.blocks()) == 1  # the same one


def forget_boot(node: Node) -> None:
    """Have a node believe that it has booted since it last asked the engine."""
    path = node.data_dir / "lan" / "holdings"
    path.write_text(json.dumps({**node.holdings(), "confirmed": "an earlier boot"}))


# Blocks that come and go behind a node's back.


def test_a_block_that_was_claimed_and_not_recorded_is_found_again(node: Make) -> None:
    """As after a kill between the two."""
    one = node("n1")
    one.add("a")
    first = one.blocks()
    (one.data_dir / "lan" / "holdings").unlink()

    one.add("b")

    assert one.blocks() == first


def test_a_node_leases_no_more_from_a_block_that_was_taken_from_it(etcd: Etcds, node: Make) -> None:
    one, two = node("n1", "10.0.0.0/28", blockSize=16), node("n2", "10.0.0.0/28", blockSize=16)
    given = addresses(one, "a")
    take_all(etcd, one)
    others = addresses(two, "x")
    forget_boot(one)

    reply = one.call("ADD", "b")

    assert reply.code == 110, reply
    assert "n2 1" in reply.document["details"]
    assert one.blocks("lost") == ["10.0.0.0"]
    assert given == others  # the operator's doing: it was taken under a pod
    one.delete("a")
    assert one.call("ADD", "b").code == 110


def test_a_node_that_was_thought_dead_keeps_the_addresses_of_its_pods(etcd: Etcds, node: Make) -> None:
    """Its block was taken, and nobody has it yet: it holds it again until its pods are gone."""
    one, two = node("n1", "10.0.0.0/28", blockSize=16), node("n2", "10.0.0.0/28", blockSize=16)
    one.add("a")
    take_all(etcd, one)
    forget_boot(one)

    assert one.call("ADD", "b").code == 110
    assert one.blocks("draining") == ["10.0.0.0"]
    assert two.call("ADD", "x").code == 110
    one.delete("a")
    drained(one)
    assert len(addresses(two, "x")) == 1


def test_an_engine_that_was_restored_from_a_backup_learns_of_the_blocks_again(
    own_etcd: Etcds, shaky: Make
) -> None:
    one, two = shaky("n1", "10.0.0.0/27"), shaky("n2", "10.0.0.0/27")
    given = addresses(one, "a") + addresses(two, "x")
    own_etcd.kill(0)
    own_etcd.forget(0)  # an empty one: the oldest of all backups
    own_etcd.start(0)
    for each in (one, two):
        forget_boot(each)

    given += addresses(one, "b") + addresses(two, "y")

    assert len(set(given)) == 4
    assert len(one.blocks()) == len(two.blocks()) == 1


def take_all(etcd: Etcds, node: Node) -> None:
    """Do to a node's blocks what another does that takes it for dead."""
    prefix = node.conf["ipam"]["cluster"]["prefix"]
    for key in etcd.keys(f"{prefix}/v1/"):
        if "/block/" in key or key.endswith(f"/node/{node.name}"):
            etcd.delete(key)


def drained(node: Node) -> None:
    done = node.tool("drain", "--data-dir", str(node.data_dir))
    assert done.returncode == 0, done.stderr


# Pools that change.


def test_a_block_size_is_for_ever(node: Make) -> None:
    one, two = node("n1", blockSize=4), node("n2", blockSize=64)
    one.add("a")

    reply = two.call("ADD", "a")

    assert [block["size"] for block in two.holdings()["blocks"]] == [4]
    assert "never cut again" in reply.stderr


def test_a_range_that_shrinks_gives_no_address_outside_any_more(node: Make) -> None:
    wide = node("n1", "10.0.0.0/24")
    given = addresses(wide, "a")
    narrow = node("n1", {"subnet": "10.0.0.0/24", "ipRange": "10.0.0.128/28"})

    fresh = addresses(narrow, "b", "c")

    assert all(128 <= int(address.split("/")[0].rsplit(".", 1)[1]) < 144 for address in fresh)
    narrow.delete("a")
    assert given[0] not in fresh


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"blockSize": 12}, "ipam.blockSize 12: not a power of two from 1 to 256"),
        ({"blockSize": 512}, "ipam.blockSize 512: not a power of two from 1 to 256"),
        ({"pinned": ["10.0.0.9-10.0.0.1"]}, "ipam.pinned 10.0.0.9-10.0.0.1: ends before it starts"),
        ({"sticky": 60}, "ipam.sticky 60: seconds, with ipam.pinned for the addresses"),
        ({"cluster": {"store": "zookeeper"}}, "store"),
        ({"cluster": {"store": "etcd"}}, "ipam.cluster.endpoints: required for etcd"),
        ({"cluster": {"store": "etcd", "endpoints": ["127.0.0.1:2379"]}}, "not an http:// or https:// URL"),
        ({"cluster": "etcd"}, "cluster"),
    ],
)
def test_a_wrong_configuration_is_told(node: Make, keys: dict[str, object], words: str) -> None:
    one = node("n1")
    one.conf["ipam"] |= keys

    reply = one.call("ADD", "a")

    assert reply.code == 7, reply
    assert words in reply.document["msg"]


def test_default_subnets_are_no_cluster_s(node: Make) -> None:
    one = node("n1")
    del one.conf["ipam"]["subnets"]

    assert "subnets are required" in one.call("ADD", "a").document["msg"]


@pytest.mark.parametrize("value", ["", "[]", "{}", '{"blockSize": "x"}', '{"blockSize": 12}'])
def test_a_pool_s_object_that_somebody_has_damaged_is_told(etcd: Etcds, node: Make, value: str) -> None:
    one = node("n1")
    etcd.put(f"{one.conf['ipam']['cluster']['prefix']}/v1/pool/lan/lan", value)

    refused = one.call("ADD", "a")

    assert refused.code == 11, refused
    assert "not a power of two" in refused.document["msg"]


def test_objects_that_somebody_has_damaged_stop_nobody(etcd: Etcds, node: Make) -> None:
    one = node("n1")
    prefix = one.conf["ipam"]["cluster"]["prefix"]
    for key in ("block/lan/lan.0a000000", "pin/lan/lan.0a000001", "node/n7", "want/lan/lan.x"):
        for value in ("", "[1]", '{"start": 5, "size": "x", "address": [], "used": [1], "node": {}}'):
            etcd.put(f"{prefix}/v1/{key}", value)

    assert len(addresses(one, *(f"c{n}" for n in range(20)))) == 20
    done = one.tool("blocks", "--data-dir", str(one.data_dir))
    assert done.returncode == 0, done.stderr


def test_a_wait_after_a_restore_ends_with_the_boot(node: Make) -> None:
    """Its end is a time of the clock that begins anew with each boot."""
    one = node("n1", blockSize=1)
    one.add("a")
    path = one.data_dir / "lan" / "holdings"
    path.write_text(json.dumps({**one.holdings(), "confirmed": "an earlier boot", "claimAfter": 1e9}))

    assert len(addresses(one, "b")) == 1


def test_a_claim_waits_for_the_other_nodes_after_a_restore(own_etcd: Etcds, shaky: Make) -> None:
    """They have to claim the blocks of their pods again first."""
    one = shaky("n1", blockSize=1)
    one.add("a")
    own_etcd.kill(0)
    own_etcd.forget(0)
    own_etcd.start(0)

    refused = one.call("ADD", "b")

    assert refused.code == 11, refused
    assert "the store was restored from a backup" in refused.document["msg"]
    assert len(one.blocks()) == 1  # its own, again


def test_status_changes_nothing_in_the_store(etcd: Etcds, node: Make) -> None:
    one = node("n1")

    assert one.call("STATUS").status == 0
    assert etcd.keys(f"{one.conf['ipam']['cluster']['prefix']}/") == []


# Claims that are cut off, slow or many at once.


@pytest.mark.parametrize("moment", ["sendto:5", "sendto:6", "fsync:1", "rename:1"])
def test_a_claim_that_was_killed_leaves_no_block(etcd: Etcds, node: Make, moment: str) -> None:
    """Near the moments at which it is sent, answered and recorded."""
    tools.install("strace")
    one = node("n1", blockSize=1)
    one.add("a")
    call, _colon, number = moment.partition(":")
    options = ["-f", "-qq", "-o", "/dev/null", "-e", f"inject={call}:signal=KILL:when={number}"]

    assert one.call("ADD", "b", before=["strace", *options]).status == -signal.SIGKILL

    for container in "ab":
        one.delete(container)
    drained(one)
    prefix = one.conf["ipam"]["cluster"]["prefix"]
    assert etcd.keys(f"{prefix}/") == [f"{prefix}/v1/pool/lan/lan"]


@pytest.mark.parametrize("delay_s", [0.8, 2.0])
def test_an_add_waits_six_seconds_for_a_slow_engine(
    etcd: Etcds, executable: Path, tmp_path: Path, delay_s: float
) -> None:
    """However many requests it needs; and what it has done is not lost for the next."""
    with slowed(etcd.endpoints[0], delay_s) as proxy:
        one = Node(executable, tmp_path, etcd.conf(prefix=f"/slow{delay_s}", endpoints=(proxy.url,)), "n1")
        started = time.monotonic()
        reply = one.call("ADD", "a")
        seconds = time.monotonic() - started
        proxy.delay_s = 0.0

        assert reply.code == 11 or seconds < 8
        assert seconds < 12  # with the start of the program on a busy machine; twelve requests take longer
        one.add("b")


def test_a_burst_of_pods_with_blocks_of_one_address(etcd: Etcds, executable: Path, tmp_path: Path) -> None:
    """Each claims for itself; none takes what another has claimed, and none gives up."""
    conf = etcd.conf(prefix="/burst")
    one = Node(executable, tmp_path, conf, "n1", "10.0.0.0/25", blockSize=1)
    with ThreadPoolExecutor(40) as pool:
        found = list(pool.map(lambda n: one.warm("ADD", f"c{n}"), range(40)))

    assert {reply.status for reply in found} == {0}, found
    assert len({address for reply in found for address in reply.addresses}) == 40


# Two pools of one cluster.


def in_pool(node: Node, pool: str) -> Node:
    """A network of a node that leases from another pool than the others."""
    node.conf["name"] = pool
    return node


def test_a_pool_that_overlaps_one_of_another_node_is_warned_of(node: Make) -> None:
    one = in_pool(node("n1", "10.0.0.0/24"), "a")
    two, three = in_pool(node("n2", "10.0.0.0/25"), "b"), in_pool(node("n3", "10.0.1.0/24"), "c")
    assert "overlaps" not in one.call("ADD", "x").stderr

    first, later, other = two.call("ADD", "x"), two.call("ADD", "y"), three.call("ADD", "x")

    words = "subnet 10.0.0.0/25 of pool b overlaps 10.0.0.0/24 of pool a in the cluster: give both networks"
    assert words in first.stderr
    assert "overlaps" not in later.stderr + other.stderr
    assert "subnet 10.0.0.0/24 of pool a overlaps 10.0.0.0/25 of pool b" in faults_of(one)
    one.delete("x")
    assert one.tool("drain", "--data-dir", str(one.data_dir)).returncode == 0
    assert faults_of(two) == ""  # nobody leases from it any more


def faults_of(node: Node) -> str:
    """What `cni-vlan doctor` says of the shared pools of a node."""
    return "; ".join(fault.text for fault in faults(str(node.data_dir)))


def test_a_pool_that_an_earlier_release_has_made_is_given_its_subnets(etcd: Etcds, node: Make) -> None:
    one, two = in_pool(node("n1", "10.0.0.0/24"), "a"), in_pool(node("n2", "10.0.0.0/25"), "b")
    one.add("x")
    prefix = one.conf["ipam"]["cluster"]["prefix"]
    etcd.put(f"{prefix}/v1/pool/a/a", json.dumps({"pool": "a", "blockSize": 16}))
    path = one.data_dir / "a" / "holdings"
    path.write_text(json.dumps({**json.loads(path.read_text()), "confirmed": "an earlier boot"}))
    one.add("y")

    assert "overlaps 10.0.0.0/24 of pool a" in two.call("ADD", "x").stderr
