"""A node with what `make build` made, installed as on a cluster, an agent, and an uplink with a router."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.runtimes.image import write_image

BUNDLE = Path(__file__).parents[2] / "dist" / "bundle"
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
CONFLIST = {"cniVersion": "1.0.0", "name": "vlan50", "plugins": [PLUGIN]}


def run(*command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    if check and done.returncode:
        raise AssertionError(f"{command}: {done.stderr}{done.stdout}")
    return done


def until(condition: Callable[[], object]) -> None:
    give_up = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.05)


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install, put a router with VLAN 50 behind eth0; return where logs are."""
    scratch = tmp_path_factory.mktemp("node")
    conflist = scratch / "10-vlan50.conflist"
    conflist.write_text(json.dumps(CONFLIST))
    run(BUNDLE / "cni-agent", "install", "--conf", conflist)
    run("ip", "netns", "add", "router")
    run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "trunk", "netns", "router")
    run("ip", "link", "set", "eth0", "up")
    for command in (
        "link set trunk up",
        "link add trunk.50 link trunk type vlan id 50",
        "address add 192.168.50.1/24 dev trunk.50",
        "address add 2001:db8:50::1/64 dev trunk.50 nodad",
        "link set trunk.50 up",
    ):
        run("ip", "-n", "router", *command.split())
    return scratch


@pytest.fixture(scope="module")
def agent(node: Path) -> Iterator[None]:
    """The agent as a host runs it."""
    with (node / "agent.log").open("w") as log:
        process = subprocess.Popen(["/opt/cni-vlan/current/cni-agent", "serve"], stderr=log)
    until(SOCKET.exists)
    yield
    process.terminate()
    process.wait()
    SOCKET.unlink()


@pytest.fixture(scope="session")
def containerd(node: Path, image: Path) -> Iterator[None]:
    with (node / "containerd.log").open("a") as log:
        process = subprocess.Popen(["containerd"], stdout=log, stderr=log)
    until(lambda: run("ctr", "version", check=False).returncode == 0)
    run("ctr", "images", "import", str(image))
    yield
    process.terminate()
    process.wait(60)


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


def links() -> set[str]:
    return set(os.listdir("/sys/class/net"))
