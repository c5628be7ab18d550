"""Pods on macvlan: the launcher with the agent, the one-shot plugin, and Debian's Go pair, in the same run.

Everything is in namespaces of the bench's own; the uplinks are veth pairs.
"""

import contextlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.bench.timing import Burst, Call, Json, burst, call, interleaved, timed, write_conf

GO = Path("/usr/lib/cni/macvlan")
SUBNETS = {"IPv4": ["10.1.0.0/16"], "dual stack": ["10.1.0.0/16", "fd00:1::/64"]}


class Form(NamedTuple):
    """One way to have a pod attached: what is executed, on which uplink."""

    name: str
    executable: Path
    uplink: str

    def conf(self, stack: str, **keys: object) -> Json:
        ranges = [[{"subnet": subnet}] for subnet in SUBNETS[stack]]
        ipam = {"ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]}
        if self.executable == GO:
            plugin = {"type": "macvlan", "master": self.uplink, "ipam": {"type": "host-local", **ipam}}
        else:
            plugin = {"type": "cni-vlan", "parent": self.uplink, "ipam": {"type": "cni-ipam", **ipam}}
        name = f"{self.name}-{stack}".replace(" ", "-").replace("+", "-")
        return {"cniVersion": "1.0.0", "name": name, **plugin, **keys}


class Bench:
    """The namespaces, and the configurations of each form."""

    def __init__(self, directory: Path, pods: int) -> None:
        self.directory = directory
        self.pods = [f"pod{number}" for number in range(pods)]
        for pod in self.pods:
            run("ip", "netns", "add", pod)
        self._confs: dict[tuple[Form, str], Path] = {}

    def verb(self, form: Form, stack: str, verb: str, pod: str) -> Call:
        key = (form, stack)
        if key not in self._confs:
            self._confs[key] = write_conf(self.directory, form.conf(stack))
        return call(form.executable, verb, self._confs[key], f"{form.name[:2]}-{pod}", f"/run/netns/{pod}")

    def one_at_a_time(self, form: Form, stack: str) -> Callable[[int], Iterator[float]]:
        """Yield the milliseconds of an ADD and of its DEL."""

        def case(number: int) -> Iterator[float]:
            pod = self.pods[number % len(self.pods)]
            yield timed(self.verb(form, stack, "ADD", pod))
            yield timed(self.verb(form, stack, "DEL", pod))

        return case

    def burst(self, form: Form, verb: str, pods: int) -> Burst:
        return burst([self.verb(form, "IPv4", verb, pod) for pod in self.pods[:pods]])


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def make_uplink(name: str) -> None:
    run("ip", "link", "add", name, "type", "veth", "peer", "name", f"far-{name}")
    for end in (name, f"far-{name}"):
        run("ip", "link", "set", end, "up")


class Agent:
    """A running agent, and what it costs."""

    def __init__(self, executable: Path) -> None:
        socket = Path("/run/cni-vlan/agent.sock")
        socket.unlink(missing_ok=True)
        self._process = subprocess.Popen([executable, "serve", "--no-log"])
        while not socket.exists():
            assert self._process.poll() is None
            time.sleep(0.01)

    def cpu_s(self) -> float:
        """Processor time so far, user and system (proc(5), stat)."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mib(self) -> float:
        """Proportional set size now."""
        for line in Path(f"/proc/{self._process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
        raise AssertionError("no Pss")

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()


@contextlib.contextmanager
def processor_time(agent: Agent | None, count: int) -> Iterator[list[float]]:
    """Fill a list with the milliseconds of processor time that each of so many calls in the block took."""

    def spent() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return children.ru_utime + children.ru_stime + (agent.cpu_s() if agent else 0)

    found: list[float] = []
    before = spent()
    yield found
    found.append((spent() - before) / count * 1e3)


def compare(bench: Bench, forms: list[Form], stack: str, rounds: int) -> dict[str, list[float]]:
    """Return the median milliseconds of ADD and DEL for each form."""
    return interleaved({form.name: bench.one_at_a_time(form, stack) for form in forms}, rounds)
