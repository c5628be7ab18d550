"""cni-vlan as a second network, by Multus."""

import json
from pathlib import Path

import yaml

from tests.e2e.kubernetes.cluster import PRIMARY, Cluster, serving
from tests.lab.waiting import wait_until

NETWORKS = Path(__file__).parents[3] / "manifests" / "multus"
MULTUS = {
    "cniVersion": "1.0.0",
    "name": "multus",
    "type": "multus",
    "kubeconfig": "/etc/kubeconfig",
    "delegates": [PRIMARY],
}


def test_two_more_interfaces_with_an_address_and_a_mac_of_their_own(cluster: Cluster) -> None:
    plane = cluster.plane
    cluster.define_attachments()
    for name in ("30-ipvlan-l3", "50-static"):
        plane.apply(yaml.safe_load((NETWORKS / f"{name}.yaml").read_text()))
    names = [item["metadata"]["name"] for item in plane.get("network-attachment-definitions")["items"]]
    static = {"name": "static", "ips": ["192.168.80.20/24"], "mac": "02:00:00:00:80:20"}
    (routed,) = set(names) - {"static"}
    cluster.configure("multus.conf", MULTUS)
    wanted = serving("two")
    wanted["metadata"]["annotations"] = {
        "k8s.v1.cni.cncf.io/networks": json.dumps([{"name": routed}, static])
    }

    plane.apply(wanted)
    cluster.ready("two")

    assert cluster.address("two").startswith("192.168.50.")
    assert "net1" in cluster.inside("two", "ip", "-o", "link")
    shown = cluster.inside("two", "ip", "address", "show", "net2")
    assert "192.168.80.20/24" in shown
    assert "02:00:00:00:80:20" in shown
    cluster.delete("pod/two")
    cluster.configure("multus.conf", None)
    wait_until(lambda: cluster.leases() == [])
    assert "eth0.80" not in cluster.links()
