"""What a runtime hardly ever does to a plugin: closed descriptors, odd paths, lists that are none."""

import http.client
import json
import socket
import subprocess
from pathlib import Path

import pytest

from tests.agent.conftest import RunningAgent
from tests.lab.world import Host, Json, Pod, network

CONF = network("lan", "eth0", "10.0.0.0/24", announce=0)
VALID = "cni.dev/valid-attachments"


def call_with_closed(
    host: Host, closed: int, verb: str, pod: Pod, conf: Json = CONF
) -> subprocess.CompletedProcess[str]:
    """Run a verb in a process of its own that starts without a standard descriptor."""
    given = host.scratch / "conf"
    given.write_text(json.dumps(conf))
    variables = {
        "CNI_COMMAND": verb, "CNI_PATH": host.cni_path, "CNI_NETNS": pod.netns, "CNI_IFNAME": "eth0",
        "CNI_CONTAINERID": pod.name,
    }  # fmt: skip
    script = f"exec {host.find('cni-vlan')} < {given} {closed}>&-"
    return host.run("sh", "-c", script, environment=variables, check=False)


@pytest.fixture
def cold(host: Host, one_shot: Path) -> Host:
    host.cni_bin = one_shot
    host.uplink()
    return host


def test_a_one_shot_without_stdin_says_so(cold: Host) -> None:
    (pod,) = cold.pods("p1")

    done = call_with_closed(cold, 0, "ADD", pod)

    assert (done.returncode, json.loads(done.stdout)["code"]) == (1, 5)
    assert json.loads(done.stdout)["msg"].startswith("error reading from stdin")
    assert not pod.has_link("eth0")
    assert cold.state() == []


def test_a_one_shot_without_stdout_attaches_nothing(cold: Host) -> None:
    (pod,) = cold.pods("p1")

    done = call_with_closed(cold, 1, "ADD", pod)

    assert (done.returncode, done.stderr) == (1, "")
    assert not pod.has_link("eth0")
    assert cold.state() == []


def test_a_one_shot_without_stdout_detaches(cold: Host) -> None:
    (pod,) = cold.pods("p1")
    pod.attach(CONF)

    done = call_with_closed(cold, 1, "DEL", pod)

    assert (done.returncode, done.stderr) == (0, "")
    assert not pod.has_link("eth0")
    assert cold.state() == []


def test_a_one_shot_without_stderr_has_nowhere_to_warn(cold: Host) -> None:
    (pod,) = cold.pods("p1")

    done = call_with_closed(cold, 2, "ADD", pod, {**CONF, "parnt": "x"})

    assert done.returncode == 0
    assert [ip["address"] for ip in json.loads(done.stdout)["ips"]] == pod.addresses() == ["10.0.0.2/24"]
    assert call_with_closed(cold, 2, "DEL", pod).returncode == 0
    assert cold.state() == []


def test_a_fork_that_fails_after_the_answer_changes_nothing(cold: Host) -> None:
    """The announcement is made by a process of its own, which a limit of processes may forbid."""
    (pod,) = cold.pods("p1")
    given, log = cold.scratch / "conf", cold.scratch / "trace"
    given.write_text(json.dumps({**CONF, "announce": 3}))
    variables = {
        "CNI_COMMAND": "ADD", "CNI_PATH": cold.cni_path, "CNI_NETNS": pod.netns, "CNI_IFNAME": "eth0",
        "CNI_CONTAINERID": pod.name,
    }  # fmt: skip
    forbidden = "clone,clone3,fork,vfork"
    strace = f"strace -qq -o {log} -e trace={forbidden} -e inject={forbidden}:error=EAGAIN"

    done = cold.run(
        "sh", "-c", f"{strace} {cold.find('cni-vlan')} < {given}", environment=variables, check=False
    )

    assert "INJECTED" in log.read_text()
    assert done.returncode == 0
    assert [ip["address"] for ip in json.loads(done.stdout)["ips"]] == pod.addresses()


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "a\x7fb", "é"])
def test_an_error_of_the_launcher_is_json_whatever_its_path(launchers: Path, name: str) -> None:
    done = subprocess.run(
        [launchers / "cni-vlan"],
        env={"CNI_COMMAND": "ADD", "CNI_VLAN_SOCKET": "/nowhere", "CNI_VLAN_BUNDLE": f"/nowhere/{name}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )

    assert done.returncode == 1
    assert json.loads(done.stdout)["code"] == 5
    assert json.loads(done.stdout)["msg"].startswith("no agent is running, and /nowhere/")


LISTS: list[object] = [
    "abc", {"a": 1}, ["x"], "", False, 0, {}, 5, [[]], [None],
    [{"containerId": "p1", "ifname": "eth0"}], [{"containerID": "", "ifname": "eth0"}],
    [{"containerID": "p1", "ifname": "eth0"}, {"containerID": "p2"}],
]  # fmt: skip


@pytest.mark.parametrize("warm", [True, False])
def test_a_list_that_gc_cannot_read_takes_nothing_from_any_pod(
    host: Host, agent: RunningAgent, *, warm: bool
) -> None:
    host.uplink()
    pods = host.pods("p1", "p2")
    results = [pod.attach(CONF) for pod in pods]
    if not warm:
        agent.stop()
    state, links = host.state(), set(host.links())

    codes = {repr(valid): host.plugin("GC", {**CONF, VALID: valid}).code for valid in LISTS}

    assert codes == dict.fromkeys(map(repr, LISTS), 7)
    assert (host.state(), set(host.links())) == (state, links)
    for pod, result in zip(pods, results, strict=True):
        assert pod.check(CONF, result).status == 0
    assert host.plugin("GC", {**CONF, VALID: None}).status == 0  # which means: none is valid
    assert [name for name in host.state() if "/users/" in name or "/leases/" in name] == []


def health(agent: RunningAgent) -> tuple[int, str]:
    connection = http.client.HTTPConnection("local")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(agent.metrics))
    connection.request("GET", "/healthz")
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


def test_an_agent_whose_node_s_identity_is_damaged_serves(host: Host, one_shot: Path) -> None:
    """Pods of networks that share no pool need none."""
    host.run("sh", "-c", "mkdir -p /var/lib/cni/cni-ipam && : >/var/lib/cni/cni-ipam/.node")
    agent = RunningAgent(host, one_shot / "cni-agent", options=("--node", "n1"))
    try:
        (pod,) = host.pods("a")
        host.uplink()
        pod.attach(network("lan", "eth0", "10.0.0.0/24"))
        assert agent.process.poll() is None
        assert "/var/lib/cni/cni-ipam/.node" in agent.log.read_text()
    finally:
        agent.stop()


def test_an_agent_that_cannot_read_its_own_mappings_serves(host: Host, one_shot: Path) -> None:
    (host.scratch / "maps").write_text("nothing of the kind\n")
    script = f'mount --bind {host.scratch}/maps /proc/$$/maps && exec "$@"'
    agent = RunningAgent(host, one_shot / "cni-agent", "sh", "-c", script, "sh")
    try:
        (pod,) = host.pods("a")
        host.uplink()
        pod.attach(network("lan", "eth0", "10.0.0.0/24"))
        assert agent.process.poll() is None
    finally:
        agent.stop()


def test_an_agent_that_nobody_can_reach_is_not_healthy(agent: RunningAgent) -> None:
    before = health(agent)
    agent.socket.unlink()

    status, text = health(agent)

    assert before == (200, "ok\n")
    assert status == 503
    assert str(agent.socket) in text
