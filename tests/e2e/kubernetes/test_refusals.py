"""What people read when a pod cannot have the network, and what becomes of its node."""

import json
from collections.abc import Iterator

import pytest

from tests.e2e.kubernetes.cluster import CRICTL, Cluster, Node, until
from tests.e2e.kubernetes.control_plane import Json
from tests.e2e.kubernetes.objects import serving

SUBNET = {"subnet": "192.168.60.0/29", "ipRange": "192.168.60.2/31", "gateway": "192.168.60.1"}
FILE = "small.conflist"
FULL = "no IP addresses available"
BY_HAND = {"metadata": {"name": "by-hand", "namespace": "default", "uid": "by-hand"}, "linux": {}}


def small(ipam: Json | None = None, **keys: object) -> Json:
    """Return a network of two addresses, of the version that has STATUS."""
    section = {"type": "cni-ipam", "subnets": [SUBNET], **(ipam or {})}
    plugin = {"type": "cni-vlan", "parent": "eth0", "hostAccess": True, "ipam": section, **keys}
    return {"cniVersion": "1.1.0", "name": "small", "plugins": [plugin]}


@pytest.fixture
def node(cluster: Cluster) -> Iterator[Node]:
    """The second node, with a network of its own until the end; the first one keeps the cluster's."""
    two = cluster.nodes[1]
    two.sh(f"echo '{json.dumps(BY_HAND)}' > /run/by-hand.json")
    yield two
    two.configure(FILE, None)
    cluster.nothing_is_left(two)
    until(lambda: cluster.is_ready(two))


def by_hand(node: Node) -> str:
    """Return what crictl says of a sandbox that cannot have the network."""
    return node.sh(f"! {CRICTL} runp /run/by-hand.json 2>&1")


def described(cluster: Cluster, pod: str) -> str:
    return cluster.plane.kubectl("describe", "pod", pod)


def test_why_a_pod_has_no_network_is_said_where_people_look(cluster: Cluster, node: Node) -> None:
    """In its events, and by crictl: of a parent that is not there, then of a mode that does not exist."""
    for conf, words in (
        (small(parent="eth7.60"), "uplink eth7 does not exist"),
        (small(mode="brigde"), "not a mode of macvlan: private, vepa"),
    ):
        node.configure(FILE, conf)
        cluster.plane.apply(serving("late", node.place))
        until(lambda words=words: words in described(cluster, "late"))  # type: ignore[misc]
        assert words in by_hand(node)

    node.configure(FILE, small())
    cluster.ready("late")
    cluster.delete("pod/late")


def test_a_pod_waits_while_the_pool_is_full_and_its_node_works(cluster: Cluster, node: Node) -> None:
    """CRI-O asks for STATUS (of CNI 1.1) when it starts; with `statusWhenFull` the node is not ready."""
    plane = cluster.plane
    node.configure(FILE, small())
    plane.apply(*(serving(name, node.place) for name in ("first", "second")))
    cluster.ready("first", "second")
    plane.apply(serving("late", node.place))
    until(lambda: FULL in described(cluster, "late"))

    node.kill("crio", signal="TERM")
    until(lambda: network_ready(node)["status"])
    until(lambda: cluster.is_ready(node))
    node.configure(FILE, small({"statusWhenFull": "fail"}))
    node.kill("crio", signal="TERM")
    until(lambda: FULL in plane.kubectl("describe", "node", node.place.name))
    assert not cluster.is_ready(node)
    assert FULL in network_ready(node)["message"]
    node.configure(FILE, small())
    until(lambda: cluster.is_ready(node))
    cluster.delete("pod/first")
    cluster.ready("late")
    cluster.delete("pod/late", "pod/second")


def network_ready(node: Node) -> Json:
    """Return what the runtime tells kubelet of its network."""
    shown = json.loads(node.run(*CRICTL.split(), "info", check=False) or "{}")
    conditions = shown.get("status", {}).get("conditions", [])
    return next((each for each in conditions if each["type"] == "NetworkReady"), {"status": False})
