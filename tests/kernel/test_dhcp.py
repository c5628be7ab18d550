"""Addresses from a DHCP server on the VLAN, by the reference plugin `dhcp` and its daemon."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.lab.waiting import wait_until
from tests.lab.world import Host, Json, network

if TYPE_CHECKING:
    import subprocess

pytestmark = pytest.mark.kernel

SERVER = "10.50.0.1"
LONG_S = 3600
SHORT_S = 6
LONGER_S = 30  # of which a renewal that fails leaves something
# The daemon, which puts up a link that it finds down, has lost its first request by then and waits for 3 s.
TIMEOUT_S = 6
GIVEN_BACK_S = 20


class Wire:
    """VLAN 50 behind the uplink, for a DHCP server, and the plugin's daemon on the host."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.router = host.uplink()
        self.router.ip("link", "add", "link", "trunk", "name", "trunk.50", "type", "vlan", "id", "50")
        self.router.ip("address", "add", f"{SERVER}/24", "dev", "trunk.50")
        self.router.ip("link", "set", "trunk.50", "up")
        self._running: dict[str, subprocess.Popen[str]] = {}

    def conf(self, mode: str = "bridge", **keys: object) -> Json:
        ipam = {"type": "dhcp", "daemonSocketPath": str(self._socket)}
        return network("lan", "eth0.50", cniVersion="1.0.0", mode=mode, ipam=ipam, **keys)

    @property
    def _socket(self) -> Path:
        return self.host.scratch / "dhcp.sock"

    def start_daemon(self) -> None:
        self._socket.unlink(missing_ok=True)
        self._start("daemon", "/usr/lib/cni/dhcp", "daemon", "-socketpath", str(self._socket))
        wait_until(self._socket.exists)

    def start_server(self, lease_s: int = LONG_S, router: str = SERVER) -> None:
        settings = {
            "start": "10.50.0.100",
            "end": "10.50.0.109",
            "max_leases": "10",
            "interface": "trunk.50",
            "lease_file": str(self._records),
            "notify_file": self._copier(),
            "pidfile": f"{self.host.scratch}/udhcpd.pid",
            "min_lease": "1",
            "offer_time": "1",
            "option subnet": "255.255.255.0",
            "option router": router,
            "option lease": str(lease_s),
        }
        file = self.host.scratch / "udhcpd.conf"
        file.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
        enter = ("ip", "netns", "exec", self.router.name)
        self._start("server", *enter, "busybox", "udhcpd", "-f", "-a", "100", str(file))
        wait_until(lambda: self.router.run("ss", "-Hlun", "sport", "=", ":67").stdout)

    def leases(self) -> dict[str, int]:
        """The addresses that the server has given out now, and when they expire, by its own record."""
        self._copy.unlink(missing_ok=True)
        self._running["server"].send_signal(signal.SIGUSR1)
        wait_until(self._copy.exists)
        shown = self.host.run("busybox", "dumpleases", "-a", "-d", "-f", str(self._copy)).stdout
        found = [line.split() for line in shown.splitlines()[1:]]
        return {words[1]: int(words[-1]) for words in found if words[-1] != "expired"}

    def _copier(self) -> str:
        """The program that the server runs after it wrote its record, which it does in place."""
        path = self.host.scratch / "copy"
        path.write_text(f"#!/bin/sh\ncp $1 {self._copy}.new && mv {self._copy}.new {self._copy}\n")
        path.chmod(0o755)
        return str(path)

    @property
    def _records(self) -> Path:
        return self.host.scratch / "leases"

    @property
    def _copy(self) -> Path:
        return self.host.scratch / "leases.whole"

    def _start(self, name: str, *command: str) -> None:
        with (self.host.scratch / f"{name}.log").open("a") as log:
            self._running[name] = self.host.popen(*command, stdout=log, stderr=log)

    def log_of_the_daemon(self) -> str:
        return (self.host.scratch / "daemon.log").read_text()

    def end(self, *names: str) -> None:
        for name in names or list(self._running):
            process = self._running.pop(name)
            process.kill()
            process.wait()


@pytest.fixture
def wire(host: Host) -> Iterator[Wire]:
    made = Wire(host)
    yield made
    made.end()


def assert_bare(host: Host, *pods: str) -> None:
    """Nothing of an attachment is left: no link, no parent, no record."""
    assert set(host.links()) == {"lo", "eth0"}
    for pod in pods:
        assert [link["ifname"] for link in host.ip("-n", pod, "link")] == ["lo"]
    assert host.state() == []


