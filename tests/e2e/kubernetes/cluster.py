"""What the tests ask of a cluster: by kubectl, and of its nodes by a shell."""

import json
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from tests.e2e.kubernetes import attachments
from tests.e2e.kubernetes.control_plane import ControlPlane, Json
from tests.e2e.kubernetes.machine import Machine
from tests.e2e.kubernetes.topology import NEAR_CLIENTS, SERVICES, Place

T = TypeVar("T")
R = TypeVar("R")
PRIMARY: Json = {
    "cniVersion": "1.0.0",  # of the chained plugins, as Debian has them
    "name": "pods",
    "plugins": [
        {
            "type": "cni-vlan",
            "parent": "eth0",
            "hostAccess": True,
            "hostRoutes": [SERVICES, NEAR_CLIENTS],
            "ipam": {
                "type": "cni-ipam",
                "subnets": [
                    {"subnet": "192.168.50.0/24", "ipRange": "192.168.50.128/25", "gateway": "192.168.50.1"}
                ],
                "cluster": {"store": "kubernetes"},
                "pinned": ["192.168.50.192-192.168.50.223"],
                "sticky": 3600,
            },
        },
        {"type": "tuning", "mtu": 1400},
    ],
}
_READY_S = 180
_UNTIL_S = 180
_LOOK_EVERY_S = 0.3  # a look costs the processors that what is awaited needs
CRICTL = "/opt/kubernetes/bin/crictl --runtime-endpoint unix:///run/crio.sock --timeout 120s"
_LEASED = "find /var/lib/cni/cni-ipam -path '*/leases/*' -type f"


class Node(NamedTuple):
    """A node: where it is, and what it runs on."""

    place: Place
    machine: Machine

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command on the node, outside of every container; return what it says."""
        done = self.machine.run(*command)
        assert not (check and done.returncode), f"{command}: {done.stderr}{done.stdout}"
        return done.stdout.strip()

    def sh(self, script: str, *, check: bool = True) -> str:
        return self.run("sh", "-c", script, check=check)

    def kill(self, *services: str, signal: str = "KILL") -> None:
        """End services of the node, which are then started again, and wait until they are."""
        files = " ".join(f"/run/{service}.pid" for service in services)
        before = self.sh(f"cat {files}")
        self.sh(f"kill -{signal} $(cat {files})")
        until(lambda: len(set(self.sh(f"cat {files}").split()) - set(before.split())) == len(services))

    def proxy(self, mode: str) -> None:
        """Have kube-proxy begin anew in a mode."""
        change = f's/"mode": "[a-z]*"/"mode": "{mode}"/'
        self.run("sed", "-i", change, "/etc/kube-proxy.json")
        self.kill("kube-proxy")

    def configure(self, name: str, conf: Json | None) -> None:
        """Write a file for the runtime's networks, before all others by its name, or remove it."""
        path = f"/etc/cni/net.d/0-{name}"
        if conf is None:
            self.run("rm", path)
        else:
            self.sh(f"echo '{json.dumps(conf)}' > {path}.new; mv {path}.new {path}")

    def leases(self) -> list[str]:
        """The addresses that are leased on the node."""
        found = json.loads(self.run("/opt/cni/bin/cni-ipam", "leases", "--json"))
        return [str(lease["address"]) for lease in found]

    def forgotten(self) -> list[str]:
        """The containers with a lease that the runtime does not know, nor will ever call a DEL for."""
        known = self.sh(f"{CRICTL} pods -q --no-trunc").split()
        found = json.loads(self.run("/opt/cni/bin/cni-ipam", "leases", "--json"))
        return sorted({str(lease["containerId"]) for lease in found} - set(known))

    def has_leases(self) -> bool:
        """As `leases`, at a fraction of the cost."""
        return self.sh(f"{_LEASED} -print -quit") != ""

    def links(self) -> set[str]:
        return set(self.run("ls", "/sys/class/net").split())


class Cluster:
    """A control plane and its nodes."""

    def __init__(self, plane: ControlPlane, nodes: tuple[Node, ...]) -> None:
        self.plane, self.nodes = plane, nodes
        until(lambda: all(self.is_ready(node) for node in nodes), _READY_S)
        self.rolled_out("daemonset/cni-vlan", "--namespace=kube-system")

    def is_ready(self, node: Node) -> bool:
        """Whether a node is."""
        node.machine.assert_runs()
        query = '{.status.conditions[?(@.type=="Ready")].status}'
        return (
            self.plane.kubectl("get", "node", node.place.name, "-o", f"jsonpath={query}", check=False)
            == "True"
        )

    def define_attachments(self) -> None:
        """Let there be NetworkAttachmentDefinitions."""
        self.plane.apply(attachments.DEFINITION)
        self.plane.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=60s")

    def leases(self) -> list[str]:
        """The addresses that are leased on all nodes."""
        return sorted(address for found in together(Node.leases, self.nodes) for address in found)

    def nothing_is_left(self, *nodes: Node) -> None:
        """Wait until nodes, by default all, have no lease any more; then none has a link of ours."""
        chosen = nodes or self.nodes
        until(lambda: not any(node.has_leases() for node in chosen))
        for node in chosen:
            until(lambda node=node: "host-eth0" not in node.links())  # type: ignore[misc]

    def inside(self, name: str, *command: str, check: bool = True) -> str:
        """Run a command in a pod."""
        return self.plane.kubectl("exec", name, "--", *command, check=check)

    def ready(self, *names: str) -> None:
        pods = [f"pod/{name}" for name in names]
        self.plane.kubectl("wait", *pods, "--for=condition=Ready", f"--timeout={_READY_S}s")

    def rolled_out(self, name: str, *options: str) -> None:
        self.plane.kubectl("rollout", "status", name, f"--timeout={_READY_S}s", *options)

    def pods(self, app: str) -> list[Json]:
        found: list[Json] = self.plane.get("pods", "-l", f"app={app}")["items"]
        return found

    def address(self, name: str) -> str:
        return str(self.plane.get("pod", name)["status"]["podIP"])

    def delete(self, *names: str, wait: bool = True) -> None:
        self.plane.kubectl("delete", *names, f"--wait={str(wait).lower()}", "--timeout=300s")


def until(condition: Callable[[], object], within_s: float = _UNTIL_S) -> None:
    """Return once a condition holds that is costly to look at; fail if it does not in time."""
    give_up = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < give_up, "the condition did not come to hold in time"
        time.sleep(_LOOK_EVERY_S)


def together(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Do something to each item, to all at once."""
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(work, items))
