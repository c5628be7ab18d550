"""cni-vlan as a second network, by Multus: its column of the table in docs/kubernetes.md."""

import json
from collections.abc import Iterator
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


def definition(name: str, **keys: object) -> Json:
    """Return one of the manifests, with keys of ours in its plugin."""
    found: Json = yaml.safe_load((NETWORKS / f"{name}.yaml").read_text())
    conf = json.loads(found["spec"]["config"])
    conf["plugins"][0] |= keys
    found["spec"]["config"] = json.dumps(conf)
    return found


def wanting(place: Place, *networks: Json) -> Json:
    made = serving(f"two{place.number}", place, readinessProbe=EXEC)
    made["metadata"]["annotations"] = {"k8s.v1.cni.cncf.io/networks": json.dumps(networks)}
    return made


@pytest.fixture
def multus(cluster: Cluster) -> Iterator[None]:
    cluster.define_attachments()
    cluster.plane.apply(definition("30-ipvlan-l3", hostAccess=True), definition("50-static"))
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
        cluster.plane.apply(wanting(node.place, {"name": "routed"}, static))
    cluster.ready("two1", "two2")  # by a probe of the first network, and in the container

    for node in cluster.nodes:
        number = node.place.number
        name, other = f"two{number}", f"two{3 - number}"
        assert cluster.address(name).startswith("192.168.50.")
        status = cluster.plane.get("pod", name)["metadata"]["annotations"][
            "k8s.v1.cni.cncf.io/network-status"
        ]
        by_link = {each.get("interface"): each for each in json.loads(status)}
        assert by_link["net2"]["ips"] == [STATIC.format(number)]
        assert by_link["net2"]["mac"] == MAC.format(number)
        shown = cluster.inside(name, "ip", "address")
        assert f"{STATIC.format(number)}/24" in shown
        assert MAC.format(number) in shown
        (routed,) = by_link["net1"]["ips"]
        assert f"inet {routed}/" in shown
        assert routed.startswith("10.70.0.")
        node.run("ping", "-n", "-c1", "-W20", routed)
        for address in (STATIC.format(3 - number), cluster.address(other)):
            assert cluster.inside(name, "ask", address, "8080") == other
    cluster.delete("pod/two1", "pod/two2")
    cluster.nothing_is_left()
    assert not any({"eth0.70", "eth0.80"} & node.links() for node in cluster.nodes)
