"""The agent behind the real launcher, on a host with pods on macvlan."""

import http.client
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.agent.conftest import RunningAgent
from tests.lab.waiting import wait_until
from tests.lab.world import Host, Json, Pod, network

CONF = network("lan", "eth0", "10.0.0.0/24", "2001:db8::/64", announce=0)


def told(agent: RunningAgent) -> list[Json]:
    return [json.loads(line) for line in agent.log.read_text().splitlines()]


def ask(agent: RunningAgent, path: str) -> tuple[int, str]:
    """One HTTP request over the metrics socket."""
    connection = http.client.HTTPConnection("local")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(agent.metrics))
    connection.request("GET", path)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


def namespaces(pid: int) -> set[str]:
    """The network namespaces that the threads of a process are in."""
    return {os.readlink(task / "ns" / "net") for task in Path(f"/proc/{pid}/task").iterdir()}


def agent_pid(agent: RunningAgent) -> int:
    """The agent itself: nsenter replaces itself by it."""
    return agent.process.pid


def test_a_pod_is_attached_checked_and_detached(host: Host, agent: RunningAgent) -> None:
    host.uplink()
    (pod,) = host.pods("p1")

    result = pod.attach(CONF)
    addresses = pod.addresses()
    checked = pod.check(CONF, result)
    pod.detach(CONF)
    wait_until(lambda: len(told(agent)) == 3)

    assert addresses == ["10.0.0.2/24", "2001:db8::2/64"]
    assert checked.status == 0
    assert not pod.has_link("eth0")
    assert host.state() == []
    assert [(line["verb"], line["network"], line["container"], line["code"]) for line in told(agent)] == [
        ("ADD", "lan", "p1", 0), ("CHECK", "lan", "p1", 0), ("DEL", "lan", "p1", 0),
    ]  # fmt: skip
    assert list(told(agent)[0]["stages"]) == ["config", "parent", "link", "lease", "configure"]


def test_errors_and_warnings_are_those_of_the_plugin(host: Host, agent: RunningAgent) -> None:
    (pod,) = host.pods("p1")
    conf = network("lan", "eth9", "10.0.0.0/24", parnt="x")

    warm = pod.add(conf)
    agent.stop()
    cold = pod.add(conf)

    assert (warm.status, warm.code) == (1, 103)
    assert (warm.stdout, warm.stderr) == (cold.stdout, cold.stderr)
    assert "parnt" in warm.stderr


def test_sixty_four_at_a_time_each_in_its_own_namespace(host: Host, agent: RunningAgent) -> None:
    host.uplink()
    pods = host.pods(*(f"p{number}" for number in range(64)))
    home = namespaces(agent_pid(agent))

    with ThreadPoolExecutor(64) as pool:
        results = list(pool.map(lambda pod: pod.attach(CONF), pods))
        found = list(pool.map(Pod.addresses, pods))
    given = [[ip["address"] for ip in result["ips"]] for result in results]

    assert found == given
    assert len({address for ips in given for address in ips}) == 2 * len(pods)
    assert set(host.links()) == {"lo", "eth0"}
    assert namespaces(agent_pid(agent)) == home
    assert len(home) == 1

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(lambda pod: pod.detach(CONF), pods))
        left = list(pool.map(lambda pod: pod.has_link("eth0"), pods))
    assert not any(left)
    assert host.state() == []
    assert namespaces(agent_pid(agent)) == home


def test_what_needs_the_host_is_declined_and_done_by_the_plugin(host: Host, agent: RunningAgent) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    ipam = {"type": "host-local", "ranges": [[{"subnet": "10.9.0.0/24"}]], "dataDir": "/var/lib/cni/hl"}
    conf = {**network("lan", "eth0", announce=0), "cniVersion": "1.0.0", "ipam": ipam}

    pod.attach(conf)
    addresses = pod.addresses()
    pod.detach(conf)

    assert addresses == ["10.9.0.2/24"]
    assert told(agent) == []


@pytest.mark.parametrize(
    "ipam",
    [
        {"resolvConf": "/etc/resolv.conf"},
        {"dataDir": "/srv/leases"},
        {"dataDir": "/var/lib/cni/cni-ipam-2"},
        {"dataDir": "/var/lib/cni/cni-ipam/../else"},
    ],
)
def test_files_that_it_may_not_see_are_left_to_the_plugin(
    host: Host, agent: RunningAgent, ipam: Json
) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    conf = network("lan", "eth0", "10.0.0.0/24", announce=0)
    conf["ipam"] |= ipam
    host.run("mount", "-t", "tmpfs", "srv", "/srv")

    pod.attach(conf)
    pod.detach(conf)

    assert told(agent) == []


