"""What test_cnitool runs on a node: each verb of cnitool, from /dev/vdd, with the kernel's state after it."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.world import Host, Json, Pod, network

VLAN = network("lan", "eth0.50", "10.50.0.0/24")
MAC = "02:00:00:00:50:07"


@pytest.fixture(scope="session")
def cnitool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The program; no host of a test sees what is mounted later."""
    mounted = tmp_path_factory.mktemp("programs")
    subprocess.run(["mount", "-o", "ro", "/dev/vdd", mounted], check=True)
    yield mounted / "cnitool"
    subprocess.run(["umount", mounted], check=True)


class Tool:
    """cnitool with the networks of one directory."""

    def __init__(self, program: Path, host: Host) -> None:
        self.program, self.host = program, host
        self.directory = host.scratch / "net.d"
        self.directory.mkdir()

    def define(self, *plugins: Json, name: str = "lan", version: str = "1.0.0") -> None:
        inner = [{k: v for k, v in p.items() if k not in ("name", "cniVersion")} for p in plugins]
        conf = {"cniVersion": version, "name": name, "plugins": inner}
        (self.directory / f"{name}.conflist").write_text(json.dumps(conf))

    def __call__(
        self, verb: str, pod: Pod, name: str = "lan", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        given = {"NETCONFPATH": str(self.directory), "CNI_PATH": self.host.cni_path, **environment}
        return self.host.run(str(self.program), verb, name, pod.netns, environment=given, check=False)

    def succeeds(self, verb: str, pod: Pod, name: str = "lan", **environment: str) -> str:
        done = self(verb, pod, name, **environment)
        assert done.returncode == 0, f"{verb}: {done.stdout}{done.stderr}"
        return done.stdout

    def fails(self, verb: str, pod: Pod) -> str:
        done = self(verb, pod)
        assert done.returncode == 1, f"{verb}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr


@pytest.fixture
def tool(cnitool: Path, host: Host) -> Tool:
    host.uplink()
    return Tool(cnitool, host)


def assert_nothing_left(host: Host, pod: Pod) -> None:
    assert [link["ifname"] for link in pod.ip("link")] == ["lo"]
    assert set(host.links()) == {"lo", "eth0"}
    assert host.state() == []


def test_add_check_and_delete(tool: Tool) -> None:
    (pod,) = tool.host.pods("p1")
    tool.define(VLAN, version="1.1.0")

    added = json.loads(tool.succeeds("add", pod))

    assert pod.addresses() == [added["ips"][0]["address"]] == ["10.50.0.2/24"]
    assert tool.host.links()["eth0.50"]["linkinfo"]["info_data"]["id"] == 50
    assert tool.succeeds("check", pod) == ""
    pod.ip("address", "delete", "10.50.0.2/24", "dev", "eth0")
    assert "10.50.0.2" in tool.fails("check", pod)
    assert tool.succeeds("del", pod) == ""
    assert_nothing_left(tool.host, pod)
    tool.succeeds("del", pod)


def test_add_of_a_name_that_is_taken_fails_and_leaves_the_first(tool: Tool) -> None:
    (pod,) = tool.host.pods("p1")
    tool.define(VLAN)
    tool.succeeds("add", pod)
    before = pod.link()

    assert "eth0" in tool.fails("add", pod)

    assert pod.link()["ifindex"] == before["ifindex"]
    assert pod.addresses() == ["10.50.0.2/24"]


def test_status_tells_whether_an_add_would_work(tool: Tool) -> None:
    (pod,) = tool.host.pods("p1")
    tool.define(VLAN, version="1.1.0")

    assert tool.succeeds("status", pod) == ""

    tool.host.ip("link", "set", "eth0", "down")
    assert "eth0 is down" in tool.fails("status", pod)
    assert_nothing_left(tool.host, pod)


def test_gc_removes_all_of_its_network_and_nothing_of_another(tool: Tool) -> None:
    lost, kept = tool.host.pods("lost", "kept")
    tool.define(VLAN, version="1.1.0")
    tool.define(network("other", "eth0.60", "10.60.0.0/24"), name="other", version="1.1.0")
    tool.succeeds("add", kept, "other")
    before = tool.host.state()
    tool.succeeds("add", lost)

    tool.succeeds("gc", lost)

    assert not lost.has_link("eth0")
    assert set(tool.host.links()) == {"lo", "eth0", "eth0.60"}
    assert tool.host.state() == before
    tool.succeeds("check", kept, "other")
    tool.succeeds("del", kept, "other")
    assert_nothing_left(tool.host, kept)


def test_cap_args_give_the_mac_and_the_address(tool: Tool) -> None:
    (pod,) = tool.host.pods("p1")
    tool.define({**VLAN, "capabilities": {"mac": True, "ips": True}})
    wanted = {"CAP_ARGS": json.dumps({"mac": MAC, "ips": ["10.50.0.77/24"]})}

    tool.succeeds("add", pod, **wanted)

    assert pod.link()["address"] == MAC
    assert pod.addresses() == ["10.50.0.77/24"]
    tool.succeeds("check", pod, **wanted)
    tool.succeeds("del", pod, **wanted)
    assert_nothing_left(tool.host, pod)


def test_tuning_and_sbr_in_a_chain(tool: Tool) -> None:
    (pod,) = tool.host.pods("p1")
    sysctl = {"net.ipv4.conf.eth0.arp_filter": "1"}  # tuning 1.1.1 knows IFNAME in ADD but not in CHECK
    tool.define(VLAN, {"type": "tuning", "mtu": 1400, "sysctl": sysctl}, {"type": "sbr"})

    tool.succeeds("add", pod)

    assert pod.link()["mtu"] == 1400
    assert pod.sysctl("ipv4/conf/eth0/arp_filter") == "1"
    assert {"10.50.0.2"} == {rule["src"] for rule in pod.ip("rule") if rule["src"] != "all"}
    moved = [route["dst"] for route in pod.ip("route", "show", "table", "100")]
    assert "default" in moved
    tool.succeeds("check", pod)
    tool.succeeds("del", pod)
    assert_nothing_left(tool.host, pod)


def test_portmap_in_a_chain(tool: Tool) -> None:
    (pod,) = tool.host.pods("p1")
    both = network("lan", "eth0.50", "10.50.0.0/24", "2001:db8:50::/64")
    tool.define(both, {"type": "portmap", "capabilities": {"portMappings": True}})
    mapping = {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}
    wanted = {"CAP_ARGS": json.dumps({"portMappings": [mapping]})}

    def forwarded() -> list[str]:
        rules = [
            rule
            for program in ("iptables", "ip6tables")
            for rule in tool.host.run(program, "-t", "nat", "-S").stdout.splitlines()
        ]
        return [rule.split("--to-destination ")[1] for rule in rules if "--to-destination" in rule]

    tool.succeeds("add", pod, **wanted)

    assert forwarded() == ["10.50.0.2:80", "[2001:db8:50::2]:80"]
    # No CHECK: portmap 1.1.1 looks for the rules of each family in the tables of both.
    tool.succeeds("del", pod, **wanted)
    assert forwarded() == []
    assert_nothing_left(tool.host, pod)
