"""The task of the agent that looks after blocks: what it asks an engine, and how often."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from cni_agent.claimer import Claimer
from cni_agent.cluster_metrics import ClusterMetrics
from tests.cluster.etcds import Etcds
from tests.cluster.nodes import Node
from tests.cluster.proxy import Proxy, slowed
from tests.lab.waiting import wait_until

POOLS = ("lan", "storage", "voice")


@pytest.fixture
def own_etcd() -> Iterator[Etcds]:
    with Etcds() as running:
        yield running


@pytest.fixture
def proxy(own_etcd: Etcds) -> Iterator[Proxy]:
    with slowed(own_etcd.endpoints[0]) as found:
        yield found


@pytest.fixture
def node(own_etcd: Etcds, proxy: Proxy, executable: Path, tmp_path: Path) -> Node:
    return Node(executable, tmp_path, own_etcd.conf(endpoints=(proxy.url,)), "n1", blockSize=4)


def claimer(node: Node, contact_s: float = 0, empty_s: float = 300) -> Claimer:
    return Claimer(lambda _text: None, str(node.data_dir), contact_s=contact_s, empty_s=empty_s)


def asked(proxy: Proxy, task: Claimer) -> int:
    """Return the number of requests of one look."""
    before = len(proxy.asked)
    task.look_after()
    return len(proxy.asked) - before


def test_an_idle_node_sends_one_request_for_all_of_its_pools(proxy: Proxy, node: Node) -> None:
    for number, pool in enumerate(POOLS):
        node.conf["ipam"] |= {"pool": pool, "subnets": [{"subnet": f"10.{number}.0.0/24"}]}
        node.add(f"pod-{pool}")
    task = claimer(node)
    for _look in range(3):  # it agrees with the engine, and tells how full its blocks are
        task.look_after()

    assert [asked(proxy, task) for _look in range(5)] == [1] * 5


def test_news_of_all_pools_is_told_with_one_request(proxy: Proxy, node: Node) -> None:
    task = claimer(node)
    for number, pool in enumerate(POOLS):
        node.conf["ipam"] |= {"pool": pool, "subnets": [{"subnet": f"10.{number}.0.0/24"}]}
        node.add(f"pod-{pool}")
    for _look in range(3):
        task.look_after()
    for number, pool in enumerate(POOLS):
        node.conf["ipam"] |= {"pool": pool, "subnets": [{"subnet": f"10.{number}.0.0/24"}]}
        node.add(f"another-{pool}")
    task.look_after()  # what is hungry claims

    assert asked(proxy, task) <= 2
    done = node.tool("blocks", "voice", "--data-dir", str(node.data_dir))
    assert "2/4" in done.stdout, done


def test_no_pod_asks_the_engine_while_blocks_are_claimed_ahead(
    own_etcd: Etcds, proxy: Proxy, executable: Path, tmp_path: Path
) -> None:
    """A new block may lie beside one that is marked as full."""
    conf = own_etcd.conf(endpoints=(proxy.url,))
    node = Node(executable, tmp_path, conf, "n1", "10.0.0.0/23")
    task = claimer(node, contact_s=30)
    node.add("pod-1")
    for number in range(2**9 - 3 - 1):  # but the gateway, the subnet's own addresses, and the first pod's
        task.look_after()
        before = len(proxy.asked)
        assert node.warm("ADD", f"pod{number}").status == 0
        for old in range(max(0, number - 8), number):  # the search goes round, past what is full
            assert node.warm("DEL", f"pod{old}").status == 0
            assert node.warm("ADD", f"pod{old}").status == 0
        assert proxy.asked[before:] == [], number

    assert len(node.blocks()) == 32
    assert node.warm("ADD", "one-more").code == 110


def test_marks_of_former_sets_do_not_pile_up(own_etcd: Etcds, executable: Path, tmp_path: Path) -> None:
    """Where one-shot plugins serve, each claim of the task leaves a set that nobody carries along."""
    node = Node(executable, tmp_path, own_etcd.conf(), "n1", "10.0.0.0/24")
    node.add("pod")
    (boot,) = node.data_dir.glob("lan/*-*-*/")
    for number in range(100):
        (boot / "full" / f"{number:012x}" / "10.0.0.0").mkdir(parents=True)

    claimer(node).look_after()

    assert list((boot / "full").glob("*")) == []


def test_a_hungry_node_does_not_press_an_engine_that_is_away(
    own_etcd: Etcds, proxy: Proxy, node: Node
) -> None:
    """Each pod wakes the task; it asks again after a pause that doubles."""
    node.add("a")
    task = claimer(node, contact_s=30)
    task.look_after()
    for pod in "bcd":
        assert node.call("ADD", pod).status == 0
    own_etcd.kill(0)
    proxy.asked.clear()
    for _pod in range(20):
        task.look_after()

    assert len(proxy.asked) < 12  # a request is tried again while the time for it lasts

    own_etcd.start(0)


def test_waits_of_pods_are_counted(node: Node) -> None:
    registry = CollectorRegistry()
    registry.register(ClusterMetrics(claimer(node).counts))

    assert node.warm("ADD", "a").status == 0  # it claims the first block
    assert node.warm("ADD", "b").status == 0  # asks nobody

    count = registry.get_sample_value("cni_engine_wait_seconds_count", {"pool": "lan"})
    seconds = registry.get_sample_value("cni_engine_wait_seconds_sum", {"pool": "lan"})
    assert count == 1
    assert seconds is not None
    assert seconds > 0


def test_a_want_is_withdrawn_once_there_is_room(
    own_etcd: Etcds, executable: Path, tmp_path: Path, node: Node
) -> None:
    other = Node(executable, tmp_path, own_etcd.conf(), "n2", blockSize=4)
    for each in (node, other):
        each.conf["ipam"]["subnets"] = [{"subnet": "10.0.0.0/29"}]
    node.add("a")
    other.add("x")
    assert [node.call("ADD", pod).code for pod in "bcdef"][-1] == 110
    assert len(own_etcd.keys("/cni-vlan/v1/want/")) == 1
    node.delete("a")
    tasks = claimer(node), claimer(other)
    for _look in range(4):
        for task in tasks:
            task.look_after()

    assert own_etcd.keys("/cni-vlan/v1/want/") == []


# Routers forget a route that is withdrawn with the last pod of a block in some hundredths of a second.


def drained(node: Node, _task: Claimer) -> None:
    done = node.tool("drain", "--data-dir", str(node.data_dir))
    assert "gave" in done.stdout, done


def looked_after(_node: Node, task: Claimer) -> None:
    task.look_after()


@pytest.mark.parametrize("give_back", [drained, looked_after])
def test_a_block_is_given_back_a_second_after_its_last_pod(
    own_etcd: Etcds, node: Node, give_back: Callable[[Node, Claimer], None]
) -> None:
    for pod in "abcd":
        node.add(pod)
    task = claimer(node, empty_s=1)
    for _look in range(2):
        task.look_after()
    assert len(node.blocks()) == 2
    for pod in "abcd":
        node.delete(pod)
    task.look_after()
    time.sleep(1)  # the blocks have been empty for long enough, as far as the task knows
    for pod in "efghi":
        node.add(pod)
    for pod in "efghi":
        node.delete(pod)
    left = time.monotonic()
    key = "/cni-vlan/v1/block/"
    with ThreadPoolExecutor() as pool:
        giving = pool.submit(give_back, node, task)
        wait_until(lambda: len(own_etcd.keys(key)) < 2)
        waited = time.monotonic() - left
        giving.result()

    assert waited >= 1
