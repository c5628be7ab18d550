"""What a runtime's tests need on a node: the installed bundle, an uplink with a router, containerd."""

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.e2e.runtimes import bare
from tests.e2e.runtimes.bare import run
from tests.lab.waiting import wait_until

DIST = Path(__file__).parents[3] / "dist"
SOCKET = Path("/run/cni-vlan/agent.sock")
IMAGE = "lab.local/busybox:1"
PLUGIN = {
    "type": "cni-vlan",
    "parent": "eth0.50",
    "ipam": {
        "type": "cni-ipam",
        "subnets": [
            {"subnet": "192.168.50.0/24", "ipRange": "192.168.50.128/25", "gateway": "192.168.50.1"},
            {"subnet": "2001:db8:50::/64"},
        ],
    },
}
CONFLIST: dict[str, Any] = {"cniVersion": "1.0.0", "name": "vlan50", "plugins": [PLUGIN]}
CONTAINERD = f"""\
version = 2
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{IMAGE}"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/opt/cni/bin"
conf_dir = "/etc/cni/net.d"
"""
ROUTER = (
    "link set trunk up",
    "link add trunk.50 link trunk type vlan id 50",
    "address add 192.168.50.1/24 dev trunk.50",
    "address add 2001:db8:50::1/64 dev trunk.50 nodad",
    "link set trunk.50 up",
)


def install(scratch: Path, network: dict[str, Any] = CONFLIST) -> None:
    """Unpack what `make build` packed, and have it put in place with a network."""
    conflist = scratch / f"10-{network['name']}.conflist"
    conflist.write_text(json.dumps(network))
    (archive,) = DIST.glob("cni-vlan-*-linux-*.tar.gz")
    subprocess.run(["tar", "-xzf", archive, "-C", scratch], check=True)
    bundle = scratch / archive.name.removesuffix(".tar.gz") / "bundle"
    run(bundle / "cni-agent", "install", "--conf", conflist)
    run("cp", "/usr/lib/cni/loopback", "/opt/cni/bin/")  # containerd's CRI wants it


def cable(run: Callable[..., object] = run) -> None:
    """Put a router with VLAN 50 behind eth0; `run` executes a command."""
    run("ip", "netns", "add", "router")
    run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "trunk", "netns", "router")
    run("ip", "link", "set", "eth0", "up")
    for command in ROUTER:
        run("ip", "-n", "router", *command.split())


class Containerd:
    """containerd, which can be killed and started again under its pods."""

    def __init__(self, log: Path, image: Path) -> None:
        self._log = log
        (bare.ROOT / "etc/containerd").mkdir(exist_ok=True)
        (bare.ROOT / "etc/containerd/config.toml").write_text(CONTAINERD)
        self.start()
        for namespace in ("default", "k8s.io"):
            run("ctr", "--namespace", namespace, "images", "import", image)

    def start(self) -> None:
        self.process = bare.start("containerd", log=self._log)
        wait_until(lambda: run("ctr", "version", check=False).returncode == 0)

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.wait(60)


def verbs(node: Path) -> list[tuple[str, int]]:
    """The verbs that the agent has answered, with their codes."""
    lines = map(json.loads, (node / "agent.log").read_text().splitlines())
    return [(line["verb"], line["code"]) for line in lines]


def leases() -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(run("/opt/cni/bin/cni-ipam", "leases", "--json").stdout)
    return found
