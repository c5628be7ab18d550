"""cni-vlan as the only network of two nodes: pods, agents and runtimes that come and go."""

import time
from pathlib import Path

import pytest

from tests.e2e.kubernetes.cluster import Cluster, Node, together, until
from tests.e2e.kubernetes.control_plane import Json
from tests.e2e.kubernetes.objects import HTTP_GET, deployment, service, serving, stateful_set

MANIFESTS = Path(__file__).parents[3] / "manifests" / "kubernetes"
TEN = 10


def test_kubelet_and_the_runtime_are_killed_while_pods_start(cluster: Cluster) -> None:
    """CRI-O forgets the sandboxes that it was creating, and calls no GC for a list of version 1.0.0."""
    plane = cluster.plane
    plane.apply(deployment("storm", 6, serving("storm")))
    until(lambda: all(node.has_leases() for node in cluster.nodes))

    together(lambda node: node.kill("crio", "kubelet"), cluster.nodes)
    cluster.rolled_out("deployment/storm")

    assert len({pod["status"]["podIP"] for pod in cluster.pods("storm")}) == 6
    cluster.delete("deployment/storm")
    for node in cluster.nodes:
        until(lambda node=node: len(node.leases()) == len(node.forgotten()))  # type: ignore[misc]
        for container in node.forgotten():
            node.run("/opt/cni/bin/cni-vlan", "release", container, "--yes", "--force")
    cluster.nothing_is_left()


def test_a_deployment_grows_and_goes(cluster: Cluster) -> None:
    plane = cluster.plane
    plane.apply(deployment("scaled", 3, serving("scaled", readinessProbe=HTTP_GET)))
    cluster.rolled_out("deployment/scaled")

    plane.kubectl("scale", "deployment/scaled", f"--replicas={TEN}")
    cluster.rolled_out("deployment/scaled")

    addresses = [pod["status"]["podIP"] for pod in cluster.pods("scaled")]
    assert cluster.leases() == sorted(f"{address}/24" for address in addresses)
    assert len(set(addresses)) == TEN
    plane.kubectl("scale", "deployment/scaled", "--replicas=0")
    cluster.nothing_is_left()
    cluster.delete("deployment/scaled")


def test_a_pod_of_a_stateful_set_comes_back_with_its_name_and_address(cluster: Cluster) -> None:
    plane = cluster.plane
    ordered = stateful_set("ordered", 2, serving("ordered", readinessProbe=HTTP_GET))
    ordered["spec"]["podManagementPolicy"] = "Parallel"
    plane.apply(service("ordered", "ordered", clusterIP="None"), ordered)
    cluster.rolled_out("statefulset/ordered")
    first, second = cluster.address("ordered-0"), cluster.address("ordered-1")

    cluster.delete("pod/ordered-0")
    cluster.rolled_out("statefulset/ordered")

    assert (cluster.address("ordered-0"), cluster.address("ordered-1")) == (first, second)
    assert cluster.leases() == sorted([f"{first}/24", f"{second}/24"])
    listed = plane.get("endpointslices", "-l", "kubernetes.io/service-name=ordered")["items"][0]["endpoints"]
    assert {each["addresses"][0] for each in listed} == {first, second}
    cluster.delete("statefulset/ordered", "service/ordered")
    cluster.nothing_is_left()


def test_the_agents_are_replaced_under_running_pods(cluster: Cluster) -> None:
    """While no agent runs, pods come and go by the one-shot plugin."""
    plane = cluster.plane
    system = ("-n", "kube-system")
    one, two = (node.place for node in cluster.nodes)
    plane.apply(*(serving(f"stays{place.number}", place, readinessProbe=HTTP_GET) for place in (one, two)))
    cluster.ready("stays1", "stays2")
    agents = {pod["metadata"]["name"] for pod in plane.get("pods", *system)["items"]}

    plane.kubectl(*system, "rollout", "restart", "daemonset/cni-vlan")
    plane.apply(*(serving(f"comes{place.number}", place, readinessProbe=HTTP_GET) for place in (one, two)))
    cluster.ready("comes1", "comes2")
    cluster.rolled_out("daemonset/cni-vlan", *system)

    now = {pod["metadata"]["name"] for pod in plane.get("pods", *system)["items"]}
    assert len(now) == len(agents) == 2
    assert not now & agents
    for name in ("stays1", "stays2"):
        assert plane.get("pod", name)["status"]["containerStatuses"][0]["restartCount"] == 0
    cluster.delete(*(f"pod/{name}" for name in ("stays1", "stays2", "comes1", "comes2")))
    cluster.nothing_is_left()


