"""What is promised while launchers are killed, agents stop, locks stay held and strangers knock."""

import json
import os
import random
import signal
import socket
import struct
import subprocess
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tests.agent.conftest import RunningAgent
from tests.lab.waiting import suspend, wait_until, waiters
from tests.lab.world import Host, Json, Pod, network

CONF = network("lan", "eth0", "10.0.0.0/24", "2001:db8::/64", announce=0)
OTHER = network("other", "eth0", "10.1.0.0/24", announce=0)


def told(agent: RunningAgent) -> list[Json]:
    return [json.loads(line) for line in agent.log.read_text().splitlines()]


def left(host: Host) -> list[str]:
    """What is kept on disk, but the file that this test itself has locked."""
    return [name for name in host.state() if not name.startswith("cni-vlan/locks/")]


def test_an_add_whose_launcher_was_killed_is_over_before_its_del_answers(
    host: Host, agent: RunningAgent
) -> None:
    del agent
    host.uplink()
    (pod,) = host.pods("p1")
    with host.holding("/var/lib/cni/cni-vlan/locks/eth0"):
        caller = host.start("ADD", CONF, pod)
        wait_until(lambda: waiters(host.path("/var/lib/cni/cni-vlan/locks/eth0")))
        caller.kill()
        caller.wait()
        pod.detach(CONF)
    pod.detach(OTHER)  # the lock was had by whoever waited for it

    assert left(host) == []
    assert not pod.has_link("eth0")


def test_adds_whose_launchers_are_killed_leave_nothing_after_their_dels(
    host: Host, agent: RunningAgent
) -> None:
    host.uplink()
    pods = host.pods(*(f"p{number}" for number in range(16)))
    dice = random.Random(5)  # noqa: S311 - a test's dice
    delays = [[dice.uniform(0, 0.06) for _ in range(12)] for _ in pods]

    def attach_and_kill(pod: Pod, delay: float) -> None:
        variables = {"CNI_COMMAND": "ADD", "CNI_PATH": host.cni_path, "CNI_NETNS": pod.netns}
        variables |= {"CNI_CONTAINERID": pod.name, "CNI_IFNAME": "eth0"}
        script = f"exec {host.cni_bin}/cni-vlan < {host.scratch}/conf"
        caller = host.popen("sh", "-c", script, env={**host.variables, **variables}, stdout=-3)
        time.sleep(delay)
        caller.kill()
        caller.wait()
        pod.detach(CONF)

    (host.scratch / "conf").write_text(json.dumps(CONF))

    def repeatedly(pod: Pod, moments: list[float]) -> None:
        for moment in moments:
            attach_and_kill(pod, moment)

    def come_and_go(pod: Pod) -> None:
        for _ in range(12):
            pod.attach(CONF)
            pod.detach(CONF)

    busy, killed = pods[:8], pods[8:]
    with ThreadPoolExecutor(len(pods)) as pool:
        others = [pool.submit(come_and_go, pod) for pod in busy]
        list(pool.map(repeatedly, killed, delays))
        for future in others:
            future.result()

    assert agent.process.poll() is None
    assert host.state() == []
    assert [pod.name for pod in pods if pod.has_link("eth0")] == []


def request(host: Host, pod: Pod, conf: Json) -> bytes:
    entries = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": pod.name, "CNI_IFNAME": "eth0", "CNI_PATH": "/x"}
    entries |= {
        "CNI_NETNS": pod.netns,
        "CNI_VLAN_BOOT": Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
    }
    block = b"".join(f"{part}\0".encode() for part in ("cni-vlan", *(f"{k}={v}" for k, v in entries.items())))
    stdin = json.dumps(conf).encode()
    del host
    return struct.pack("=4sII", b"CNI\x02", len(block), len(stdin)) + block + stdin


