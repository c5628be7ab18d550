"""A launcher of protocol version 1, as the first release has it, with an agent of today."""

import json
import os
import socket
import struct
import threading
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

from tests.agent.conftest import RunningAgent
from tests.lab.waiting import wait_until
from tests.lab.world import Host, Json, Pod, Reply, network

CONF = network("lan", "eth0", "10.0.0.0/24", "2001:db8::/64", announce=0)
MAGIC = b"CNI\x01"
REQUEST = struct.Struct("=4sII")
REPLY = struct.Struct("=4sIII")
DECLINED = 0x100
DEADLINE_S = 100
WENT_AWAY = Reply(1, '{"code": 11, "msg": "cni-agent went away before it answered"}', "")


class OldLauncher:
    """Hands an invocation to the agent; what was sent whole is never run again, unless it is declined."""

    def __init__(self, host: Host, one_shot: Path, socket_path: Path) -> None:
        self._host = host
        self._one_shot = one_shot
        self._socket = socket_path
        self.ways: Counter[str] = Counter()  # who did it

    def call(self, verb: str, conf: Json, pod: Pod) -> Reply:
        environment = {
            "CNI_COMMAND": verb, "CNI_CONTAINERID": pod.name, "CNI_NETNS": pod.netns, "CNI_IFNAME": "eth0",
            "CNI_PATH": f"{self._one_shot}:/usr/lib/cni",
        }  # fmt: skip
        reply = self._ask(environment, json.dumps(conf).encode(), pod)
        self.ways["agent" if reply else "one-shot"] += 1
        if reply is not None:
            return reply
        plugin = str(self._one_shot / "cni-vlan")
        done = self._host.run(plugin, stdin=json.dumps(conf), environment=environment, check=False)
        return Reply(done.returncode, done.stdout, done.stderr)

    def _ask(self, environment: dict[str, str], stdin: bytes, pod: Pod) -> Reply | None:
        """Return the agent's answer, None if it does not do it."""
        sandbox = os.open(f"/proc/{self._host.holder}/root{pod.netns}", os.O_RDONLY)
        block = b"".join(
            f"{part}\0".encode() for part in ("cni-vlan", *(f"{k}={v}" for k, v in environment.items()))
        )
        with socket.socket(socket.AF_UNIX) as agent, os.fdopen(sandbox):
            agent.settimeout(DEADLINE_S)
            try:
                agent.connect(str(self._socket))
                message = REQUEST.pack(MAGIC, len(block), len(stdin)) + block + stdin
                sent = socket.send_fds(agent, [message], [sandbox])
                agent.sendall(message[sent:])
            except OSError:
                return None
            return answer(agent)


def answer(agent: socket.socket) -> Reply | None:
    with suppress(ConnectionError):
        header = agent.recv(REPLY.size, socket.MSG_WAITALL)
        if len(header) == REPLY.size:
            magic, status, out, err = REPLY.unpack(header)
            assert magic == MAGIC
            if status == DECLINED:
                return None
            text = agent.recv(out + err, socket.MSG_WAITALL) if out + err else b""
            return Reply(status, text[:out].decode(), text[out:].decode())
    return WENT_AWAY


def told(agent: RunningAgent) -> list[tuple[str, int]]:
    """The verbs that the agent did, with their codes."""
    lines = [json.loads(line) for line in agent.log.read_text().splitlines()]
    return [(line["verb"], line["code"]) for line in lines if "verb" in line]


def test_it_is_served_once_a_boot_is_agreed_on(host: Host, agent: RunningAgent, one_shot: Path) -> None:
    host.uplink()
    (pod,) = host.pods("p1")
    launcher = OldLauncher(host, one_shot, agent.socket)

    first = launcher.call("ADD", CONF, pod)  # by the one-shot, which agrees on the boot
    assert (first.status, launcher.ways) == (0, {"one-shot": 1}), first
    wait_until(lambda: "another boot" in agent.log.read_text())
    deleted = launcher.call("DEL", CONF, pod)
    again = launcher.call("ADD", CONF, pod)
    addresses = pod.addresses()
    gone = launcher.call("DEL", CONF, pod)
    wait_until(lambda: len(told(agent)) == 3)

    assert [deleted.status, again.status, gone.status] == [0, 0, 0], (deleted, again, gone)
    assert launcher.ways == {"one-shot": 1, "agent": 3}
    assert told(agent) == [("DEL", 0), ("ADD", 0), ("DEL", 0)]
    assert [ip["address"] for ip in again.document["ips"]] == addresses
    assert not pod.has_link("eth0")
    assert host.state() == []


def has_gone_on(done: list[str], enough: int, running: list[Future[None]]) -> bool:
    return min(done.count("old"), done.count("new")) > enough or any(future.done() for future in running)


def test_restarts_fail_neither_it_nor_a_launcher_of_today(host: Host, one_shot: Path) -> None:
    host.uplink()
    pods = host.pods(*(f"p{number}" for number in range(8)))
    over = threading.Event()
    done: list[str] = []
    agent = RunningAgent(host, one_shot / "cni-agent")
    launcher = OldLauncher(host, one_shot, agent.socket)

    def by_it(pod: Pod) -> None:
        while not over.is_set():
            for verb in ("ADD", "DEL"):
                reply = launcher.call(verb, CONF, pod)
                assert reply.status == 0, f"{verb} {pod.name}: {reply}"
            done.append("old")

    def by_one_of_today(pod: Pod) -> None:
        while not over.is_set():
            pod.attach(CONF)
            pod.detach(CONF)
            done.append("new")

    with ThreadPoolExecutor(len(pods)) as pool:
        running = [pool.submit(by_it, pod) for pod in pods[:4]]
        running += [pool.submit(by_one_of_today, pod) for pod in pods[4:]]
        try:
            for _restart in range(4):
                enough = min(done.count("old"), done.count("new")) + 4
                wait_until(partial(has_gone_on, done, enough, running))
                successor = RunningAgent(host, one_shot / "cni-agent")  # it listens before the old one ends
                agent.process.terminate()
                assert agent.process.wait(30) == 0
                agent = successor
        finally:
            over.set()
            for future in running:
                future.result()
            agent.stop()

    assert launcher.ways["agent"] > 0
    assert host.state() == []
    assert [pod.name for pod in pods if pod.has_link("eth0")] == []
