"""The node that is tried: its uplinks, pods and agent, and how each is seen from outside."""

import contextlib
import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.chaos.networks import UPLINKS, Net
from tests.lab.warm import Agents
from tests.lab.world import Host, Json, Pod

PODS = 12
IFNAMES = ("eth0", "net1")
_KEY = re.compile(r"chaos-\d+:(?:eth0|net1)")
_ENOUGH_S = 30
EMPTY, ATTACHED, UNKNOWN = "empty", "attached", "unknown"


class Slot:
    """One interface of one pod: what a runtime knows of it."""

    def __init__(self, pod: Pod, ifname: str) -> None:
        self.pod = pod
        self.ifname = ifname
        self.state = EMPTY
        self.broken = False  # its link went with a namespace or a parent
        self.container = ""
        self.net: Net | None = None
        self.result: Json = {}

    @property
    def key(self) -> str:
        return f"{self.container}:{self.ifname}"

    @property
    def label(self) -> str:
        """The slot in a line of a report."""
        return f"{self.pod.name} {self.ifname} ({self.key} on {self.net.name if self.net else 'nothing'})"


class Weight(NamedTuple):
    """What the agent holds."""

    descriptors: int
    threads: int
    resident_mib: float


class Field:
    """A host with two uplinks, links of somebody else, and pods."""

    def __init__(self, host: Host, agents: Agents, one_shot: Path, agent: int) -> None:
        self.host = host
        self.one_shot = one_shot
        self.agent: int | None = agent
        self._agents = agents
        for number, uplink in enumerate(UPLINKS):
            host.uplink(uplink, f"far{number}")
        self._somebody_elses()
        self.foreign = self._foreign()
        self.slots = [Slot(pod, ifname) for pod in self._pods() for ifname in IFNAMES]
        self.squatters: dict[str, Json] = {}
        self.operations: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()
        self._containers = 0
        self.lightest: Weight | None = None

    def _somebody_elses(self) -> None:
        for command in (
            "link add ext0 type dummy",
            "link set ext0 alias mine",
            "link add link eth0 name eth0.900 type vlan id 900",
            "link set eth0.900 up",
            "link add link eth0.900 name ext1 type macvlan mode bridge",
        ):
            self.host.ip(*command.split())

    def _pods(self) -> list[Pod]:
        return self.host.pods(*(f"pod{number}" for number in range(PODS)))

    def _foreign(self) -> dict[str, Json]:
        return {
            name: _unchanging(link)
            for name, link in self.host.links().items()
            if name in {"ext0", "ext1", "eth0.900", *UPLINKS}
        }

    def next_container(self) -> str:
        self._containers += 1
        return f"chaos-{self._containers}"

    def squat(self, name: str) -> None:
        """Count a link as somebody else's from now on."""
        self.squatters[name] = _unchanging(self.host.links()[name])

    def leave(self, name: str) -> None:
        """Have somebody else take the link away again; that it is still there was seen before."""
        self.host.run("ip", "link", "delete", name, check=False)
        del self.squatters[name]

    def path(self, inside: str) -> Path:
        """Return a file of the host as this process sees it."""
        return Path(f"/proc/{self.host.holder}/root{inside}")

    def changed(self) -> list[str]:
        """Say which links of somebody else are not as they were."""
        links = {name: _unchanging(link) for name, link in self.host.links().items()}
        wanted = self.foreign | self.squatters
        return [name for name, link in wanted.items() if links.get(name) != link]

    def recorded(self) -> dict[str, list[str]]:
        """Return the files that name an attachment, by the attachment's key."""
        found: dict[str, list[str]] = {}
        top = self.path("/var/lib/cni")
        for directory, _directories, names in os.walk(top):
            for name in names:
                path = Path(directory, name)
                texts = [str(path)]
                with contextlib.suppress(OSError, UnicodeDecodeError):
                    texts.append(path.read_text())
                for key in {key for text in texts for key in _KEY.findall(text)}:
                    found.setdefault(key, []).append(str(path.relative_to(top)))
        return found

    def pod_links(self) -> dict[str, list[Json]]:
        """Return the links of each pod with their addresses, as `ip` shows them."""
        names = sorted({slot.pod.name for slot in self.slots})
        script = "for pod; do ip -n $pod -j -d address; echo; done"
        shown = self.host.run("sh", "-c", script, "sh", *names).stdout.splitlines()
        lines = [line for line in shown if line]
        return {name: json.loads(line) for name, line in zip(names, lines, strict=True)}

    def start_agent(self) -> None:
        """Start an agent; one that runs already is stopped when the new one listens."""
        before, old = self.agent, _inode(self.host.socket)
        self.agent = self._agents.start(self.host.holder, self.host.socket)
        for _ in _patiently():
            if _inode(self.host.socket) not in {None, old}:
                break
        if before is not None:
            os.kill(before, signal.SIGTERM)
            for _ in _patiently():
                if not Path(f"/proc/{before}").exists():
                    break
        self.lightest = None

    def kill_agent(self) -> None:
        if self.agent is not None:
            os.kill(self.agent, signal.SIGKILL)
            for _ in _patiently():
                if not Path(f"/proc/{self.agent}").exists():
                    break
            self.agent = None

    def weight(self) -> Weight:
        """Weigh the agent."""
        process = Path(f"/proc/{self.agent}")
        status = dict(
            line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line
        )
        descriptors = len(os.listdir(process / "fd"))
        return Weight(descriptors, int(status["Threads"]), int(status["VmRSS"].split()[0]) / 1024)


def _unchanging(link: Json) -> Json:
    """Return what of a link changes by nobody's use of it: flags and promiscuity do."""
    return {key: link.get(key) for key in ("ifindex", "ifname", "ifalias", "address", "mtu", "linkinfo")}


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return None


def _patiently() -> Iterator[None]:
    """Yield until it has been long enough, then fail."""
    give_up = time.monotonic() + _ENOUGH_S
    while time.monotonic() < give_up:
        yield
        time.sleep(0.01)
    raise AssertionError("an agent neither starts nor ends")
