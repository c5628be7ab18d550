"""cni-vlan as the only network of two nodes: probes, Services, ports, names; the pods start together."""

import json
from collections.abc import Iterator
from ipaddress import ip_address, ip_network

import pytest

from tests.e2e.kubernetes.cluster import Cluster, Node, together, until
from tests.e2e.kubernetes.control_plane import Json
from tests.e2e.kubernetes.objects import HTTP_GET, deployment, pod, service, serving
from tests.e2e.kubernetes.topology import FAR, NEAR, on_client

CONNECT = {"tcpSocket": {"port": 8080}, "periodSeconds": 2, "timeoutSeconds": 5}
CALL = {"grpc": {"port": 9090}, "periodSeconds": 2, "timeoutSeconds": 5}
RUN = {"exec": {"command": ["ask", "127.0.0.1", "8080"]}, "periodSeconds": 5, "timeoutSeconds": 30}
HOST_PORT = 8081
DNS = {"clusterIP": "10.96.0.10", "ports": [{"port": 53, "protocol": "UDP"}]}
LOCAL = {"type": "NodePort", "externalTrafficPolicy": "Local"}
DENIED: Json = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "nothing"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
}


@pytest.fixture(scope="module", autouse=True)
def workload(cluster: Cluster) -> Iterator[None]:
    """Four pods behind one Service, two on each node; and one pod for each other kind of probe."""
    one, two = (node.place for node in cluster.nodes)
    web = serving("web", readinessProbe=HTTP_GET, livenessProbe={**HTTP_GET, "failureThreshold": 5})
    web["spec"]["containers"][0]["volumeMounts"] = [{"name": "programs", "mountPath": "/programs"}]
    web["spec"]["volumes"] = [{"name": "programs", "hostPath": {"path": "/opt/kubernetes/bin"}}]
    ports = [{"containerPort": 8080, "hostPort": HOST_PORT}]
    cluster.plane.apply(
        service("web", "web"),
        service("out", "web", type="NodePort"),
        service("local", "tcp", **LOCAL),
        service("names", "names", **DNS),
        deployment("web", 4, web),
        serving("tcp", one, readinessProbe=CONNECT, ports=ports),
        serving("exec", two, readinessProbe=RUN),
        pod("grpc", ["health", "9090"], two, readinessProbe=CALL, livenessProbe=CALL),
        pod("names", ["names"], one),
    )
    cluster.rolled_out("deployment/web")
    cluster.ready("tcp", "exec", "grpc", "names")
    yield
    pods = "deployment/web pod/tcp pod/exec pod/grpc pod/names"
    services = "service/web service/out service/local service/names"
    cluster.delete(*pods.split(), *services.split(), "--ignore-not-found")  # a test deletes one
    cluster.nothing_is_left()


def name(pod: Json) -> str:
    return str(pod["metadata"]["name"])


def address(pod: Json) -> str:
    return str(pod["status"]["podIP"])


def of_node(node: Node, pods: list[Json]) -> list[Json]:
    return [pod for pod in pods if pod["spec"]["nodeName"] == node.place.name]


def port_of(cluster: Cluster, service: str) -> int:
    port: int = cluster.plane.get("service", service)["spec"]["ports"][0]["nodePort"]
    return port


def asked(cluster: Cluster, pod: str, *targets: str, times: int = 1) -> list[str]:
    """Return the names that answer a pod."""
    each = "; ".join(f"ask {target}" for target in targets)
    script = f"i=0; while [ $i -lt {times} ]; do {each}; i=$((i + 1)); done"
    return cluster.inside(pod, "sh", "-c", script, check=False).split()


def hears(cluster: Cluster, pod: str, names: set[str], host: str, port: int) -> None:
    """Wait until all of these, and nobody else, have answered a pod."""
    heard: set[str] = set()

    def all_of_them() -> bool:
        heard.update(asked(cluster, pod, f"{host} {port}", times=12))
        return heard >= names

    until(all_of_them)
    assert heard == names


def test_probes_of_every_kind(cluster: Cluster) -> None:
    """The pods are ready; no probe of theirs has had a container started anew."""
    pods = [*cluster.pods("web"), *(cluster.plane.get("pod", each) for each in ("tcp", "exec", "grpc"))]

    assert [each["status"]["containerStatuses"][0]["restartCount"] for each in pods] == [0] * 7
    for node in cluster.nodes:
        for each in of_node(node, cluster.pods("web")):
            assert node.run("curl", "-s", f"http://{address(each)}:8080/") == name(each)


def test_each_pod_reaches_every_pod_and_their_service(cluster: Cluster) -> None:
    pods = cluster.pods("web")
    names = {name(each) for each in pods}
    assert [len(of_node(node, pods)) for node in cluster.nodes] == [2, 2]
    cluster_ip = cluster.plane.get("service", "web")["spec"]["clusterIP"]

    def look(each: Json) -> None:
        assert asked(cluster, name(each), *(f"{address(other)} 8080" for other in pods)) == [
            name(other) for other in pods
        ]
        hears(cluster, name(each), names, cluster_ip, 80)

    together(look, pods)


def test_the_nodes_lease_from_blocks_of_one_pool(cluster: Cluster) -> None:
    listed = [item["spec"] for item in cluster.plane.get("vlanblocks")["items"]]
    blocks = [block for block in listed if block["pool"] == "pods"]
    assert {block["node"] for block in blocks} == {node.place.name for node in cluster.nodes}

    for node in cluster.nodes:
        held = [ip_network(f"{b['start']}/28") for b in blocks if b["node"] == node.place.name]
        for each in of_node(node, cluster.pods("web")):
            assert any(ip_address(address(each)) in block for block in held)
    addresses = cluster.leases()
    assert len(addresses) == len(set(addresses)) == 8


