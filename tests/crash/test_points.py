"""Killed before every system call that changes something, of a whole ADD and a whole DEL: nothing is left.

After each kill either the runtime's DEL comes, and cleans up, or none does: then the next ADD works, and GC
cleans up. The tables of all points are written below dist/crash-points.
"""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash.points import Point, attach, points, strace
from tests.lab.warm import Agents
from tests.lab.world import Host, Pod, network

ROOT = Path(__file__).parents[2]
CONF = network(
    "lan", "eth0", "10.0.0.0/28", "2001:db8::/64", announce=0, mac="02:00:00:00:00:07", hostAccess=True
)
NEXT = {key: value for key, value in CONF.items() if key != "mac"}
VALID = "cni.dev/valid-attachments"
Kill = Callable[[Host, str, Pod, Point | None], list[str]]


def one_shot_killed(host: Host, verb: str, pod: Pod, point: Point | None) -> list[str]:
    """Run a verb in a process of its own, killed at a point; return what it did until then."""
    log = host.scratch / "trace"
    traced = strace(log, *(point.injection if point else []))
    call(host, verb, pod, " ".join(traced))
    return main_thread(log.read_text().splitlines())


def call(host: Host, verb: str, pod: Pod, before: str = "") -> int:
    given = host.scratch / "conf.json"
    given.write_text(json.dumps(CONF))
    variables = {
        "CNI_COMMAND": verb, "CNI_PATH": host.cni_path, "CNI_NETNS": pod.netns, "CNI_CONTAINERID": pod.name,
        "CNI_IFNAME": "eth0",
    }  # fmt: skip
    script = f"{before} {host.find('cni-vlan')} < {given} > {host.scratch}/answer"
    return host.run("sh", "-c", script, environment=variables, check=False).returncode


def main_thread(lines: list[str]) -> list[str]:
    first = lines[0].split()[0]
    return [line for line in lines if line.startswith(f"{first} ")]


