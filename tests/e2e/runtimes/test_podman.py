"""podman, with its CNI backend: a network, two networks, a static address, a static MAC."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.runtimes.bare import ROOT, links, run
from tests.e2e.runtimes.installed import CONFLIST, IMAGE

CONF = ROOT / "etc/containers/containers.conf"
SECOND = {
    **CONFLIST,
    "name": "vlan60",
    "plugins": [
        {
            "type": "cni-vlan",
            "parent": "eth0.60",
            "capabilities": {"ips": True, "mac": True},
            "ipam": {"type": "cni-ipam", "subnets": [{"subnet": "192.168.60.0/24"}]},
        }
    ],
}


@pytest.fixture(scope="module")
def podman(node: Path, image: Path) -> Iterator[None]:
    CONF.write_text('[network]\nnetwork_backend = "cni"\n[engine]\ncgroup_manager = "cgroupfs"\n')
    (node / "20-vlan60.conflist").write_text(json.dumps(SECOND))
    run("/opt/cni-vlan/current/cni-agent", "install", "--conf", node / "20-vlan60.conflist")
    run("podman", "load", "--input", image)
    yield
    run("podman", "rm", "--all", "--force", "--time", "0")


def container(name: str, *options: str) -> None:
    run("podman", "run", "--detach", "--cap-add", "NET_RAW", "--name", name, *options, IMAGE, "sleep", "3600")


def inside(name: str, *command: str) -> str:
    return run("podman", "exec", name, *command).stdout


@pytest.mark.usefixtures("agent", "podman")
def test_a_container_on_a_vlan() -> None:
    container("a", "--network", "vlan50")

    shown = inside("a", "ip", "-o", "address", "show", "eth0")
    inside("a", "ping", "-c1", "-W5", "192.168.50.1")
    run("podman", "rm", "--force", "--time", "0", "a")

    assert "inet 192.168.50.1" in shown
    assert "inet6 2001:db8:50::" in shown
    assert "eth0.50" not in links()


@pytest.mark.usefixtures("agent", "podman")
def test_two_networks_with_a_static_address_and_mac() -> None:
    container(
        "b",
        "--network",
        "vlan50",
        "--network",
        "vlan60:ip=192.168.60.77,mac=02:00:00:00:60:77,interface_name=eth1",
    )

    second = inside("b", "ip", "-o", "address", "show", "eth1")
    hardware = inside("b", "ip", "link", "show", "eth1")
    routes = inside("b", "ip", "route")
    run("podman", "rm", "--force", "--time", "0", "b")

    assert "inet 192.168.60.77/24" in second
    assert "link/ether 02:00:00:00:60:77" in hardware
    assert routes.count("default") == 1
    assert not links() & {"eth0.50", "eth0.60"}
