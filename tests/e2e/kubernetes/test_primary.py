"""cni-vlan as the only network of a cluster: each cell of the table in docs/kubernetes.md."""

import json
from pathlib import Path

from tests.e2e.kubernetes.cluster import Cluster, pod, service, serving
from tests.e2e.kubernetes.control_plane import Json
from tests.lab.waiting import wait_until

MANIFESTS = Path(__file__).parents[3] / "manifests" / "kubernetes"
PROBE = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 2, "timeoutSeconds": 5}
CONNECT = {"tcpSocket": {"port": 8080}, "periodSeconds": 2, "timeoutSeconds": 5}
CALL = {"grpc": {"port": 9090}, "periodSeconds": 2, "timeoutSeconds": 5}


NODE = "10.0.2.15"


def test_probes_services_and_ports(cluster: Cluster) -> None:
    plane = cluster.plane
    web = serving("web", readinessProbe=PROBE, livenessProbe={**PROBE, "failureThreshold": 5})
    tcp = serving("tcp", readinessProbe=CONNECT, ports=[{"containerPort": 8080, "hostPort": 8081}])
    grpc = pod("grpc", ["health", "9090"], readinessProbe=CALL, livenessProbe=CALL)
    client = pod("client", ["sleep", "1000000"])
    plane.apply(web, tcp, grpc, client, service("web", "web"), service("out", "web", type="NodePort"))
    cluster.ready("web", "tcp", "grpc", "client")

    address = cluster.address("web")
    assert address.startswith("192.168.50.")
    assert cluster.inside("client", "ask", address, "8080") == "web"
    assert cluster.on_node("/usr/bin/curl", "-s", f"http://{address}:8080/") == "web"
    cluster_ip = plane.get("service", "web")["spec"]["clusterIP"]
    answers(cluster, cluster_ip, 80, "web")
    node_port = plane.get("service", "out")["spec"]["ports"][0]["nodePort"]
    answers(cluster, NODE, node_port, "web")
    # CRI-O maps ports itself, without masquerade, and tells portmap nothing (tests/kernel has that).
    wait_until(lambda: cluster.on_node("/usr/bin/curl", "-s", f"http://{NODE}:8081/", check=False) == "tcp")
    assert plane.get("pod", "web")["status"]["containerStatuses"][0]["restartCount"] == 0
    cluster.delete("pod/web", "pod/tcp", "pod/grpc", "pod/client", "service/web", "service/out")


def test_services_by_nftables(cluster: Cluster) -> None:
    """Of a service that is made after kube-proxy has begun anew: the rules of before are still there."""
    plane = cluster.plane
    cluster.proxy("nftables")
    client = pod("client", ["sleep", "1000000"])
    plane.apply(
        serving("later"), client, service("later", "later"), service("port", "later", type="NodePort")
    )
    cluster.ready("later", "client")

    answers(cluster, plane.get("service", "later")["spec"]["clusterIP"], 80, "later")
    answers(cluster, NODE, plane.get("service", "port")["spec"]["ports"][0]["nodePort"], "later")
    assert "kube-proxy" in cluster.on_node("/usr/sbin/nft", "list", "tables", "ip")
    cluster.proxy("iptables")
    cluster.delete("pod/later", "pod/client", "service/later", "service/port")


def answers(cluster: Cluster, host: str, port: int, text: str) -> None:
    wait_until(lambda: cluster.inside("client", "ask", host, str(port), check=False) == text)


def test_a_pod_speaks_to_the_api_with_its_token(cluster: Cluster) -> None:
    """By kubernetes.default's ClusterIP, whose certificate the pod's own authority vouches for."""
    plane = cluster.plane
    speaker = pod(
        "speaker", ["sleep", "1000000"], volumeMounts=[{"name": "programs", "mountPath": "/programs"}]
    )
    speaker["spec"]["volumes"] = [{"name": "programs", "hostPath": {"path": "/opt/kubernetes/bin"}}]
    plane.apply(speaker)
    cluster.ready("speaker")

    said = cluster.inside("speaker", "/programs/kubectl", "auth", "whoami", "-o", "json")

    assert json.loads(said)["status"]["userInfo"]["username"] == "system:serviceaccount:default:default"
    cluster.delete("pod/speaker")


def test_a_deployment_grows_and_goes(cluster: Cluster) -> None:
    """CRI-O runs CHECK after each ADD, behind tuning with an MTU of its own."""
    plane = cluster.plane
    before = cluster.leases()
    template = serving("many", readinessProbe=PROBE)
    plane.apply(deployment("many", 3, template))
    rolled_out(cluster, "many")

    plane.kubectl("scale", "deployment/many", "--replicas=10")
    rolled_out(cluster, "many")
    addresses = [item["status"]["podIP"] for item in plane.get("pods", "-l", "app=many")["items"]]
    assert len(set(addresses)) == 10
    assert len(cluster.leases()) == len(before) + 10
    plane.kubectl("scale", "deployment/many", "--replicas=0")
    wait_until(lambda: sorted(cluster.leases()) == sorted(before))

    assert cluster.links() >= {"management", "eth0"}
    assert not {"eth0.50", "host-eth0.50"} & cluster.links()
    cluster.delete("deployment/many")


def rolled_out(cluster: Cluster, name: str) -> None:
    cluster.plane.kubectl("rollout", "status", f"deployment/{name}", "--timeout=400s")


