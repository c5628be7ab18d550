"""Every point of a verb is found, and a process is seen to be killed at it; then what is left is looked at.

Each run starts on a host without state; a new agent does what comes after the kill. No run shows all points:
what waits or is kept differs from run to run. So those of every run are worked off, of the killed ones too.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from tests.crash.points import Point
from tests.crash.victims import Victim, an_agent, attachment_locks
from tests.lab.waiting import wait_until
from tests.lab.warm import Agents
from tests.lab.world import Host, Json, Pod

WHOLE_RUNS = 2
ATTEMPTS = 8
VALID = "cni.dev/valid-attachments"
NAME = "pod"  # the same in all runs, as it is part of what a point is about


class Scene(NamedTuple):
    """A host with its links, a network, what does the verb and is killed, and who cleans up."""

    host: Host
    conf: Json
    victim: Victim
    agents: Agents
    links: frozenset[str]


class Outcome(NamedTuple):
    """What became of a kill at a point."""

    point: Point
    way: str
    wrong: list[str]

    @property
    def words(self) -> str:
        return "**" + "; ".join(self.wrong) + "**" if self.wrong else "nothing left"


def without_mac(conf: Json) -> Json:
    """Return a network as the next pod uses it: the first one's MAC address may still be taken."""
    return {key: value for key, value in conf.items() if key != "mac"}


def cleared(scene: Scene) -> Pod:
    """Take everything away, and return a pod for the next run."""
    host = scene.host
    names = [line.split()[0] for line in host.run("ip", "netns", "list").stdout.splitlines()]
    for name in names:
        if name.startswith(NAME):
            host.run("ip", "netns", "delete", name)
    for name in set(host.links()) - scene.links:
        host.run("ip", "link", "delete", name, check=False)  # one goes with another
    host.run("sh", "-c", "rm -rf /var/lib/cni/* /run/cni-vlan/*")
    return host.namespace(NAME)


def left(host: Host, pod: Pod, links: frozenset[str]) -> list[str]:
    """What is kept on disk, but locks; in the sandbox; and on the host, but the links that were there."""
    kept = [name for name in host.state() if not name.startswith("cni-vlan/locks/")]
    inside = [link["ifname"] for link in pod.ip("link") if link["ifname"] != "lo"]
    return kept + inside + sorted(set(host.links()) - links)


def after_del(scene: Scene, pod: Pod) -> list[str]:
    """What is wrong when the runtime's DEL comes, as it does after an ADD or a DEL that failed.

    A file that was being written may still be there under its temporary name: the next write takes that over.
    """
    reply = pod.delete(scene.conf)
    wait_until(lambda: not attachment_locks(scene.host))  # an agent removes them after its answer
    kept = [name for name in left(scene.host, pod, scene.links) if not name.endswith("/.new")]
    return [*([] if reply.status == 0 else [reply.stdout]), *kept]


def after_gc(scene: Scene, pod: Pod) -> list[str]:
    """What is wrong when no DEL comes: the sandbox goes, another pod comes, and GC is called."""
    host, conf = scene.host, without_mac(scene.conf)
    host.run("ip", "netns", "delete", pod.name)
    other = host.namespace(f"{NAME}-next")
    reply = other.add(conf)
    wrong = [] if reply.status == 0 else [reply.stdout]
    valid = [{"containerID": other.name, "ifname": "eth0"}]
    collected = host.plugin("GC", {**conf, VALID: valid})
    wrong += [] if collected.status == 0 else [collected.stdout]
    other.detach(conf)
    return wrong + left(host, other, scene.links)


WAYS: dict[str, Callable[[Scene, Pod], list[str]]] = {"del": after_del, "gc": after_gc}


class Exploration:
    """Points of a verb as they become known, each with its number in the run that showed it last."""

    def __init__(self, scene: Scene, verb: str) -> None:
        self._scene = scene
        self._verbs = ["ADD", "DEL"][: 1 + (verb == "DEL")]
        self.numbers: dict[Point, int] = {}
        self.missed: list[tuple[Point, str]] = []
        for _run in range(WHOLE_RUNS):
            self._run(None)

    def outcomes(self, ways_of: Callable[[Point], Iterable[str]] = lambda _point: WAYS) -> Iterator[Outcome]:
        """Kill at each point, once for each way to go on from there."""
        done: set[Point] = set()
        while todo := [point for point in self.numbers if point not in done]:
            done.update(todo)
            for point in todo:
                for way in ways_of(point):
                    yield from self._killed(point, way)

    def _killed(self, point: Point, way: str) -> Iterator[Outcome]:
        scene = self._scene
        for _attempt in range(ATTEMPTS):
            died_at, pod = self._run(point)
            if died_at == point:
                with an_agent(scene.host, scene.agents):
                    wrong = WAYS[way](scene, pod)
                outcome = Outcome(point, way, wrong)
                print(f"{point.name} {point.about}, {way}: {outcome.words}", flush=True)
                yield outcome
                return
            self._run(None)  # whose numbers are those of a whole run again
        self.missed.append((point, way))

    def _run(self, point: Point | None) -> tuple[Point | None, Pod]:
        scene = self._scene
        pod = cleared(scene)
        kill = (point.name, self.numbers[point]) if point else None
        trace = scene.victim(scene.host, scene.conf, self._verbs, pod, kill)
        self.numbers |= trace.numbers
        return trace.died_at, pod