def test_a_node_loses_power_under_its_pods(cluster: Cluster) -> None:
    """Its pods run again with addresses that nobody else has, and those of the boot before are free."""
    plane, (one, two) = cluster.plane, cluster.nodes
    plane.apply(deployment("lasting", 4, serving("lasting", readinessProbe=HTTP_GET)))
    cluster.rolled_out("deployment/lasting")
    assert sum(is_on(two, pod) for pod in cluster.pods("lasting")) == 2
    boots = plane.get("node", two.place.name)["status"]["nodeInfo"]["bootID"]

    two.machine.end()
    two.machine.start()

    until(lambda: plane.get("node", two.place.name)["status"]["nodeInfo"]["bootID"] != boots)
    until(lambda: all(has_started_again(pod) for pod in cluster.pods("lasting") if is_on(two, pod)))
    cluster.rolled_out("deployment/lasting")
    pods = cluster.pods("lasting")
    addresses = {pod["status"]["podIP"] for pod in pods}
    assert len(addresses) == len(pods) == 4
    until(lambda: cluster.leases() == sorted(f"{address}/24" for address in addresses))
    for pod in pods:
        asked = f"http://{pod['status']['podIP']}:8080/"
        assert {node.run("curl", "-s", asked) for node in (one, two)} == {pod["metadata"]["name"]}
    cluster.delete("deployment/lasting")
    cluster.nothing_is_left()


def is_on(node: Node, pod: Json) -> bool:
    return str(pod["spec"]["nodeName"]) == node.place.name


def has_started_again(pod: Json) -> bool:
    (status,) = pod["status"]["containerStatuses"]
    return bool(status["restartCount"] and status["ready"])


def bridge(node: Node) -> Json:
    """Return a network of the reference plugin, with addresses of the node alone."""
    ipam = {"type": "host-local", "subnet": f"10.88.{node.place.number}.0/24"}
    plugin = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipam": ipam}
    return {"cniVersion": "1.0.0", "name": "bridge", "plugins": [plugin]}


def test_ten_pods_beside_the_reference_bridge(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    """How long they take from apply to ready is told, not judged. The runtime runs CHECK after each ADD."""
    took = {"cni-vlan": start_ten(cluster)}
    addresses = [pod["status"]["podIP"] for pod in cluster.pods("many")]
    assert len(set(addresses)) == TEN
    assert cluster.leases() == sorted(f"{address}/24" for address in addresses)
    cluster.delete("deployment/many")
    cluster.nothing_is_left()
    assert all(node.links() >= {"lo", "eth0"} for node in cluster.nodes)

    for node in cluster.nodes:
        node.configure("bridge.conflist", bridge(node))
    took["bridge"] = start_ten(cluster)
    assert all(pod["status"]["podIP"].startswith("10.88.") for pod in cluster.pods("many"))
    for node in cluster.nodes:
        node.configure("bridge.conflist", None)
    cluster.delete("deployment/many")
    with capsys.disabled():
        print("\nten pods, from apply to ready:", *(f"{name} {s:.1f} s" for name, s in took.items()))


def start_ten(cluster: Cluster) -> float:
    """Apply ten pods; return the seconds until they are ready."""
    begin = time.monotonic()
    cluster.plane.apply(deployment("many", TEN, serving("many", readinessProbe=HTTP_GET)))
    cluster.rolled_out("deployment/many")
    return time.monotonic() - begin


def test_the_api_server_takes_the_manifests(cluster: Cluster) -> None:
    plane = cluster.plane
    cluster.define_attachments()

    for place in ("", "overlays/primary", "overlays/secondary", "overlays/cluster"):
        where = str(MANIFESTS / place)
        said = plane.kubectl(
            "apply",
            "-k",
            where,
            "--dry-run=server",
            "--server-side",
            "--validate=strict",
            "--force-conflicts",
        )
        assert "daemonset.apps/cni-vlan serverside-applied (server dry run)" in said
