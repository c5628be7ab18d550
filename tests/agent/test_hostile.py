"""Configurations, results, files and links that nobody should make."""

import json
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from tests.agent.conftest import RunningAgent
from tests.lab.waiting import wait_until
from tests.lab.world import Host, Json, network

LAN = network("lan", "eth0", "10.0.0.0/24", announce=0)


def with_ipam(conf: Json, **keys: object) -> Json:
    return {**conf, "ipam": {**conf["ipam"], **keys}}


def test_a_del_of_one_network_keeps_the_lease_of_another_in_a_shared_pool(host: Host) -> None:
    host.uplink()
    first, second = host.pods("p1", "p2")
    one, other = with_ipam(LAN, pool="shared"), with_ipam({**LAN, "name": "other"}, pool="shared")
    result = first.attach(one)

    refused = first.add(other)
    first.detach(other)  # what a runtime does then

    assert refused.code == 101
    assert first.check(one, result).status == 0
    assert second.add({**one, "runtimeConfig": {"ips": ["10.0.0.2"]}}).code == 111


def test_a_del_leaves_a_macvlan_that_is_not_ours(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    host.run("ip", "link", "add", "m0", "link", "eth0", "netns", "p1", "type", "macvlan", "mode", "bridge")
    pod.run("ip", "link", "set", "m0", "name", "eth0")

    refused = pod.add(LAN)
    pod.detach(LAN)

    assert refused.code == 101
    assert pod.has_link("eth0")


def test_a_del_removes_what_the_reference_plugin_attached(host: Host) -> None:
    """Its type was changed under the pod; the runtime kept the result."""
    host.uplink()
    (pod,) = host.pods("p1")
    host.run("ip", "link", "add", "m0", "link", "eth0", "netns", "p1", "type", "macvlan", "mode", "bridge")
    pod.run("ip", "link", "set", "m0", "name", "eth0")
    interface = {"name": "eth0", "mac": pod.link()["address"], "sandbox": pod.netns}

    pod.detach({**LAN, "prevResult": {"cniVersion": "1.0.0", "interfaces": [interface]}})

    assert not pod.has_link("eth0")


def test_as_many_routes_as_one_likes(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    routes = [{"dst": f"10.{16 + number // 256}.{number % 256}.0/24"} for number in range(600)]

    pod.attach(with_ipam(LAN, routes=routes))

    assert sum(route["dst"].endswith(".0/24") for route in pod.routes()) == 601  # and its own subnet


WRONG: dict[str, Json] = {
    "too many source addresses": {"mode": "source", "macAddresses": ["02:00:00:00:00:01"] * 6000},
    "nested": {"args": json.loads("[" * 90 + "]" * 90)},
    "nested deeper": {"args": {"a": json.loads("[" * 300 + "]" * 300)}},
    "a result with an infinite number": {"prevResult": {"interfaces": [{"name": "x", "mtu": float("inf")}]}},
    "an address without its prefix": {"prevResult": {"ips": [{"address": "10.3.0.5"}]}},
    "an address with a mask": {"prevResult": {"ips": [{"address": "10.3.0.5/255.255.255.0"}]}},
    "an address with a zone": {"prevResult": {"ips": [{"address": "2001:db8::5%eth0/64"}]}},
    "a route without a prefix": {"ipam": {**LAN["ipam"], "routes": [{"dst": "10.1.0.0"}]}},
    "a gateway with a zone": {"ipam": {**LAN["ipam"], "routes": [{"dst": "::/0", "gw": "fe80::1%eth0"}]}},
    "a timeout beyond all numbers": {"ipamTimeout": 10**400},
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_is_an_error_and_its_del_succeeds(host: Host, name: str) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    text = json.dumps({**LAN, **WRONG[name]}).replace("Infinity", "1e999").replace('"lan"', '"lan\\u0000"', 0)

    reply = host.plugin("ADD", text, pod)
    pod.attach(LAN, "net1")
    gone = host.plugin("DEL", text, pod, "net1")

    assert 0 < reply.code < 999, reply
    assert gone.status == 0 or (name.startswith("nested") and gone.code == 6), gone
    assert not pod.has_link("net1") or gone.code == 6


IPAM_ANSWERS = {
    "details that are a list": ('{"code": 7, "msg": "no", "details": ["a", {}]}', 1),
    "an infinite code": ('{"code": 1e999, "msg": "no"}', 1),
    "too many brackets": ("[" * 100_000, 0),
    "an infinite number": ('{"cniVersion": "1.1.0", "interfaces": [{"name": "x", "mtu": 1e999}]}', 0),
}  # fmt: skip


@pytest.mark.parametrize("name", IPAM_ANSWERS)
def test_what_an_ipam_plugin_should_not_answer(host: Host, name: str) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    text, status = IPAM_ANSWERS[name]
    plugin = host.scratch / "bin" / "odd"
    (host.scratch / "answer").write_text(text)
    plugin.write_text(f"#!/bin/sh\ncat {host.scratch}/answer\nexit {status}\n")
    plugin.chmod(0o755)
    conf = {**LAN, "ipam": {"type": "odd"}}

    add, delete = pod.add(conf), pod.delete(conf)

    assert 0 < add.code < 999, add
    assert delete.code < 999, delete
    assert not pod.has_link("eth0")


@pytest.mark.parametrize("target", ["junk", "../../parents/x", "a/b/c/d/e/f/g"])
def test_a_damaged_index_entry_is_cleared(host: Host, target: str) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    pod.attach(LAN)
    entry = "/var/lib/cni/cni-vlan/networks/lan/p1:eth0"
    host.run("ln", "--symbolic", "--force", "--no-target-directory", target, entry)

    pod.detach(LAN)

    assert not host.path(entry).is_symlink()
    assert not pod.has_link("eth0")


@pytest.mark.parametrize("text", ["", "{", '{"link": 5}'])
def test_pods_stay_recorded_when_their_parent_s_record_was_damaged(host: Host, text: str) -> None:
    host.uplink()
    first, second = host.pods("p1", "p2")
    first.attach(LAN)
    result = second.attach(LAN)
    host.path("/var/lib/cni/cni-vlan/parents/eth0/state").write_text(text)

    first.detach(LAN)

    assert host.path("/var/lib/cni/cni-vlan/parents/eth0/users/p2:eth0").exists()
    assert second.check(LAN, result).status == 0
    second.detach(LAN)
    assert host.state() == []


@pytest.mark.parametrize(
    "document",
    [
        {"version": 1, "networks": []}, {"networks": {"x": "y"}}, {"networks": {"x": {"subnets": ["junk"]}}},
        {"chosen": ["junk"]}, {"networks": {"x": {"subnets": ["10.9.0.0/24"], "ranges": "y"}}},
    ],
)  # fmt: skip
def test_a_damaged_pool_file_stops_nobody(host: Host, document: Json) -> None:
    host.uplink()
    first, second = host.pods("p1", "p2")
    first.attach(LAN)
    host.path("/var/lib/cni/cni-ipam/lan/pool").write_text(json.dumps(document))

    second.attach(network("other", "eth0", "10.1.0.0/24", announce=0))
    first.detach(LAN)
    first.attach(LAN)

    assert host.run(host.find("cni-ipam"), "pools").returncode == 0


def test_null_counts_as_absent_at_any_depth(host: Host) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    subnet = {"subnet": "10.0.0.0/24", "gateway": None, "rangeStart": None}
    conf = with_ipam(LAN, subnets=[], ranges=[[subnet]], routes=[{"dst": "0.0.0.0/0", "gw": None}])

    assert pod.attach(conf)["ips"][0]["gateway"] == "10.0.0.1"


@pytest.mark.parametrize("mac", ["0200.0000.0009", "02-00-00-00-00-09", "02:00:00:00:00:09"])
def test_a_mac_address_as_go_reads_it(host: Host, mac: str) -> None:
    host.uplink()
    (pod,) = host.pods("p1")

    pod.attach({**LAN, "mac": mac})

    assert pod.link()["address"] == "02:00:00:00:00:09"


def test_invented_verbs_are_one_label(host: Host, agent: RunningAgent) -> None:
    (pod,) = host.pods("p1")
    for verb in ("\udcff", *(f"VERB{number}" for number in range(20))):
        assert host.plugin(verb, LAN, pod).code == 4

    scrape = ["curl", "--silent", "--unix-socket", str(agent.metrics), "http://agent/metrics"]
    shown = subprocess.run(scrape, capture_output=True, text=True, check=True).stdout

    assert [line for line in shown.splitlines() if line.startswith("cni_verbs_total")] == [
        'cni_verbs_total{code="4",plugin="cni-vlan",verb="other"} 21.0'
    ]


def test_a_launcher_that_cannot_write_fails(host: Host, agent: RunningAgent) -> None:
    del agent
    host.uplink()
    (pod,) = host.pods("p1")
    (host.scratch / "conf").write_text(json.dumps(LAN))
    variables = {"CNI_COMMAND": "ADD", "CNI_PATH": host.cni_path, "CNI_NETNS": pod.netns}
    variables |= {"CNI_CONTAINERID": pod.name, "CNI_IFNAME": "eth0"}

    script = f"{host.find('cni-vlan')} < {host.scratch}/conf > /dev/full"
    done = host.run("sh", "-c", script, environment=variables, check=False)

    assert done.returncode == 1
    assert not pod.has_link("eth0")


@pytest.mark.parametrize("verb", ["DEL", "GC"])
def test_what_an_executed_ipam_plugin_gave_is_released_by_it(
    host: Host, agent: RunningAgent, verb: str
) -> None:
    """The configuration names cni-ipam by now, so an agent would not look for another."""
    del agent
    host.uplink()
    (pod,) = host.pods("p1")
    leases = host.scratch / "host-local"
    ipam = {"type": "host-local", "dataDir": str(leases), "ranges": [[{"subnet": "10.0.0.0/24"}]]}
    pod.attach({**LAN, "cniVersion": "1.0.0", "ipam": ipam})  # it knows no later one
    given = {path.name for path in (leases / "lan").iterdir()}

    if verb == "DEL":
        pod.detach(LAN)
    else:
        assert host.plugin("GC", {**LAN, "cni.dev/valid-attachments": []}).status == 0

    assert "10.0.0.2" in given
    assert "10.0.0.2" not in {path.name for path in (leases / "lan").iterdir()}


def test_an_unreadable_record_costs_the_agent_no_thread(host: Host, agent: RunningAgent) -> None:
    host.uplink()
    damaged, other = host.pods("p1", "p2")
    damaged.attach(LAN)
    record = "/var/lib/cni/cni-vlan/parents/eth0/users/p1:eth0"
    host.run("sh", "-c", f"rm {record}; mkdir {record}")

    with ThreadPoolExecutor(8) as pool:  # more calls than the agent has threads
        codes = {reply.code for reply in pool.map(lambda _number: damaged.delete(LAN), range(40))}

    assert codes == {5}
    assert not damaged.has_link("eth0")  # what the configuration tells was done
    assert not any("/leases/" in name for name in host.state())
    other.attach({**LAN, "name": "other"})
    wait_until(lambda: '"container": "p2"' in agent.log.read_text())  # and not the one-shot plugin


def test_clients_that_say_nothing_keep_nobody_out(host: Host, agent: RunningAgent) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    with ExitStack() as silent:
        for _number in range(60):
            client = silent.enter_context(socket.socket(socket.AF_UNIX))
            client.connect(str(agent.socket))

        pod.attach(LAN)

        wait_until(lambda: '"container": "p1"' in agent.log.read_text())


def test_a_release_that_is_to_be_tried_again_keeps_the_record(host: Host) -> None:
    """Whatever the second DEL is given: the pool that is asked again is the recorded one."""
    host.uplink()
    (pod,) = host.pods("p1")
    plugin = host.cni_bin / "fickle"
    answer = '{"cniVersion":"1.1.0","ips":[{"address":"10.0.0.2/24"}]}'
    busy = '{"cniVersion":"1.1.0","code":11,"msg":"busy"}'
    asked = host.scratch / "asked"
    plugin.write_text(
        f"#!/bin/sh\ncat >> {asked}\n[ $CNI_COMMAND = ADD ] && echo '{answer}' && exit\n"
        f"[ $CNI_COMMAND = DEL ] && mkdir {asked}.once 2> /dev/null && echo '{busy}' && exit 1\nexit 0\n"
    )
    plugin.chmod(0o755)
    pod.attach({**LAN, "ipam": {"type": "fickle", "of": "the record"}})
    asked.unlink()

    first = pod.delete(LAN)
    kept = host.state()
    pod.detach(LAN)

    assert first.code == 11
    assert kept != []
    assert asked.read_text().count('"of": "the record"') == 2
    assert host.state() == []