def test_an_add_that_nobody_hears_of_is_undone(host: Host, agent: RunningAgent) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    sandbox = os.open(f"/proc/{host.holder}/root{pod.netns}", os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as launcher:
        launcher.connect(str(agent.socket))
        socket.send_fds(launcher, [request(host, pod, CONF)], [sandbox])
        begun = launcher.recv(16)
        wait_until(lambda: bool(launcher.recv(1, socket.MSG_PEEK)))
        attached = pod.has_link("eth0")
    os.close(sandbox)
    wait_until(lambda: not pod.has_link("eth0"))
    wait_until(lambda: host.state() == [])

    assert struct.unpack("=4sIII", begun)[1] == 0x101
    assert attached


def test_an_add_whose_runtime_is_gone_is_undone(host: Host, agent: RunningAgent) -> None:
    """The launcher lives, and has the answer, but nobody reads what it writes."""
    host.uplink()
    (pod,) = host.pods("p1")
    caller = start_into_a_broken_pipe(host, pod)
    wait_until(lambda: len(told(agent)) == 1)

    assert caller.wait(30) != 0
    assert told(agent)[0]["code"] == 11
    assert not pod.has_link("eth0")
    assert host.state() == []


def start_into_a_broken_pipe(host: Host, pod: Pod) -> subprocess.Popen[str]:
    reading, writing = os.pipe()
    os.close(reading)
    given = host.scratch / "conf"
    given.write_text(json.dumps(CONF))
    variables = {"CNI_COMMAND": "ADD", "CNI_PATH": host.cni_path, "CNI_NETNS": pod.netns}
    variables |= {"CNI_CONTAINERID": pod.name, "CNI_IFNAME": "eth0"}
    script = f"exec {host.cni_bin}/cni-vlan < {given}"
    caller = host.popen("sh", "-c", script, env={**host.variables, **variables}, stdout=writing)
    os.close(writing)
    return caller


@pytest.mark.parametrize("locked_s", [1.5])
def test_an_undo_that_has_to_wait_is_not_cut_short(host: Host, agent: RunningAgent, locked_s: float) -> None:
    """While the answer goes unread, another process holds the pool's lock for longer than a look takes."""
    host.uplink()
    first, pod = host.pods("first", "p1")
    first.attach(CONF)
    sandbox = os.open(f"/proc/{host.holder}/root{pod.netns}", os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as launcher:
        launcher.connect(str(agent.socket))
        socket.send_fds(launcher, [request(host, pod, CONF)], [sandbox])
        launcher.recv(16)
        wait_until(lambda: bool(launcher.recv(1, socket.MSG_PEEK)))
        holder = host.popen("flock", "/var/lib/cni/cni-ipam/lan/lock", "sleep", str(locked_s))
        wait_until(lambda: bool(host.held_locks()))
    os.close(sandbox)
    holder.wait()
    wait_until(lambda: len(told(agent)) == 2)
    first.detach(CONF)

    assert not pod.has_link("eth0")
    assert left(host) == []


def test_what_comes_while_it_stops_is_done_at_once_by_the_plugins(host: Host, agent: RunningAgent) -> None:
    host.uplink()
    first, second = host.pods("p1", "p2")
    with host.holding("/var/lib/cni/cni-ipam/lan/lock"):
        caller = host.start("ADD", CONF, first)
        wait_until(lambda: first.has_link("eth0"))
        agent.process.terminate()
        wait_until(lambda: not agent.socket.exists())

        second.attach(OTHER)
        assert host.plugin("STATUS", OTHER).status == 0
        assert host.plugin("VERSION", OTHER).status == 0
        assert caller.poll() is None  # it still holds on
    assert caller.wait(30) == 0
    assert agent.process.wait(30) == 0
    assert first.addresses() == ["10.0.0.2/24", "2001:db8::2/64"]
    first.detach(CONF)
    second.detach(OTHER)
    assert host.state() == []


def has_gone_on(done: list[int], enough: int, running: list[Future[None]]) -> bool:
    return len(done) > enough or any(future.done() for future in running)


def test_restarts_under_load_fail_nothing(host: Host, one_shot: Path) -> None:
    host.uplink()
    pods = host.pods(*(f"p{number}" for number in range(6)))
    over = threading.Event()
    done: list[int] = []

    def come_and_go(pod: Pod) -> None:
        while not over.is_set():
            pod.attach(CONF)
            pod.detach(CONF)
            done.append(1)

    with ThreadPoolExecutor(len(pods)) as pool:
        running = [pool.submit(come_and_go, pod) for pod in pods]
        agent = RunningAgent(host, one_shot / "cni-agent")
        try:
            for _restart in range(4):
                enough = len(done) + 12
                wait_until(partial(has_gone_on, done, enough, running))
                successor = RunningAgent(
                    host, one_shot / "cni-agent"
                )  # the new one listens before the old ends
                agent.process.terminate()
                assert agent.process.wait(30) == 0
                agent = successor
        finally:
            over.set()
            for future in running:
                future.result()
            agent.stop()

    assert host.state() == []


def test_a_lock_that_stays_held_stops_no_other_network(host: Host, agent: RunningAgent) -> None:
    host.uplink()
    pods = host.pods(*(f"p{number}" for number in range(80)), "other")
    with host.holding("/var/lib/cni/cni-ipam/lan/lock"):
        callers = [host.start("ADD", CONF, pod) for pod in pods[:-1]]
        wait_until(lambda: len(waiting_threads(agent)) >= len(callers))
        pods[-1].attach(OTHER)

        wait_until(lambda: len(told(agent)) > 0)
        assert [line["network"] for line in told(agent)] == ["other"]  # not by a process of its own
        # main, metrics, claims, routes, the lock, STATUS
        assert len(waiting_threads(agent)) <= len(callers) + 6
    assert [caller.wait(60) for caller in callers] == [0] * len(callers)


def waiting_threads(agent: RunningAgent) -> list[Path]:
    return list(Path(f"/proc/{agent.process.pid}/task").iterdir())


def test_a_log_that_nobody_reads_stops_nothing(host: Host, one_shot: Path) -> None:
    path = host.scratch / "agent" / "agent.sock"
    arguments = ["serve", "--socket", str(path), "--metrics", f"{path}.metrics"]
    process = host.popen(str(one_shot / "cni-agent"), *arguments, stderr=subprocess.PIPE)
    wait_until(path.exists)
    host.extra["CNI_VLAN_BUNDLE"] = "/nowhere"

    host.uplink()
    answers = [host.plugin("STATUS", OTHER).status for _ in range(500)]

    assert answers == [0] * 500
    process.kill()
    assert process.stderr is not None
    process.stderr.close()
    process.wait()


def test_connections_to_its_metrics_cost_the_pods_nothing(host: Host, one_shot: Path) -> None:
    path = host.scratch / "agent" / "agent.sock"
    arguments = ["serve", "--socket", str(path), "--metrics", "9478"]
    log = (host.scratch / "agent.log").open("w")
    process = host.popen("prlimit", "--nofile=120:120", str(one_shot / "cni-agent"), *arguments, stderr=log)
    wait_until(path.exists)
    host.uplink()
    (pod,) = host.pods("p1")
    knock = (
        "import socket, sys\n"
        "held = []\n"
        "try:\n"
        "    while len(held) < 200:\n"
        "        held.append(socket.create_connection(('127.0.0.1', 9478), timeout=5))\n"
        "except TimeoutError:\n"  # an agent that is at its limit accepts no more
        "    pass\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    stranger = host.popen(
        "setpriv", "--reuid=65534", "--clear-groups", "/usr/bin/python3", "-c", knock, stdin=-1, stdout=-1
    )
    assert stranger.stdout is not None
    assert stranger.stdout.readline() == "held\n"

    pod.attach(CONF)

    wait_until(lambda: '"verb": "ADD"' in (host.scratch / "agent.log").read_text())
    assert len(os.listdir(f"/proc/{process.pid}/task")) < 16
    stranger.kill()
    stranger.communicate()
    process.terminate()
    process.wait(30)
    log.close()


def test_without_a_descriptor_left_it_turns_away_and_recovers(host: Host, one_shot: Path) -> None:
    agent = RunningAgent(host, one_shot / "cni-agent", "prlimit", "--nofile=40:40")
    host.uplink()
    first, second = host.pods("p1", "p2")
    silent = [socket.socket(socket.AF_UNIX) for _ in range(60)]
    for connection in silent:
        connection.connect(str(agent.socket))

    first.attach(CONF)
    for connection in silent:
        connection.close()
    wait_until(lambda: len(os.listdir(f"/proc/{agent.process.pid}/task")) <= 7)  # two wait for the next call
    second.attach(CONF)

    wait_until(lambda: [line["container"] for line in told(agent)][-1:] == ["p2"])
    agent.stop()


OTHER_BOOT = "11111111-2222-4333-8444-555555555555"
OWN_BOOT = "/proc/sys/kernel/random/boot_id"
SMALL = network("lan", "eth0", "10.0.0.0/28", announce=0)


def test_leases_of_an_earlier_boot_that_come_later_are_removed_too(host: Host, agent: RunningAgent) -> None:
    del agent
    host.uplink()
    earlier = host.path(f"/var/lib/cni/cni-ipam/lan/{OTHER_BOOT}")
    for pod in host.pods("p1", "p2", "p3"):
        pod.attach(SMALL)
        assert not earlier.exists()
        (earlier / "owners").mkdir(parents=True)  # a backup is restored
        (earlier / "owners" / "old:eth0").write_text("x")


def test_a_boot_that_looks_different_from_a_container_voids_no_lease(host: Host, one_shot: Path) -> None:
    """As with an agent in a container on a node that is a system container itself."""
    (host.scratch / "boot").write_text(f"{OTHER_BOOT}\n")
    host.run("mount", "--bind", str(host.scratch / "boot"), OWN_BOOT)
    inside = ("unshare", "--mount", "sh", "-c", f'umount {OWN_BOOT} && exec "$@"', "sh")
    agent = RunningAgent(host, one_shot / "cni-agent", *inside)
    host.uplink()
    pods = host.pods(*(f"p{number}" for number in range(6)))

    for pod in pods[:3]:
        pod.attach(SMALL)
    wait_until(lambda: len(told(agent)) == 3)
    agent.process.kill()
    agent.process.wait()
    for pod in pods[3:]:
        pod.attach(SMALL)

    given = {address.partition("/")[0] for pod in pods for address in pod.addresses()}
    assert len(given) == 6
    assert {Path(name).name for name in host.state() if "/leases/" in name} == given
    for pod in pods:
        pod.detach(SMALL)
    assert host.state() == []


def test_an_agent_that_knows_of_another_boot_refuses(host: Host, one_shot: Path) -> None:
    """As with a /run that is not shared, and older than the node's boot."""
    stale = f"mount -t tmpfs run /run/cni-vlan && echo {OTHER_BOOT} >/run/cni-vlan/boot"
    agent = RunningAgent(
        host, one_shot / "cni-agent", "unshare", "--mount", "sh", "-c", f'{stale} && exec "$@"', "sh"
    )
    host.uplink()
    first, second = host.pods("p1", "p2")

    first.attach(SMALL)
    second.attach(SMALL)

    assert first.addresses() + second.addresses() == ["10.0.0.2/28", "10.0.0.3/28"]
    (fault, *_others) = {line["fault"] for line in told(agent)}
    assert "/run/cni-vlan/boot is of another boot than the host's" in fault
    agent.stop()


@pytest.mark.parametrize("ipam_type", [["x"], {}, 5, True])
def test_an_ipam_type_that_is_no_name_is_an_error_with_words(
    host: Host, agent: RunningAgent, ipam_type: object
) -> None:
    (pod,) = host.pods("p1")
    conf = {**CONF, "ipam": {"type": ipam_type}}

    assert pod.add(conf).code == 7
    pod.detach(conf)
    assert agent.process.poll() is None


@pytest.mark.parametrize("warm", [True, False])
@pytest.mark.parametrize(
    "previous",
    [
        {"ips": [{"address": 5}]},
        {"ips": [{"address": "x"}]},
        {"routes": [{"dst": 5}]},
        {"dns": {"domain": 5}},
    ],
)
def test_a_previous_result_that_makes_no_sense_attaches_nothing(
    host: Host, agent: RunningAgent, previous: Json, *, warm: bool
) -> None:
    if not warm:
        agent.stop()
    host.uplink()
    (pod,) = host.pods("p1")
    conf = {**network("lan", "eth0", announce=0), "cniVersion": "0.4.0", "prevResult": previous}

    reply = pod.add(conf)

    assert reply.code == 6
    assert not pod.has_link("eth0")
    assert host.state() == []


def test_health_is_that_of_the_socket(host: Host, agent: RunningAgent, one_shot: Path) -> None:
    def health() -> int:
        asked = host.run(str(one_shot / "cni-agent"), "health", "--socket", str(agent.socket), check=False)
        return asked.returncode

    assert health() == 0
    suspend(agent.process)
    assert health() == 1
    agent.process.send_signal(signal.SIGCONT)
    assert health() == 0
    agent.process.kill()
    agent.process.wait()
    assert health() == 1


def test_a_socket_left_by_a_kill_in_the_middle_stops_no_start(host: Host, one_shot: Path) -> None:
    """In a container every process has the same id, so a name made of that is taken."""
    directory = host.scratch / "agent"
    directory.mkdir(mode=0o755)
    for number in range(1, 40000):
        (directory / f"agent.sock.{number}").touch()
    agent = RunningAgent(host, one_shot / "cni-agent")

    assert host.plugin("VERSION", OTHER).status == 0
    assert directory.stat().st_mode & 0o777 == 0o700
    agent.stop()
    with suppress(FileNotFoundError):
        agent.socket.unlink()
