"""containerd attaches containers to an auto-created VLAN, and leaves nothing behind."""

import subprocess
from pathlib import Path

import pytest

from tests.e2e.runtimes import bare
from tests.e2e.runtimes.bare import links, run
from tests.e2e.runtimes.installed import IMAGE
from tests.lab.waiting import wait_until


class Container:
    """A container that `ctr run` holds, and whose network it removes when the container ends."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self._process = bare.start("ctr", "run", "--cni", "--rm", IMAGE, name, log=log)
        wait_until(lambda: self.execute("true").returncode == 0)

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        return run("ctr", "task", "exec", "--exec-id", "x", self.name, *command, check=False)

    def reaches(self, address: str) -> bool:
        return self.execute("ping", "-c1", "-W2", address).returncode == 0

    def end(self) -> None:
        run("ctr", "task", "kill", "--signal", "KILL", self.name)
        self._process.wait(60)


@pytest.mark.usefixtures("agent", "containerd")
def test_containers_on_a_vlan(node: Path) -> None:
    one, two = (Container(name, node / "ctr.log") for name in ("one", "two"))

    addresses = two.execute("ip", "-o", "address", "show", "eth0").stdout
    assert links() >= {"eth0", "eth0.50"}
    assert "inet 192.168.50.129/24" in addresses
    assert "inet6 2001:db8:50::3/64" in addresses
    wait_until(lambda: two.reaches("192.168.50.128"))
    wait_until(lambda: two.reaches("192.168.50.1"))
    wait_until(lambda: two.reaches("2001:db8:50::2"))
    wait_until(lambda: two.reaches("2001:db8:50::1"))

    one.end()
    two.end()
    assert "eth0.50" not in links()
    assert run("/opt/cni/bin/cni-ipam", "leases", "--json").stdout.strip() == "[]"
