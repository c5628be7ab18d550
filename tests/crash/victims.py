"""The processes that do a verb and are killed in it: a plugin of its own, or an agent."""

import json
import os
import signal
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import Protocol

from tests.crash.points import Trace, attach, kill_at, strace, trace_of
from tests.lab.waiting import wait_until
from tests.lab.warm import Agents
from tests.lab.world import Host, Json, Pod

Kill = tuple[str, int] | None  # before which call of a name, by its number
ENDS_WITHIN_S = 60
NOTHING = Trace({}, None)
EXPORT_LOCK = "/run/cni-vlan/export.lock"


class Victim(Protocol):
    """Does verbs for a pod; the last one is traced, and it is killed in it if it is to be."""

    @abstractmethod
    def __call__(self, host: Host, conf: Json, verbs: list[str], pod: Pod, kill: Kill) -> Trace: ...


def call(host: Host, conf: Json, verb: str, pod: Pod, before: str = "", cni_bin: Path | None = None) -> int:
    """Execute the plugin, by another command if there is one; return its status."""
    given = host.scratch / "conf.json"
    given.write_text(json.dumps(conf))
    variables = {
        "CNI_COMMAND": verb, "CNI_PATH": host.cni_path, "CNI_NETNS": pod.netns, "CNI_CONTAINERID": pod.name,
        "CNI_IFNAME": "eth0",
    }  # fmt: skip
    script = f"{before} {cni_bin or host.cni_bin}/cni-vlan < {given} > {host.scratch}/answer"
    return host.run("sh", "-c", script, environment=variables, check=False).returncode


@contextmanager
def an_agent(host: Host, agents: Agents) -> Iterator[int]:
    """Have an agent for a while; at the end it is killed, if it is not dead yet."""
    host.socket.unlink(missing_ok=True)
    agent = agents.start(host.holder, host.socket)
    try:
        yield agent
    finally:
        end(agent)


class OneShot:
    """A plugin without an agent; one does the verbs before."""

    def __init__(self, agents: Agents, cni_bin: Path) -> None:
        self._agents = agents
        self._cni_bin = cni_bin

    def __call__(self, host: Host, conf: Json, verbs: list[str], pod: Pod, kill: Kill) -> Trace:
        if verbs[:-1]:
            with an_agent(host, self._agents):
                do_all(host, conf, verbs[:-1], pod)
        log = host.scratch / "trace"
        before = " ".join(strace(log, *(kill_at(*kill) if kill else [])))
        call(host, conf, verbs[-1], pod, before, self._cni_bin)
        lines = log.read_text().splitlines()
        return trace_of(line for line in lines if _thread(line) == _thread(lines[0]))


class Agent:
    """An agent, which stops after the last verb; no plugin does what it did not begin."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    def __call__(self, host: Host, conf: Json, verbs: list[str], pod: Pod, kill: Kill) -> Trace:
        log = host.scratch / "trace"
        with an_agent(host, self._agents) as agent:
            do_all(host, conf, verbs[:-1], pod)
            wait_until(lambda: not attachment_locks(host))  # which an agent removes after its answer
            wait_until(lambda: found(host, EXPORT_LOCK))  # which a task of the agent takes at its start
            tracer = attach(agent, log, *(kill_at(*kill) if kill else []))
            call(host, conf, verbs[-1], pod, "CNI_VLAN_BUNDLE=/nowhere")
            end(agent, signal.SIGTERM)  # it does what there is to do after the answer
            tracer.communicate(timeout=ENDS_WITHIN_S)
        return _of_the_verb(log.read_text().splitlines())


def do_all(host: Host, conf: Json, verbs: list[str], pod: Pod) -> None:
    for verb in verbs:
        assert call(host, conf, verb, pod) == 0, (host.scratch / "answer").read_text()


def attachment_locks(host: Host) -> list[str]:
    return found(host, "/run/cni-vlan/attachments")


def found(host: Host, path: str) -> list[str]:
    return host.run("find", path, "-type", "f", check=False).stdout.split()


def _of_the_verb(lines: list[str]) -> Trace:
    """Return the trace of the thread that did the verb: one that was killed in a call, or changed most.

    One that takes the lock of the exports and none of an attachment is a task of the agent.
    """
    ordered = sorted(lines, key=_thread)
    traces = [trace_of(group) for _key, group in groupby(ordered, _thread)]
    verbs = [trace for trace in traces if not _took(trace, EXPORT_LOCK) or _took(trace, "/attachments/")]
    return max(verbs, key=lambda trace: (trace.died_at is not None, len(trace.numbers)), default=NOTHING)


def _took(trace: Trace, lock: str) -> bool:
    return any(lock in point.about for point in trace.numbers)


def _thread(line: str) -> str:
    return line.split(maxsplit=1)[0]


def end(process: int, by: signal.Signals = signal.SIGKILL) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, by)