def test_a_node_port_of_either_node(cluster: Cluster) -> None:
    """From a pod, and from a client that is neither a node nor a pod."""
    pods, port = cluster.pods("web"), port_of(cluster, "out")
    names = {name(each) for each in pods}
    _one, two = cluster.nodes

    for node in cluster.nodes:
        hears(cluster, name(pods[0]), names, node.place.address, port)
        assert from_client(FAR, node.place.address, port) in names
    assert two.run("curl", "-s", f"http://{two.place.address}:{port}/") in names


def from_client(source: str, host: str, port: int) -> str:
    """Return what the client behind the router gets, "" if it gets nothing."""
    return on_client(f"curl -s --max-time 20 --interface {source} http://{host}:{port}/")


@pytest.mark.parametrize("kind", ["local", "hostPort"])
def test_ports_that_keep_the_client_s_address(cluster: Cluster, kind: str) -> None:
    """They serve clients that `hostRoutes` names; the answer to others goes untranslated to the gateway."""
    one, pod = cluster.nodes[0], cluster.address("tcp")
    port = port_of(cluster, "local") if kind == "local" else HOST_PORT

    assert from_client(NEAR, one.place.address, port) == "tcp"
    ask = f"curl -s --max-time 60 --interface {FAR} http://{one.place.address}:{port}/"
    watch = f"timeout 60 tcpdump -l -n -i eth0 -c 1 src host {pod}"
    seen = on_client(f"{ask} & {watch}; kill $!; wait")
    assert f"{pod}.8080 > {FAR}." in seen


def test_names_are_looked_up_through_the_node(cluster: Cluster) -> None:
    """A stand-in for the cluster's DNS, at the address that pods are told: UDP to a ClusterIP."""

    def look(client: str) -> None:
        until(lambda: cluster.inside(client, "ask", "web.lab", check=False) == "192.0.2.80")

    together(look, one_of_each_node(cluster))


def one_of_each_node(cluster: Cluster) -> list[str]:
    pods = cluster.pods("web")
    return [name(of_node(node, pods)[0]) for node in cluster.nodes]


def test_a_pod_speaks_to_the_api_with_its_token(cluster: Cluster) -> None:
    """By kubernetes.default's ClusterIP, whose certificate the pod's own authority vouches for."""

    def ask(speaker: str) -> str:
        said = cluster.inside(speaker, "/programs/kubectl", "auth", "whoami", "-o", "json")
        return str(json.loads(said)["status"]["userInfo"]["username"])

    names = together(ask, one_of_each_node(cluster))

    assert names == ["system:serviceaccount:default:default"] * 2


def test_no_network_policy_holds_between_pods(cluster: Cluster) -> None:
    """What passes between pods does not pass their nodes, whose filters would keep it; a Service's does."""
    pods = cluster.pods("web")
    cluster_ip = cluster.plane.get("service", "web")["spec"]["clusterIP"]
    chain = "add table inet keeper; add chain inet keeper passing { type filter hook forward priority 0; }"
    refuse = "add rule inet keeper passing ip daddr {} meta l4proto tcp counter reject with tcp reset"
    rules = "; ".join([chain, *(refuse.format(address(each)) for each in pods)])
    cluster.plane.apply(DENIED)
    for node in cluster.nodes:
        node.run("nft", rules)

    answers = asked(cluster, name(pods[0]), *(f"{address(other)} 8080" for other in pods))
    counted = [node.run("nft", "list", "table", "inet", "keeper") for node in cluster.nodes]
    by_the_node = asked(cluster, name(pods[0]), f"{cluster_ip} 80", times=3)

    for node in cluster.nodes:
        node.run("nft", "delete table inet keeper")
    cluster.delete("networkpolicy/nothing")
    assert answers == [name(other) for other in pods]
    assert [shown.count("counter packets 0 ") for shown in counted] == [4, 4]
    assert by_the_node == []


def test_services_by_iptables(cluster: Cluster) -> None:
    """Of services that are made after kube-proxy has begun anew: its rules of nftables are still there."""
    together(lambda node: node.proxy("iptables"), cluster.nodes)
    cluster.plane.apply(service("later", "web"), service("port", "web", type="NodePort"))
    pods = cluster.pods("web")
    names = {name(each) for each in pods}
    cluster_ip = cluster.plane.get("service", "later")["spec"]["clusterIP"]
    port = port_of(cluster, "port")

    def look(node: Node) -> None:
        client = name(of_node(node, pods)[0])
        hears(cluster, client, names, cluster_ip, 80)
        hears(cluster, client, names, node.place.address, port)
        assert cluster_ip in node.run("iptables-save", "-t", "nat")

    together(look, cluster.nodes)
    cluster.delete("service/later", "service/port")


def test_a_pod_deleted_by_force_leaves_nothing(cluster: Cluster) -> None:
    _one, two = cluster.nodes
    gone = cluster.address("grpc")
    assert any(lease.startswith(f"{gone}/") for lease in two.leases())

    cluster.plane.kubectl("delete", "pod", "grpc", "--force", "--grace-period=0")

    until(lambda: not any(lease.startswith(f"{gone}/") for lease in two.leases()))
