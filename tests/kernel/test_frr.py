"""FRR on a node, with the configurations of manifests/bgp, and what `cni-vlan routes` learns of a daemon."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kernel.conftest import needs
from tests.kernel.test_export import BIRD, FABRIC, SUBNET, SUBNET6, bird, plug_in, routed
from tests.lab.waiting import wait_until
from tests.lab.world import Host, Pod

PROGRAMS = Path("/usr/lib/frr")
MANIFESTS = BIRD.parent
# BIRD would keep for two minutes what an FRR that has ended told it.
FORGETFUL = re.sub(r"( as 64500;)", r"\1 graceful restart off;", FABRIC)

pytestmark = pytest.mark.kernel


class Frr:
    """The daemons of a host, as Debian's watchfrr starts them, in directories that no other host sees."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.running: dict[str, subprocess.Popen[str]] = {}
        version = re.search(r"version (\d+)\.(\d+)", host.run(str(PROGRAMS / "zebra"), "--version").stdout)
        assert version
        self.has_table_direct = (int(version[1]), int(version[2])) >= (10, 1)
        self.conf = (MANIFESTS / ("frr.conf" if self.has_table_direct else "frr-8.conf")).read_text()
        options = "mode=755,uid=$(id -u frr),gid=$(id -g frr)"
        for directory in ("/run/frr", "/etc/frr"):
            host.run("sh", "-c", f"mkdir -p {directory} && mount -t tmpfs -o {options} frr {directory}")
        host.run("sh", "-c", "cat > /etc/frr/frr.conf; touch /etc/frr/vtysh.conf", stdin=self.conf)

    @property
    def families(self) -> set[str]:
        """Of the subnets of a network, those that the router is to learn."""
        return {SUBNET, SUBNET6} if self.has_table_direct else {SUBNET}

    def start(self) -> None:
        wrap = re.search(r"^! (zebra_wrap=.*)$", self.conf, re.MULTILINE)
        for name in ("mgmtd", "zebra", "bgpd"):
            program = PROGRAMS / name
            if program.exists():  # FRR 8 has no mgmtd
                script = f'{wrap[1] if wrap else ""}\neval "exec ${name}_wrap {program}"'
                socket = Path(f"/proc/{self.host.holder}/root/run/frr/{name}.vty")
                socket.unlink(missing_ok=True)
                quiet = subprocess.DEVNULL
                self.running[name] = self.host.popen("sh", "-c", script, stdout=quiet, stderr=quiet)
                wait_until(socket.exists)
        self.host.run("vtysh", "-b")

    def end(self) -> None:
        """Kill zebra. The others end too, since watchfrr starts all of them again."""
        for name, process in self.running.items():
            process.kill() if name == "zebra" else process.terminate()
        for process in self.running.values():
            process.communicate()
        self.running.clear()


@contextmanager
def frr(host: Host) -> Iterator[Frr]:
    made = Frr(host)
    try:
        made.start()
        yield made
    finally:
        made.end()


def known(router: Pod) -> set[str]:
    """The prefixes that BIRD has put into the router's kernel."""
    return {
        route["dst"]
        for family in ("-4", "-6")
        for route in router.ip(family, "route", "show", "proto", "bird")
    }


def daemons(host: Host) -> dict[str, list[str]]:
    """The daemons of each prefix, by `cni-vlan routes`."""
    shown = json.loads(host.run(host.find("cni-vlan"), "routes", "--json").stdout)
    return {route["prefix"]: route["daemons"] for route in shown}


@contextmanager
def told(host: Host) -> Iterator[tuple[Pod, Pod, Frr]]:
    """Attach a pod, whose prefixes FRR tells a router; yield the router, the pod and FRR."""
    router = plug_in(host)
    (pod,) = host.pods("p1")
    with bird(host, "router", FORGETFUL, "ip", "netns", "exec", router.name), frr(host) as routing:
        pod.attach(routed())
        wait_until(lambda: known(router) == routing.families)
        yield router, pod, routing


@needs("/usr/lib/frr/zebra")
@needs("bird")
def test_frr_tells_the_router(host: Host) -> None:
    """The first ADD's prefix is in the router's kernel, again when FRR is, and gone after the last DEL."""
    with told(host) as (router, pod, routing):
        for address in pod.addresses():
            if ":" not in address or SUBNET6 in routing.families:
                assert router.reaches(address.partition("/")[0])
        taken = {SUBNET: ["frr"], SUBNET6: ["frr"] if SUBNET6 in routing.families else []}
        assert daemons(host) == taken

        routing.end()
        wait_until(lambda: known(router) == set())
        assert daemons(host) == {SUBNET: [], SUBNET6: []}
        routing.start()
        wait_until(lambda: known(router) == routing.families)
        assert daemons(host) == taken

        pod.detach(routed())
        wait_until(lambda: known(router) == set())
        assert host.ip("route", "show", "proto", "zebra") == []


@needs("/usr/lib/frr/zebra")
@needs("bird")
def test_a_prefix_that_went_while_zebra_was_dead_is_told_when_it_comes_again(host: Host) -> None:
    with told(host) as (router, pod, routing):
        routing.end()
        pod.detach(routed())
        wait_until(lambda: known(router) == set())

        routing.start()
        assert host.ip("route", "show", "proto", "zebra") == []
        pod.attach(routed())
        wait_until(lambda: known(router) == routing.families)


@needs("bird")
def test_routes_names_bird(host: Host) -> None:
    """BIRD is asked where Debian's package has it listen."""
    plug_in(host)
    (pod,) = host.pods("p1")
    host.run("sh", "-c", "mkdir -p /run/bird && mount -t tmpfs bird /run/bird")
    with bird(host, "node", BIRD.read_text()):
        host.run("ln", "-s", str(host.scratch / "node.ctl"), "/run/bird/bird.ctl")
        pod.attach(routed())
        wait_until(lambda: daemons(host) == {SUBNET: ["bird"], SUBNET6: ["bird"]})
