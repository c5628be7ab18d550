"""The units under a real systemd: the agent comes with the first call, and again after a stop."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.runtimes.bare import ROOT, links, run
from tests.e2e.runtimes.installed import DIST, PLUGIN, SOCKET, install, leases
from tests.lab.waiting import wait_until

OURS = ("opt/cni/bin/cni-vlan", "opt/cni/bin/cni-ipam", "opt/cni-vlan")
# /tmp of its own, since it empties it.
FIRST = """\
mount -t proc proc /proc && mount -t tmpfs tmp /tmp && exec /lib/systemd/systemd --unit=sysinit.target
"""


class Systemd:
    """systemd as the first process of namespaces of its own, for processes and mounts, in the root."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--mount", "chroot", ROOT, "sh", "-c", FIRST],
            env={"container": "lab", "PATH": os.environ["PATH"]},
            stdin=subprocess.DEVNULL,
        )
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        wait_until(lambda: children.read_text().strip())
        self._first = children.read_text().strip()

    def run(self, *command: str) -> str:
        """Run a command beside it, and return what it says."""
        enter = ["nsenter", "--target", self._first, "--pid", "--mount", "chroot", str(ROOT)]
        done = subprocess.run([*enter, *command], capture_output=True, text=True, check=False)
        return (done.stdout + done.stderr).strip()

    def state(self, unit: str) -> str:
        return self.run("systemctl", "is-active", unit)

    def end(self) -> None:
        os.kill(int(self._first), 9)
        self._process.wait(60)
        shutil.rmtree("/run/systemd")


@pytest.fixture
def systemd(node: Path) -> Iterator[Systemd]:
    started = Systemd()
    wait_until(lambda: started.state("sysinit.target") == "active")
    yield started
    started.end()
    SOCKET.unlink(missing_ok=True)
    install(node)


def call(verb: str, node: Path) -> subprocess.CompletedProcess[str]:
    conf = node / "systemd.conf"
    conf.write_text(json.dumps({**PLUGIN, "name": "vlan50", "cniVersion": "1.0.0"}))
    variables = {
        "CNI_COMMAND": verb, "CNI_CONTAINERID": "c1", "CNI_NETNS": "/run/netns/c1", "CNI_IFNAME": "eth0",
        "CNI_PATH": "/opt/cni/bin", "CNI_VLAN_BUNDLE": "/nowhere",  # no falling back in silence
    }  # fmt: skip
    words = [f"{name}={value}" for name, value in variables.items()]
    return run("env", *words, "sh", "-c", f"/opt/cni/bin/cni-vlan < {conf}")


def test_the_package_starts_the_socket_and_the_first_call_the_agent(systemd: Systemd, node: Path) -> None:
    (package,) = DIST.glob("*.deb")
    shutil.copy(package, ROOT / "root/cni-vlan.deb")
    run("ip", "netns", "add", "c1")

    said = systemd.run("dpkg", "--install", "/root/cni-vlan.deb")
    installed = systemd.state("cni-agent.socket"), systemd.state("cni-agent.service")
    result = json.loads(call("ADD", node).stdout)
    called = systemd.state("cni-agent.service")
    shown = run("ip", "-n", "c1", "-o", "address", "show", "eth0").stdout
    systemd.run("systemctl", "stop", "cni-agent.service")
    call("DEL", node)
    again = systemd.state("cni-agent.service")
    there = leases()
    said += systemd.run("dpkg", "--remove", "cni-vlan")
    removed = systemd.state("cni-agent.socket"), systemd.state("cni-agent.service")
    left = [path for path in OURS if (ROOT / path).exists()]
    run("ip", "netns", "delete", "c1")

    assert installed == ("active", "inactive"), said
    assert (called, again) == ("active", "active"), systemd.run("systemctl", "status", "cni-agent")
    assert removed == ("inactive", "inactive"), said
    assert all(ip["address"] in shown for ip in result["ips"])
    assert "eth0.50" not in links()
    assert there == []
    assert left == []