def deployment(name: str, replicas: int, template: Json) -> Json:
    labels = {"app": name}
    inner = {"metadata": {"labels": labels}, "spec": template["spec"]}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": inner}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def test_a_pod_of_a_stateful_set_comes_back_under_its_name(cluster: Cluster) -> None:
    plane = cluster.plane
    before = cluster.leases()
    ordered = deployment("ordered", 2, serving("ordered", readinessProbe=PROBE))
    ordered |= {"kind": "StatefulSet", "spec": {**ordered["spec"], "serviceName": "ordered"}}
    plane.apply(service("ordered", "ordered", clusterIP="None"), ordered)
    plane.kubectl("rollout", "status", "statefulset/ordered", "--timeout=400s")
    first, second = cluster.address("ordered-0"), cluster.address("ordered-1")

    cluster.delete("pod/ordered-0")
    plane.kubectl("rollout", "status", "statefulset/ordered", "--timeout=400s")

    assert cluster.address("ordered-1") == second != first
    assert len(cluster.leases()) == len(before) + 2
    listed = plane.get("endpointslices", "-l", "kubernetes.io/service-name=ordered")["items"][0]["endpoints"]
    assert {each["addresses"][0] for each in listed} == {cluster.address("ordered-0"), second}
    cluster.delete("statefulset/ordered", "service/ordered")
    wait_until(lambda: sorted(cluster.leases()) == sorted(before))


def test_the_agent_is_replaced_under_running_pods(cluster: Cluster) -> None:
    """While no agent runs, pods come and go by the one-shot plugin."""
    plane = cluster.plane
    before = cluster.leases()
    plane.apply(serving("stays", readinessProbe=PROBE))
    cluster.ready("stays")
    agent = plane.get("pods", "-n", "kube-system")["items"][0]["metadata"]["name"]

    plane.kubectl("-n", "kube-system", "rollout", "restart", "daemonset/cni-vlan")
    plane.apply(serving("comes", readinessProbe=PROBE))
    cluster.ready("comes")
    plane.kubectl("-n", "kube-system", "rollout", "status", "daemonset/cni-vlan", "--timeout=400s")

    (now,) = plane.get("pods", "-n", "kube-system")["items"]
    assert now["metadata"]["name"] != agent
    assert plane.get("pod", "stays")["status"]["containerStatuses"][0]["restartCount"] == 0
    cluster.delete("pod/stays", "pod/comes")
    wait_until(lambda: sorted(cluster.leases()) == sorted(before))


def test_kubelet_and_the_runtime_are_killed_in_the_middle(cluster: Cluster) -> None:
    plane = cluster.plane
    before = cluster.leases()
    plane.apply(deployment("storm", 6, serving("storm")))
    wait_until(lambda: len(cluster.leases()) > len(before))

    cluster.kill("crio", "kubelet")
    rolled_out(cluster, "storm")
    addresses = [item["status"]["podIP"] for item in plane.get("pods", "-l", "app=storm")["items"]]
    assert len(set(addresses)) == 6
    cluster.delete("deployment/storm")
    wait_until(lambda: sorted(cluster.leases()) == sorted(before))


def test_a_pod_deleted_by_force_leaves_nothing(cluster: Cluster) -> None:
    before = cluster.leases()
    cluster.plane.apply(serving("forced"))
    cluster.ready("forced")
    assert len(cluster.leases()) == len(before) + 1

    cluster.plane.kubectl("delete", "pod", "forced", "--force", "--grace-period=0")

    wait_until(lambda: sorted(cluster.leases()) == sorted(before))


def test_the_api_server_takes_the_manifests(cluster: Cluster) -> None:
    plane = cluster.plane
    cluster.define_attachments()

    for place in ("", "overlays/primary", "overlays/secondary"):
        where = str(MANIFESTS / place)
        said = plane.kubectl("apply", "-k", where, "--dry-run=server", "--server-side", "--validate=strict")
        assert "daemonset.apps/cni-vlan serverside-applied (server dry run)" in said


def test_names_are_looked_up_through_the_node(cluster: Cluster) -> None:
    """A stand-in for the cluster's DNS, at the address that pods are told: UDP to a ClusterIP."""
    plane = cluster.plane
    names = service("names", "names", clusterIP="10.96.0.10", ports=[{"port": 53, "protocol": "UDP"}])
    client = pod("client", ["sleep", "1000000"])
    plane.apply(pod("names", ["names"]), names, client)
    cluster.ready("names", "client")

    wait_until(lambda: cluster.inside("client", "ask", "web.lab", check=False) == "192.0.2.80")
    cluster.delete("pod/names", "pod/client", "service/names")


def test_a_full_pool_lets_its_pod_wait_and_the_node_work(cluster: Cluster) -> None:
    """With CNI 1.1 the runtime asks for STATUS, and an error would make the node not ready."""
    plane = cluster.plane
    subnet = {"subnet": "192.168.60.0/29", "ipRange": "192.168.60.2/31", "gateway": "192.168.60.1"}
    ipam = {"type": "cni-ipam", "subnets": [subnet]}
    small = {"type": "cni-vlan", "parent": "eth0.60", "hostAccess": True, "ipam": ipam}
    cluster.configure("small.conflist", {"cniVersion": "1.1.0", "name": "small", "plugins": [small]})
    plane.apply(deployment("full", 2, serving("full")))
    rolled_out(cluster, "full")
    plane.apply(serving("late"))
    wait_until(lambda: "no IP addresses available" in plane.kubectl("describe", "pod", "late"))

    assert cluster.is_ready()
    plane.kubectl("scale", "deployment/full", "--replicas=1")
    cluster.ready("late")
    assert cluster.is_ready()
    cluster.configure("small.conflist", None)
    cluster.delete("pod/late", "deployment/full")
    wait_until(lambda: cluster.leases() == [])