@pytest.mark.parametrize("mode", ["bridge", "l2"])
def test_a_pod_has_an_address_of_the_server_until_it_is_deleted(wire: Wire, mode: str) -> None:
    (pod,) = wire.host.pods("p1")
    wire.start_server()
    wire.start_daemon()
    conf = wire.conf(mode)

    result = pod.attach(conf)

    assert pod.addresses() == [result["ips"][0]["address"]]
    assert pod.addresses() == [f"{address}/24" for address in wire.leases()]
    assert (pod.default_route() or {})["gateway"] == SERVER
    assert pod.reaches(SERVER)
    assert pod.check(conf, result).status == 0
    pod.detach(conf)
    wait_until(lambda: wire.leases() == {}, within_s=GIVEN_BACK_S)
    assert_bare(wire.host, "p1")


@pytest.mark.parametrize("mode", ["bridge", "l2"])
def test_a_lease_is_renewed_as_long_as_the_pod_is_there(wire: Wire, mode: str) -> None:
    (pod,) = wire.host.pods("p1")
    wire.start_server(SHORT_S)
    wire.start_daemon()

    pod.attach(wire.conf(mode))
    first_ends = time.time() + SHORT_S

    # Only a renewal after the end of the first lease lasts that long.
    wait_until(lambda: max(wire.leases().values(), default=0) > first_ends + SHORT_S, within_s=60)
    assert pod.addresses() == [f"{address}/24" for address in wire.leases()]
    assert pod.reaches(SERVER)


def test_a_server_that_is_away_when_a_lease_is_to_be_renewed(wire: Wire) -> None:
    """The daemon asks until the lease ends; the pod keeps its address."""
    (pod,) = wire.host.pods("p1")
    wire.start_server(LONGER_S)
    wire.start_daemon()
    pod.attach(wire.conf())
    ends = time.time() + LONGER_S
    addresses = pod.addresses()

    wire.end("server")
    wait_until(lambda: "no DHCP packet received" in wire.log_of_the_daemon())
    wire.start_server(LONGER_S)

    wait_until(lambda: max(wire.leases().values(), default=0) > ends)
    assert pod.addresses() == addresses == [f"{address}/24" for address in wire.leases()]
    assert pod.reaches(SERVER)


def test_an_add_that_fails_with_the_address_gives_it_back(wire: Wire) -> None:
    (pod,) = wire.host.pods("p1")
    wire.start_server(router="224.0.0.1")  # which no route can lead through
    wire.start_daemon()

    reply = pod.add(wire.conf())

    assert (reply.status, "224.0.0.1" in reply.msg) == (1, True)
    assert "sending ACK" in (wire.host.scratch / "server.log").read_text()
    wait_until(lambda: wire.leases() == {}, within_s=GIVEN_BACK_S)
    assert_bare(wire.host, "p1")


def test_an_add_with_the_server_away_leaves_nothing_and_the_next_one_works(wire: Wire) -> None:
    (pod,) = wire.host.pods("p1")
    wire.start_daemon()
    conf = wire.conf()

    reply = pod.add({**conf, "ipamTimeout": TIMEOUT_S})

    assert (reply.status, reply.code) == (1, 130)
    assert f"run IPAM plugin dhcp ADD: no answer in {TIMEOUT_S} s, killed" in reply.msg
    assert_bare(wire.host, "p1")
    wire.start_server()
    assert wire.leases() == {}
    pod.attach(conf)
    assert pod.reaches(SERVER)


def test_an_add_without_the_daemon_says_so_and_leaves_nothing(wire: Wire) -> None:
    (pod,) = wire.host.pods("p1")
    wire.start_server()

    reply = pod.add(wire.conf())

    assert (reply.status, "error dialing DHCP daemon" in reply.msg) == (1, True)
    assert_bare(wire.host, "p1")
    wire.start_daemon()
    pod.attach(wire.conf())
    assert pod.reaches(SERVER)


def test_a_delete_without_the_daemon_removes_the_link_and_the_parent(wire: Wire) -> None:
    (pod,) = wire.host.pods("p1")
    wire.start_server()
    wire.start_daemon()
    conf = wire.conf()
    pod.attach(conf)
    wire.end("daemon")

    reply = pod.delete(conf)

    assert (reply.status, "error dialing DHCP daemon" in reply.msg) == (1, True)
    assert_bare(wire.host, "p1")
    wire.start_daemon()
    pod.detach(conf)
