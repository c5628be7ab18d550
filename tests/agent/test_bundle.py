"""What `make build` makes, on a host that has no Python."""

import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.conftest import RunningAgent
from tests.lab import world
from tests.lab.world import Host, network

DIST = Path(__file__).parents[2] / "dist"
# With a route metric, so that pyroute2's part is used; with an unknown key, so that pydantic's is.
CONF = network("lan", "eth0", "10.0.0.0/24", "2001:db8::/64", announce=0, parnt="x")
CONF["ipam"]["routes"] = [{"dst": "0.0.0.0/0", "mtu": 1400}]


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A host whose Pythons are hidden: that of the machine, and the one that the bundle was built with."""
    monkeypatch.setenv("CNI_VLAN_BUNDLE", str(DIST / "bundle"))
    with world.host(DIST / "bundle") as made:
        monkeypatch.setenv("CNI_VLAN_SOCKET", str(made.scratch / "agent" / "agent.sock"))
        pythons = {sys.base_prefix, sys.prefix, "/usr/lib/python3", "/usr/lib/python3.11"} - {"/usr"}
        for directory in (*pythons, sysconfig.get_path("purelib")):
            made.run("sh", "-c", f"test ! -d {directory} || mount -t tmpfs hidden {directory}")
        made.run("sh", "-c", "for p in /usr/bin/python3*; do mount --bind /dev/null $p; done")
        yield made


def test_there_is_no_python(bare: Host) -> None:
    assert bare.run("python3", "-c", "print(1)", check=False).returncode != 0
    assert bare.run(sys.executable, "-c", "print(1)", check=False).returncode != 0


def test_the_one_shot_plugins_work(bare: Host) -> None:
    bare.uplink()
    (pod,) = bare.pods("p1")

    added = pod.add(CONF)
    addresses = pod.addresses()
    checked = pod.check(CONF, added.document)
    listed = bare.run(str(DIST / "bundle" / "cni-ipam"), "leases").stdout
    pod.detach(CONF)

    assert (added.status, checked.status) == (0, 0)
    assert "parnt" in added.stderr
    assert addresses == ["10.0.0.2/24", "2001:db8::2/64"]
    assert "10.0.0.2/24" in listed
    assert bare.state() == []


def test_the_agent_works_and_without_it_the_launcher_runs_the_plugin(bare: Host, launchers: Path) -> None:
    bare.uplink()
    (pod,) = bare.pods("p1")
    bare.cni_bin = launchers

    agent = RunningAgent(bare, DIST / "bundle" / "cni-agent")
    pod.attach(CONF)
    agent.stop()
    pod.detach(CONF)

    assert [line for line in agent.log.read_text().splitlines() if '"code": 0' in line]
    assert bare.state() == []
    assert not pod.has_link("eth0")


@pytest.mark.parametrize("warm", [True, False], ids=["agent", "one-shot"])
def test_a_link_called_host_local_takes_its_place(bare: Host, launchers: Path, *, warm: bool) -> None:
    bare.uplink()
    (pod,) = bare.pods("p1")
    (bare.scratch / "bin" / "host-local").symlink_to(launchers / "cni-ipam")
    ipam = {"type": "host-local", "subnet": "10.0.0.0/24"}
    conf = {"cniVersion": "1.0.0", "name": "lan", "type": "macvlan", "master": "eth0", "ipam": ipam}
    agent = RunningAgent(bare, DIST / "bundle" / "cni-agent") if warm else None

    pod.attach(conf)
    leased = bare.state()
    pod.detach(conf)
    if agent:
        agent.stop()

    assert [name for name in leased if name.startswith("cni-ipam/lan/")]
    assert bare.state() == []
    assert agent is None or '"plugin": "cni-ipam", "verb": "ADD"' in agent.log.read_text()
