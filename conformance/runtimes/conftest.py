"""A node root without Python, with what `make build` made installed; an uplink and a router."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from conformance.runtimes import bare
from conformance.runtimes.bare import run
from conformance.runtimes.image import write_image

collect_ignore = [] if bare.podman_has_cni() else ["test_podman.py"]

DIST = Path(__file__).parents[2] / "dist"
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


def until(condition: Callable[[], object]) -> None:
    give_up = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def install(scratch: Path, network: dict[str, Any] = CONFLIST) -> None:
    """Unpack what `make build` packed, and have it put in place with a network."""
    conflist = scratch / f"10-{network['name']}.conflist"
    conflist.write_text(json.dumps(network))
    (archive,) = DIST.glob("cni-vlan-*-linux-*.tar.gz")
    subprocess.run(["tar", "-xzf", archive, "-C", scratch], check=True)
    bundle = scratch / archive.name.removesuffix(".tar.gz") / "bundle"
    run(bundle / "cni-agent", "install", "--conf", conflist)
    run("cp", "/usr/lib/cni/loopback", "/opt/cni/bin/")  # containerd's CRI wants it


def cable() -> None:
    """Put a router with VLAN 50 behind eth0."""
    run("ip", "netns", "add", "router")
    run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "trunk", "netns", "router")
    run("ip", "link", "set", "eth0", "up")
    for command in ROUTER:
        run("ip", "-n", "router", *command.split())


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the root, install, plug in; return where logs are."""
    scratch = tmp_path_factory.mktemp("node")
    bare.make(Path("/var/bare"))
    cable()
    install(scratch)
    return scratch


@pytest.fixture(scope="module")
def agent(node: Path) -> Iterator[None]:
    """The agent as a host runs it."""
    process = bare.start("/opt/cni-vlan/current/cni-agent", "serve", log=node / "agent.log")
    until(SOCKET.exists)
    yield
    process.terminate()
    process.wait()
    SOCKET.unlink(missing_ok=True)  # an agent that stops takes it away


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
        until(lambda: run("ctr", "version", check=False).returncode == 0)

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.wait(60)


@pytest.fixture(scope="session")
def containerd(node: Path, image: Path) -> Iterator[Containerd]:
    running = Containerd(node / "containerd.log", image)
    yield running
    running.end()


@pytest.fixture(scope="session")
def image(node: Path) -> Path:
    """An OCI archive of busybox."""
    path = node / "busybox.tar"
    write_image(path, IMAGE)
    return path


def verbs(node: Path) -> list[tuple[str, int]]:
    """The verbs that the agent has answered, with their codes."""
    lines = map(json.loads, (node / "agent.log").read_text().splitlines())
    return [(line["verb"], line["code"]) for line in lines]


def leases() -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(run("/opt/cni/bin/cni-ipam", "leases", "--json").stdout)
    return found
