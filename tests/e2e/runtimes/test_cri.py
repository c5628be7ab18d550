"""Pods over the Container Runtime Interface, on an auto-created VLAN, from a node root without Python."""

import ipaddress
import signal
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.runtimes.bare import links, run
from tests.e2e.runtimes.cri import Pod, Runtime
from tests.e2e.runtimes.installed import IMAGE, Containerd, install, leases, verbs
from tests.lab.waiting import wait_until


@pytest.fixture
def runtime(agent: None, containerd: Containerd) -> Runtime:
    del agent, containerd
    made = Runtime()
    wait_until(made.network_is_ready)
    return made


def test_the_root_has_no_python(node: Path) -> None:
    del node
    found = run("find", "/", "-xdev", "-name", "python3*", "-type", "f", check=False).stdout.split()

    assert run("sh", "-c", "command -v python3 python", check=False).returncode != 0
    assert [path for path in found if "/bin/" in path] == []


def test_pods_on_a_vlan(node: Path, runtime: Runtime) -> None:
    one, two = Pod(runtime, "one"), Pod(runtime, "two")
    inside = two.start("main", IMAGE, "sleep", "3600")

    first, second = one.addresses, two.addresses
    assert [ipaddress.ip_address(address).version for address in first] == [4, 6]
    assert not set(first) & set(second)
    assert "eth0.50" in links()
    for address in (*first, "192.168.50.1", "2001:db8:50::1"):
        wait_until(partial(inside.reaches, address))
    assert {(lease["pod"], lease["address"]) for lease in leases()} == {
        ("default/one", f"{first[0]}/24"),
        ("default/one", f"{first[1]}/64"),
        ("default/two", f"{second[0]}/24"),
        ("default/two", f"{second[1]}/64"),
    }

    one.stop()
    two.stop()
    assert "eth0.50" not in links()
    assert leases() == []
    assert {verb for verb, code in verbs(node) if code == 0} == {"ADD", "DEL"}
    assert all(code == 0 for _verb, code in verbs(node))


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_containerd_ends_and_starts_again_under_a_pod(
    runtime: Runtime, containerd: Containerd, how: signal.Signals
) -> None:
    pod = Pod(runtime, f"lasting-{how.name.lower()}")
    before = pod.addresses

    containerd.end(how)
    containerd.start()
    pod.runtime = Runtime()
    wait_until(pod.runtime.network_is_ready)
    inside = pod.start("main", IMAGE, "sleep", "3600")

    assert pod.ready
    assert pod.addresses == before
    wait_until(lambda: inside.reaches("192.168.50.1"))
    pod.stop()
    assert "eth0.50" not in links()
    assert leases() == []


def test_a_pod_outlives_an_upgrade_and_an_uninstall(node: Path, runtime: Runtime) -> None:
    pod = Pod(runtime, "outliving")
    inside = pod.start("main", IMAGE, "sleep", "3600")
    wait_until(lambda: inside.reaches("192.168.50.1"))
    newer = node / "newer"
    run("cp", "-a", "/opt/cni-vlan/current/.", newer)
    (newer / "runtime" / "newer").write_text("another version\n")

    upgraded = run(newer / "cni-agent", "install").stdout
    other = Pod(runtime, "after-the-upgrade")
    other.stop()
    reached_after_upgrade = inside.reaches("192.168.50.1")
    run(newer / "cni-agent", "uninstall")
    reached_after_uninstall = inside.reaches("192.168.50.1")
    install(node)
    pod.stop()

    assert "installed /opt/cni-vlan/" in upgraded
    assert (reached_after_upgrade, reached_after_uninstall) == (True, True)
    assert "eth0.50" not in links()
    assert leases() == []