def test_an_agent_that_sees_no_networks_leaves_a_renamed_one_to_the_plugin(
    host: Host, one_shot: Path
) -> None:
    """As in a container: the files that tell are the host's."""
    hidden = 'mkdir -p /etc/cni/net.d; mount -t tmpfs hidden /etc/cni/net.d; exec "$@"'
    agent = RunningAgent(host, one_shot / "cni-agent", "unshare", "--mount", "sh", "-c", hidden, "sh")
    host.uplink()
    (pod,) = host.pods("p1")
    pod.attach(CONF)
    renamed = {**CONF, "name": "renamed"}
    host.configure(renamed)

    pod.detach(renamed)

    assert not pod.has_link("eth0")
    assert host.state() == []
    assert [line["verb"] for line in told(agent)] == ["ADD"]
    agent.stop()


@pytest.fixture
def waiting(
    host: Host,
    agent: RunningAgent,  # noqa: ARG001 - it has to run
) -> Iterator[tuple[Pod, subprocess.Popen[str], subprocess.Popen[str]]]:
    """An ADD that the agent is in the middle of: another process holds the pool's lock."""
    host.uplink()
    first, pod = host.pods("first", "p1")
    first.attach(CONF)
    lock = "/var/lib/cni/cni-ipam/lan/lock"
    holder = host.popen("flock", "--close", lock, "sh", "-c", "echo held; exec cat", stdin=-1, stdout=-1)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    environment = {
        **os.environ, "CNI_COMMAND": "ADD", "CNI_CONTAINERID": "p1", "CNI_NETNS": pod.netns,
        "CNI_IFNAME": "eth0", "CNI_PATH": host.cni_path,
    }  # fmt: skip
    caller = host.popen(str(host.cni_bin / "cni-vlan"), env=environment, stdin=-1, stdout=-1)
    assert caller.stdin is not None
    caller.stdin.write(json.dumps(CONF))
    caller.stdin.close()
    caller.stdin = None
    try:
        wait_until(lambda: pod.has_link("eth0"))
        yield pod, caller, holder
    finally:
        holder.kill()
        holder.communicate()
        caller.kill()
        caller.communicate()


Waiting = tuple[Pod, subprocess.Popen[str], subprocess.Popen[str]]


def test_asked_to_stop_it_finishes_what_runs(agent: RunningAgent, waiting: Waiting) -> None:
    pod, caller, holder = waiting
    agent.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not agent.socket.exists())

    holder.kill()
    answer = json.loads(caller.communicate(timeout=30)[0])
    status = agent.process.wait(30)

    assert (caller.returncode, status) == (0, 0)
    assert pod.addresses() == [ip["address"] for ip in answer["ips"]]


def connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


def test_killed_in_the_middle_it_is_try_again_and_detach_cleans_up(
    host: Host, agent: RunningAgent, waiting: Waiting
) -> None:
    pod, caller, holder = waiting
    agent.process.kill()
    agent.process.wait()
    answer = json.loads(caller.communicate(timeout=30)[0])
    holder.kill()

    pod.detach(CONF)
    Pod(host, "first").detach(CONF)

    assert (caller.returncode, answer["code"]) == (1, 11)
    assert not pod.has_link("eth0")
    assert host.state() == []
    assert set(host.links()) == {"lo", "eth0"}


def test_figures_and_health(host: Host, agent: RunningAgent) -> None:
    far = host.uplink()
    (pod,) = host.pods("p1")
    pod.attach(CONF)
    pod.add(CONF)
    wait_until(lambda: len(told(agent)) == 2)

    status, text = ask(agent, "/metrics")

    lines = set(text.splitlines())
    assert status == 200
    assert lines >= {
        'cni_verbs_total{code="0",plugin="cni-vlan",verb="ADD"} 1.0',
        'cni_verbs_total{code="101",plugin="cni-vlan",verb="ADD"} 1.0',
        'cni_verb_seconds_count{plugin="cni-vlan",verb="ADD"} 2.0',
        'cni_stage_seconds_count{stage="lease",verb="ADD"} 1.0',
        'cni_leases{pool="lan",subnet="10.0.0.0/24"} 1.0',
        'cni_pool_addresses{pool="lan",subnet="10.0.0.0/24"} 253.0',
        'cni_pool_free_addresses{pool="lan",subnet="10.0.0.0/24"} 252.0',
        'cni_parent_users{parent="eth0"} 1.0',
        'cni_parent_ready{parent="eth0"} 1.0',
    }
    far.ip("link", "set", "trunk", "down")
    assert 'cni_parent_ready{parent="eth0"} 0.0' in ask(agent, "/metrics")[1]
    assert ask(agent, "/healthz") == (200, "ok\n")
    assert ask(agent, "/else")[0] == 404
