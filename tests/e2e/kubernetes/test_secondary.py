"""cni-vlan as a second network, by Multus: its column of the table in docs/kubernetes.md."""

import json
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest
import yaml

from tests.e2e.kubernetes.cluster import PRIMARY, Cluster
from tests.e2e.kubernetes.control_plane import Json
from tests.e2e.kubernetes.objects import serving
from tests.e2e.kubernetes.topology import Place

NETWORKS = Path(__file__).parents[3] / "manifests" / "multus"
MULTUS = {
    "cniVersion": "1.0.0",
    "name": "multus",
    "type": "multus",
    "kubeconfig": "/etc/kubeconfig",
    "delegates": [PRIMARY],
}
STATIC = "192.168.80.2{}"
MAC = "02:00:00:00:80:2{}"
EXEC = {"exec": {"command": ["ask", "127.0.0.1", "8080"]}, "periodSeconds": 5, "timeoutSeconds": 30}


def definition(name: str, **ipam: object) -> Json:
    """Return one of the manifests, on the trunk itself, with keys of ours in its `ipam`."""
    found: Json = yaml.safe_load((NETWORKS / f"{name}.yaml").read_text())
    conf = json.loads(found["spec"]["config"])
    (plugin,) = conf["plugins"]
    plugin["parent"] = "eth0"
    plugin["ipam"] |= ipam
    found["spec"]["config"] = json.dumps(conf)
    return found


def wanting(place: Place, *networks: Json) -> Json:
    made = serving(f"two{place.number}", place, readinessProbe=EXEC)
    made["metadata"]["annotations"] = {"k8s.v1.cni.cncf.io/networks": json.dumps(networks)}
    return made


@pytest.fixture
def multus(cluster: Cluster) -> Iterator[None]:
    cluster.define_attachments()
    cluster.plane.apply(definition("20-dual-stack", cluster={"store": "kubernetes"}), definition("50-static"))
    for node in cluster.nodes:
        node.configure("multus.conf", MULTUS)
    yield
    for node in cluster.nodes:
        node.configure("multus.conf", None)


def test_two_more_interfaces_with_an_address_and_a_mac_of_their_own(cluster: Cluster, multus: None) -> None:
    del multus
    for node in cluster.nodes:
        number = node.place.number
        static = {"name": "static", "ips": [f"{STATIC.format(number)}/24"], "mac": MAC.format(number)}
        cluster.plane.apply(wanting(node.place, {"name": "vlan60"}, static))
    cluster.ready("two1", "two2")  # by a probe of the first network, and in the container

    for node in cluster.nodes:
        number = node.place.number
        name, other = f"two{number}", f"two{3 - number}"
        first, second = interfaces(cluster, name)
        assert cluster.address(name).startswith("192.168.50.")
        assert second["ips"] == [STATIC.format(number)]
        assert second["mac"] == MAC.format(number)
        shown = cluster.inside(name, "ip", "address")
        assert f"{STATIC.format(number)}/24" in shown
        assert MAC.format(number) in shown
        assert [ip_address(address).version for address in first["ips"]] == [4, 6]
        assert all(f" {address}/" in shown for address in first["ips"])
        theirs = interfaces(cluster, other)[0]["ips"]
        for address in (*theirs, STATIC.format(3 - number), cluster.address(other)):
            assert cluster.inside(name, "ask", address, "8080") == other
    cluster.delete("pod/two1", "pod/two2")
    cluster.nothing_is_left()


def interfaces(cluster: Cluster, pod: str) -> tuple[Json, Json]:
    """Return what Multus says of the two interfaces that it added."""
    annotations = cluster.plane.get("pod", pod)["metadata"]["annotations"]
    found = json.loads(annotations["k8s.v1.cni.cncf.io/network-status"])
    by_link = {each.get("interface"): each for each in found}
    return by_link["net1"], by_link["net2"]
