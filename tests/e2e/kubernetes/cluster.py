"""What the tests ask of a cluster, by kubectl alone."""

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.e2e.kubernetes import attachments
from tests.e2e.kubernetes.control_plane import SERVICES, ControlPlane, Json
from tests.e2e.kubernetes.programs import BUSYBOX
from tests.lab.waiting import wait_until

SUBNET = {"subnet": "192.168.50.0/24", "gateway": "192.168.50.1"}
PRIMARY: Json = {
    "cniVersion": "1.0.0",  # of the chained plugins, as Debian has them
    "name": "pods",
    "plugins": [
        {
            "type": "cni-vlan",
            "parent": "eth0.50",
            "hostAccess": True,
            "hostRoutes": [SERVICES],
            "ipam": {
                "type": "cni-ipam",
                "subnets": [
                    {"subnet": "192.168.50.0/24", "ipRange": "192.168.50.128/25", "gateway": "192.168.50.1"}
                ],
            },
        },
        {"type": "tuning", "mtu": 1400},
    ],
}
_READY_S = 420


class Cluster:
    """A control plane and its node."""

    def __init__(self, plane: ControlPlane, scratch: Path, machine: subprocess.Popen[bytes]) -> None:
        self.plane, self.scratch, self.machine = plane, scratch, machine
        wait_until(self._is_ready, _READY_S)
        self._open_shell()

    def _is_ready(self) -> bool:
        assert self.machine.poll() is None, (self.scratch / "node.log").read_text()[-4000:]
        nodes = self.plane.get("nodes")["items"]
        return any(
            c["type"] == "Ready" and c["status"] == "True" for n in nodes for c in n["status"]["conditions"]
        )

    def _open_shell(self) -> None:
        """Start a pod that is the node's own root, for what only the node can tell."""
        shell = pod("shell", ["sleep", "1000000"])
        shell["spec"] |= {"hostNetwork": True, "hostPID": True}
        shell["spec"]["containers"][0]["securityContext"] = {"privileged": True}
        wait_until(lambda: self.plane.kubectl("get", "serviceaccount", "default", check=False))
        self.plane.apply(shell)
        self.ready("shell")

    def on_node(self, *command: str, check: bool = True) -> str:
        """Run a command on the node, outside of every container."""
        return self.inside("shell", "busybox", "nsenter", "-t", "1", "-m", "-n", "-p", *command, check=check)

    def kill(self, *services: str) -> None:
        """Kill services of the node, which are then started again, and wait until they serve."""
        files = " ".join(f"/run/{service}.pid" for service in services)
        before = self.on_node("/bin/cat", *files.split())
        self.on_node("/bin/sh", "-c", f"kill -9 $(cat {files})", check=False)  # the way there goes with them
        wait_until(lambda: self.on_node("/bin/cat", *files.split(), check=False) not in {"", before})

    def proxy(self, mode: str) -> None:
        """Have kube-proxy begin anew in a mode."""
        path = "/etc/kube-proxy.json"
        change = f's/"mode": "[a-z]*"/"mode": "{mode}"/'
        self.on_node("/bin/sed", "-i", change, path)
        self.kill("kube-proxy")

    def configure(self, name: str, conf: Json | None) -> None:
        """Write a file for the runtime's networks, before all others by its name, or remove it."""
        path = f"/etc/cni/net.d/0-{name}"
        if conf is None:
            self.on_node("/bin/rm", path)
        else:
            self.on_node("/bin/sh", "-c", f"echo '{json.dumps(conf)}' > {path}.new; mv {path}.new {path}")

    def is_ready(self) -> bool:
        """Whether the node is."""
        (node,) = self.plane.get("nodes")["items"]
        return any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"])

    def define_attachments(self) -> None:
        """Let there be NetworkAttachmentDefinitions."""
        self.plane.apply(attachments.DEFINITION)
        self.plane.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=60s")

    def leases(self) -> list[str]:
        """The addresses that are leased on the node."""
        found = json.loads(self.on_node("/opt/cni/bin/cni-ipam", "leases", "--json"))
        return [str(lease["address"]) for lease in found]

    def links(self) -> set[str]:
        return set(self.on_node("/bin/ls", "/sys/class/net").split())

    def inside(self, name: str, *command: str, check: bool = True) -> str:
        """Run a command in a pod."""
        return self.plane.kubectl("exec", name, "--", *command, check=check)

    def ready(self, *names: str) -> None:
        for name in names:
            self.plane.kubectl("wait", f"pod/{name}", "--for=condition=Ready", f"--timeout={_READY_S}s")

    def address(self, name: str) -> str:
        return str(self.plane.get("pod", name)["status"]["podIP"])

    def delete(self, *names: str) -> None:
        self.plane.kubectl("delete", *names, "--wait=true", "--timeout=300s")


def pod(name: str, command: list[str], labels: Json | None = None, **container: Any) -> Json:  # noqa: ANN401 - JSON
    """Return a pod of one busybox."""
    running = {"name": "main", "image": BUSYBOX, "imagePullPolicy": "Never", "command": command, **container}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels or {"app": name}},
        "spec": {"containers": [running], "terminationGracePeriodSeconds": 1, "enableServiceLinks": False},
    }


def serving(name: str, **container: Any) -> Json:  # noqa: ANN401 - JSON
    """Return a pod that says its name to whoever asks on port 8080."""
    page = f"mkdir -p /tmp/www; echo {name} > /tmp/www/index.html; exec busybox httpd -f -p 8080 -h /tmp/www"
    return pod(name, ["sh", "-c", page], **container)


def service(name: str, app: str, **spec: Any) -> Json:  # noqa: ANN401 - JSON
    ports = [{"port": 80, "targetPort": 8080}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": app}, "ports": ports, **spec},
    }
