"""Killed before every system call that changes something, of a whole ADD and a whole DEL: nothing is left.

After each kill either the runtime's DEL comes, and cleans up, or none does: then the next ADD works, and GC
cleans up. The tables of all points are written below dist/crash-points.
"""

import resource
from pathlib import Path

import pytest

from tests.crash.exploration import ATTEMPTS, Exploration, Scene, left, without_mac
from tests.crash.points import Trace
from tests.crash.table import write_table
from tests.crash.victims import Agent, Kill, OneShot, Victim, an_agent, call
from tests.lab.warm import Agents
from tests.lab.world import Host, network

CONF = network(
    "lan", "eth0", "10.0.0.0/28", "2001:db8::/64", announce=0, mac="02:00:00:00:00:07", hostAccess=True
)
NEXT = without_mac(CONF)
UPLINK = frozenset({"lo", "eth0"})


@pytest.fixture(params=["one-shot", "agent"])
def victim(request: pytest.FixtureRequest, agents: Agents, one_shot: Path) -> Victim:
    """What does a verb and is killed."""
    return Agent(agents) if request.param == "agent" else OneShot(agents, one_shot)


@pytest.mark.parametrize("verb", ["ADD", "DEL"])
def test_killed_anywhere_nothing_is_left(
    host: Host, agents: Agents, victim: Victim, verb: str, request: pytest.FixtureRequest
) -> None:
    host.uplink()
    exploration = Exploration(Scene(host, CONF, victim, agents, UPLINK), verb)
    outcomes = list(exploration.outcomes())
    write_table(f"{verb} by the {request.node.callspec.params['victim']}", outcomes)

    assert len(exploration.numbers) > 20
    assert exploration.missed == []
    assert [outcome for outcome in outcomes if outcome.wrong] == []


def test_killed_anywhere_in_making_a_shim_anew_the_next_pod_mends_it(
    host: Host, agents: Agents, one_shot: Path
) -> None:
    """Somebody has removed the shim under a pod."""
    host.uplink()
    victim = OneShot(agents, one_shot)
    old, first, after = host.pods("old", "first", "after")
    with an_agent(host, agents):
        address = old.attach(NEXT)["ips"][0]["address"].partition("/")[0]

    def traced(kill: Kill) -> Trace:
        with an_agent(host, agents):
            first.detach(CONF)
        host.run("ip", "link", "delete", "host-eth0", check=False)
        return victim(host, CONF, ["ADD"], first, kill)

    traced(None)  # what is made once in a boot
    numbers = traced(None).numbers
    reached, wrong = [], []
    for point in list(numbers):
        for _attempt in range(ATTEMPTS):
            trace = traced((point.name, numbers[point]))
            numbers |= trace.numbers
            if trace.died_at == point:
                reached.append(point)
                break
            numbers |= traced(None).numbers  # the search for an address opens more files now and then
        with an_agent(host, agents):
            first.detach(CONF)
            after.attach(NEXT)
            if address not in {route["dst"] for route in host.ip("route", "show", "dev", "host-eth0")}:
                wrong.append(point)
            after.detach(NEXT)
    old.detach(NEXT)

    assert len(reached) > 20
    assert set(numbers) - set(reached) == set()
    assert wrong == []
    assert left(host, old, UPLINK) == []


SIGNALS = "mkdir rename link symlink unlink sendto".split()


@pytest.mark.parametrize("call_", SIGNALS)
def test_sigterm_anywhere_in_an_add_undoes_it(host: Host, one_shot: Path, call_: str) -> None:
    host.cni_bin = one_shot
    host.uplink()
    for nth in range(1, 30):
        (pod,) = host.pods(f"p{nth}")
        log = host.scratch / "trace"
        inject = f"-e inject={call_}:signal=TERM:when={nth}"
        status = call(host, CONF, "ADD", pod, f"strace -f -qq -o {log} -e trace={call_} {inject}")
        delivered = "SIGTERM" in log.read_text()
        if status:
            assert '"code": 11' in (host.scratch / "answer").read_text()
            assert left(host, pod, UPLINK) == [], nth
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

    status = call(host, CONF, "DEL", pod, f"prlimit --nofile={limit}:{limit}")
    answer = (host.scratch / "answer").read_text()

    assert status == 0 or '"code": 999' not in answer, answer
    pod.detach(CONF)
    assert left(host, pod, UPLINK) == []


@pytest.mark.parametrize("spare", range(1, 12))
def test_a_del_of_an_agent_that_runs_out_of_descriptors_does_what_it_can(
    host: Host, agents: Agents, spare: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it could not do, it names; the steps that it could do are done, and the next DEL does the rest."""
    monkeypatch.setenv("CNI_VLAN_BUNDLE", "/nowhere")
    host.uplink()
    (pod,) = host.pods("p1")
    with an_agent(host, agents) as agent:
        pod.attach(CONF)
        free = spare + max(int(path.name) for path in Path(f"/proc/{agent}/fd").iterdir()) + 1
        resource.prlimit(agent, resource.RLIMIT_NOFILE, (free, 4096))
        reply = pod.delete(CONF)
        resource.prlimit(agent, resource.RLIMIT_NOFILE, (4096, 4096))
        kept = left(host, pod, UPLINK)
        pod.detach(CONF)

        assert reply.code != 999, reply
        assert bool(reply.status) == bool(kept), (reply, kept)
        assert left(host, pod, UPLINK) == []


def test_where_a_kill_came_is_seen(host: Host, agents: Agents, one_shot: Path) -> None:
    """Not at another point, and not at the end of its own accord."""
    host.uplink()
    victim = OneShot(agents, one_shot)
    (pod,) = host.pods("p1")
    whole = victim(host, CONF, ["ADD"], pod, None)
    never = victim(host, CONF, ["DEL"], pod, ("symlink", 100))
    (point,) = (point for point in whole.numbers if point.name == "symlink")
    killed = victim(host, CONF, ["ADD"], pod, (point.name, whole.numbers[point]))

    assert (whole.died_at, never.died_at) == (None, None)
    assert killed.died_at == point
