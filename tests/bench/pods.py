"""Pods on macvlan: the launcher with the agent, the one-shot plugin, and Debian's Go pair, in the same run.

Everything is in namespaces of the bench's own; the uplinks are veth pairs.
"""

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench.timing import Burst, Call, Json, burst, call, interleaved, timed, write_conf

GO, GO_IPVLAN = Path("/usr/lib/cni/macvlan"), Path("/usr/lib/cni/ipvlan")
DIST = Path(__file__).parents[2] / "dist"
FLOOR = DIST / "floor"
FLOOR_UPLINK = "up-floor"  # its own: links of one parent wait for one another
SUBNETS = {"IPv4": ["10.1.0.0/16"], "dual stack": ["10.1.0.0/16", "fd00:1::/64"]}


class Form(NamedTuple):
    """One way to have a pod attached: what is executed, on which uplink."""

    name: str
    executable: Path
    uplink: str
    mode: str = ""
    environ: tuple[tuple[str, str], ...] = ()
    host_access: bool = False

    def conf(self, stack: str, **keys: object) -> Json:
        ranges = [[{"subnet": subnet}] for subnet in SUBNETS[stack]]
        ipam = {"ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]}
        if self.executable in {GO, GO_IPVLAN}:
            plugin = {"master": self.uplink, "ipam": {"type": "host-local", **ipam}}
        else:
            plugin = {"parent": self.uplink, "ipam": {"type": "cni-ipam", **ipam}}
        name = "-".join([*self.name.split(), *stack.split(), self.uplink]).replace("+", "and")
        extra: Json = {"mode": self.mode} if self.mode else {}
        if self.host_access:
            extra["hostAccess"] = True
        return {"cniVersion": "1.0.0", "name": name, "type": self.executable.name, **plugin, **extra, **keys}


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
        container = f"{form.name[:2]}-{pod}"
        made = call(form.executable, verb, self._confs[key], container, f"/run/netns/{pod}")
        return made.with_environ(form.environ)

    def one_at_a_time(self, form: Form, stack: str, fixed: str = "") -> Callable[[int], Iterator[float]]:
        """Yield the milliseconds of an ADD and of its DEL."""

        def case(number: int) -> Iterator[float]:
            pod = fixed or self.pods[number % len(self.pods)]
            yield timed(self.verb(form, stack, "ADD", pod))
            yield timed(self.verb(form, stack, "DEL", pod))

        return case

    def burst(self, form: Form, verb: str, pods: int) -> Burst:
        return burst([self.verb(form, "IPv4", verb, pod) for pod in self.pods[:pods]])

    def bursts(self, form: Form, pods: int, rounds: int) -> tuple[Burst, Burst]:
        """Return the burst of ADDs and that of DELs that took the median time."""
        pairs = [(self.burst(form, "ADD", pods), self.burst(form, "DEL", pods)) for _round in range(rounds)]
        adds, deletes = zip(*pairs, strict=True)
        return sorted(adds)[rounds // 2], sorted(deletes)[rounds // 2]

    def processor(self, form: Form, agent: "Agent | None", pods: int = 100) -> tuple[float, float]:
        """Return the milliseconds of processor time of an ADD and of a DEL in bursts."""
        figures = []
        for verb in ("ADD", "DEL"):
            with processor_time(agent, pods) as spent:
                self.burst(form, verb, pods)
            figures.append(spent[0])
        return figures[0], figures[1]

    def crowded(self, form: Form, sizes: Sequence[int], rounds: int = 31) -> dict[int, tuple[float, float]]:
        """Return the milliseconds of an ADD, and of the floor's, by the number of pods that are there."""
        found: dict[int, tuple[float, float]] = {}
        there = 0
        for size in sizes:
            self.burst_of(form, "ADD", self.pods[there:size])
            there = size
            last = self.pods[-1]
            cases = {"": self.one_at_a_time(form, "IPv4", last), "floor": floor(self, form.uplink, last)}
            seen = interleaved(cases, rounds)
            found[size] = seen[""][0], seen["floor"][0]
        self.burst_of(form, "DEL", self.pods[:there])
        return found

    def burst_of(self, form: Form, verb: str, pods: Sequence[str]) -> None:
        for at in range(0, len(pods), 50):
            burst([self.verb(form, "IPv4", verb, pod) for pod in pods[at : at + 50]])


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def make_uplink(name: str) -> None:
    run("ip", "link", "add", name, "type", "veth", "peer", "name", f"far-{name}")
    for end in (name, f"far-{name}"):
        run("ip", "link", "set", end, "up")


class Agent:
    """A running agent, and what it costs."""

    def __init__(self, executable: Path, socket: Path = Path("/run/cni-vlan/agent.sock")) -> None:
        socket.unlink(missing_ok=True)
        metrics = f"{socket.parent}/metrics.sock"
        options = ["--socket", str(socket), "--metrics", metrics, "--no-log"]
        self._process = subprocess.Popen([executable, "serve", *options])
        self.final_mib = 0.0
        while not socket.exists():
            assert self._process.poll() is None
            time.sleep(0.01)

    def cpu_s(self) -> float:
        """Processor time so far, user and system (proc(5), stat)."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mib(self) -> float:
        """Proportional set size now."""
        return self._kilobytes("smaps_rollup", "Pss:") / 1024

    def peak_mib(self) -> float:
        """The largest resident set so far."""
        return self._kilobytes("status", "VmHWM:") / 1024

    def _kilobytes(self, file: str, key: str) -> int:
        for line in Path(f"/proc/{self._process.pid}/{file}").read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1])
        raise AssertionError(f"no {key}")

    def stop(self) -> None:
        """Stop it; its largest resident set is kept."""
        self.final_mib = self.peak_mib()
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


class Figures(NamedTuple):
    """All that was measured; milliseconds, or MiB of memory."""

    alone: dict[str, dict[str, list[float]]]  # by stack and form: ADD, DEL
    floor: tuple[float, float, float]  # its milliseconds; an ADD and a VERSION by the agent in units of it
    bursts: dict[tuple[str, int], tuple[Burst, Burst]]  # by form and pods: ADD, DEL
    processor: dict[str, tuple[float, float]]  # by form: ADD, DEL
    crowded: dict[int, tuple[float, float]]  # by pods that are there: ADD, the floor's
    memory: dict[str, float]


def floor(bench: Bench, uplink: str, fixed: str = "") -> Callable[[int], Iterator[float]]:
    """Yield the milliseconds of a static program that asks the kernel for an ADD and a DEL, and no more."""

    def case(number: int) -> Iterator[float]:
        netns = f"/run/netns/{fixed or bench.pods[number % len(bench.pods)]}"
        for words in ([uplink, netns, "eth0", "10.1.255.9", "16", "10.1.0.1"], [netns, "eth0"]):
            started = time.perf_counter()
            pid = os.posix_spawn(FLOOR, [str(FLOOR), *words], os.environ)
            assert os.waitpid(pid, 0)[1] == 0
            yield (time.perf_counter() - started) * 1e3

    return case


def in_floors(bench: Bench, warm: Form, rounds: int) -> tuple[float, float, float]:
    """Return the milliseconds of the floor, and in floors an ADD and a VERSION, which changes nothing."""
    make_uplink(FLOOR_UPLINK)
    cases = {
        "floor": floor(bench, FLOOR_UPLINK),
        "ADD": bench.one_at_a_time(warm, "IPv4"),
        "VERSION": lambda _number: iter([timed(bench.verb(warm, "IPv4", "VERSION", bench.pods[0]))]),
    }
    found = {name: figures[0] for name, figures in interleaved(cases, rounds).items()}
    return found["floor"], found["ADD"] / found["floor"], found["VERSION"] / found["floor"]


def measure(directory: Path, *, quick: bool) -> Figures:
    go, warm, cold = (
        Form("Go pair", GO, "up-go"),
        Form("launcher + agent", directory / "bin" / "cni-vlan", "up-warm"),
        Form("one-shot", DIST / "bundle" / "cni-vlan", "up-cold"),
    )
    warm.executable.parent.mkdir()
    shutil.copy2(DIST / "launcher", warm.executable)
    reached = warm._replace(name="with hostAccess", uplink="up-host", host_access=True)
    for form in (go, warm, cold, reached):
        make_uplink(form.uplink)
    bench = Bench(directory, 100 if quick else 500)
    agent = Agent(DIST / "bundle" / "cni-agent")
    memory = {"idle": agent.memory_mib()}
    run("ip", "netns", "add", "stays")
    timed(bench.verb(reached, "IPv4", "ADD", "stays"))  # most pods are not the first on their parent
    try:
        pairs = 300 if quick else 10_000
        for number in range(pairs):
            for verb in ("ADD", "DEL"):
                timed(bench.verb(warm, "IPv4", verb, bench.pods[number % 100]))
        memory[f"after {pairs:,} pairs"] = agent.memory_mib()
        print(memory, flush=True)
        alone = {"IPv4": compare(bench, [go, warm, reached, cold], "IPv4", 15 if quick else 51)}
        alone["dual stack"] = compare(bench, [go, warm, reached, cold], "dual stack", 3 if quick else 9)
        least, add, version = in_floors(bench, warm, 15 if quick else 51)
        print(alone, f"floor {least:.2f} ms, ADD {add:.2f}, VERSION {version:.2f} floors", flush=True)
        bursts, processor = {}, {}
        for pods in (50, 100) if quick else (50, 100, 250):
            for form in (go, warm, cold) if pods == 50 else (go, warm):
                bursts[form.name, pods] = bench.bursts(form, pods, 3)
                print(form.name, pods, *(f"{b.wall:.0f} ms" for b in bursts[form.name, pods]), flush=True)
            memory |= {
                f"peak with {pods} at once": agent.peak_mib(),
                f"after {pods} at once": agent.memory_mib(),
            }
        for form in (go, warm):
            processor[form.name] = bench.processor(form, agent if form == warm else None)
        print(processor, flush=True)
        crowded = {} if quick else bench.crowded(warm, (0, 100, 499))
        print(crowded, flush=True)
    finally:
        agent.stop()
    return Figures(alone, (least, add, version), bursts, processor, crowded, memory)