class AgentKilled:
    """Has an agent run the verb, killed at a point of the thread that does it."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    def __call__(self, host: Host, verb: str, pod: Pod, point: Point | None) -> list[str]:
        log, path = host.scratch / "trace", host.scratch / "agent" / "agent.sock"
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        agent = self._agents.start(host.holder, path)
        tracer = attach(agent, log, *(point.injection if point else []))
        call(host, verb, pod)
        kill(agent)
        tracer.communicate()
        lines = log.read_text().splitlines()
        threads = {line.split()[0] for line in lines if "CNI\\" in line} or {
            line.split()[0] for line in lines
        }
        return [line for line in lines if line.split()[0] in threads]


def kill(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return


@pytest.fixture(params=["one-shot", "agent"])
def killed(request: pytest.FixtureRequest, host: Host, agents: Agents, one_shot: Path) -> Kill:
    """The way to run a verb and have its process killed."""
    if request.param == "agent":
        return AgentKilled(agents)
    host.cni_bin = one_shot
    return one_shot_killed


def write_table(who: str, verb: str, rows: list[str]) -> None:
    """Write the points of one way; docs/crash-points.md is all of them."""
    target = ROOT / "dist" / "crash-points" / f"{who}-{verb}.md"
    target.parent.mkdir(parents=True, exist_ok=True)
    header = "| killed before | of | then DEL | then the next ADD and GC |\n|---|---|---|---|"
    target.write_text("\n".join([f"## {verb} by the {who}", "", header, *rows, ""]))


def left(host: Host, pod: Pod) -> list[str]:
    kept = [name for name in host.state() if not name.startswith("cni-vlan/locks/")]
    links = [link["ifname"] for link in pod.ip("link") if link["ifname"] != "lo"]
    return kept + links + sorted(set(host.links()) - {"lo", "eth0"})


def after_del(host: Host, pod: Pod) -> list[str]:
    """What is wrong when the runtime's DEL comes, as it does after an ADD or a DEL that failed.

    A file that was being written may still be there under its temporary name: the next write takes that over.
    """
    reply = pod.delete(CONF)
    kept = [name for name in left(host, pod) if not name.endswith("/.new")]
    return [*([] if reply.status == 0 else [reply.stdout]), *kept]


def after_gc(host: Host, pod: Pod) -> list[str]:
    """What is wrong when no DEL comes: the sandbox goes, another pod comes, and GC is called."""
    host.run("ip", "netns", "delete", pod.name)
    other = host.namespace(f"{pod.name}-next")
    reply = other.add(NEXT)
    wrong = [] if reply.status == 0 else [reply.stdout]
    valid = [{"containerID": other.name, "ifname": "eth0"}]
    collected = host.plugin("GC", {**CONF, VALID: valid})
    wrong += [] if collected.status == 0 else [collected.stdout]
    other.detach(NEXT)
    return wrong + left(host, other)


@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_killed_anywhere_nothing_is_left(
    host: Host, killed: Kill, verb: str, request: pytest.FixtureRequest
) -> None:
    host.uplink()
    who = request.node.callspec.params["killed"]
    (first,) = host.pods("whole")
    prepare(verb, first)
    found = list(points(killed(host, verb, first, None)))
    first.detach(CONF)
    wrong: list[str] = []
    rows: list[str] = []
    for number, point in enumerate(found):
        outcomes = []
        for way, clean in (("del", after_del), ("gc", after_gc)):
            (pod,) = host.pods(f"p{number}-{way}")
            prepare(verb, pod)
            killed(host, verb, pod, point)
            outcomes.append(clean(host, pod))
            wrong += [
                f"{who} {verb}, killed before {point.name} {point.about}: {text}" for text in outcomes[-1]
            ]
            if way == "del":
                host.run("ip", "netns", "delete", pod.name)
        words = ["nothing left" if not outcome else "**" + "; ".join(outcome) + "**" for outcome in outcomes]
        rows.append(f"| {point.name} | {point.about} | {words[0]} | {words[1]} |")
    write_table(who, verb, rows)

    assert len(found) > 20, found
    assert wrong == []


def test_killed_anywhere_in_making_a_shim_anew_the_next_pod_mends_it(host: Host, one_shot: Path) -> None:
    """Somebody has removed the shim under a pod."""
    host.cni_bin = one_shot
    host.uplink()
    old, first = host.pods("old", "whole")
    address = old.attach(NEXT)["ips"][0]["address"].partition("/")[0]
    host.ip("link", "delete", "host-eth0")
    found = list(points(one_shot_killed(host, "ADD", first, None)))
    first.detach(CONF)
    wrong: list[Point] = []
    for number, point in enumerate(found):
        pod, after = host.pods(f"p{number}", f"q{number}")
        host.ip("link", "delete", "host-eth0")
        one_shot_killed(host, "ADD", pod, point)
        pod.detach(CONF)
        after.attach(NEXT)
        if address not in {route["dst"] for route in host.ip("route", "show", "dev", "host-eth0")}:
            wrong.append(point)
        after.detach(NEXT)

    assert len(found) > 20, found
    assert wrong == []
    old.detach(NEXT)
    assert left(host, old) == []


def prepare(verb: str, pod: Pod) -> None:
    if verb == "DEL":
        pod.attach(CONF)


SIGNALS = "mkdir rename link symlink unlink sendto".split()


@pytest.mark.parametrize("call_", SIGNALS)
def test_sigterm_anywhere_in_an_add_undoes_it(host: Host, one_shot: Path, call_: str) -> None:
    host.cni_bin = one_shot
    host.uplink()
    for nth in range(1, 30):
        (pod,) = host.pods(f"p{nth}")
        log = host.scratch / "trace"
        inject = f"-e inject={call_}:signal=TERM:when={nth}"
        status = call(host, "ADD", pod, f"strace -f -qq -o {log} -e trace={call_} {inject}")
        delivered = "SIGTERM" in log.read_text()
        if status:
            assert '"code": 11' in (host.scratch / "answer").read_text()
            assert left(host, pod) == [], nth
        else:
            pod.detach(CONF)
        if not delivered:
            return
    raise AssertionError(f"more than 30 {call_}")


@pytest.mark.parametrize("limit", range(6, 20))
def test_a_del_that_runs_out_of_descriptors_does_what_it_can(host: Host, one_shot: Path, limit: int) -> None:
    host.cni_bin = one_shot
    host.uplink()
    (pod,) = host.pods("p1")
    pod.attach(CONF)

    status = call(host, "DEL", pod, f"prlimit --nofile={limit}:{limit}")
    answer = (host.scratch / "answer").read_text()

    assert status == 0 or '"code": 999' not in answer, answer
    pod.detach(CONF)
    assert left(host, pod) == []


def test_the_kill_is_seen(host: Host, one_shot: Path) -> None:
    """The first point is before anything was done, and there the process does end."""
    host.cni_bin = one_shot
    host.uplink()
    (pod,) = host.pods("p1")
    (first, *_others) = points(one_shot_killed(host, "ADD", pod, None))
    pod.detach(CONF)
    one_shot_killed(host, "ADD", pod, first)

    assert "killed by SIGKILL" in (host.scratch / "trace").read_text()
