"""cni-ipam beside Debian's host-local: with more and more leases, and many at once."""

import ipaddress
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.bench import report
from tests.bench.timing import Call, burst, call, finish, interleaved, start, timed, write_conf
from tests.store.ipam import Ipam, Json

NEARLY_FULL = 65_513  # of a /16: 20 addresses are free
SIZES = (0, 1_000, 10_000, 60_000, NEARLY_FULL)
QUICK = (0, 1_000, 10_000)
FIRST = int(ipaddress.ip_address("10.0.0.2"))
HOST_LOCAL = Path("/usr/lib/cni/host-local")


class Side:
    """One plugin with its own leases."""

    def __init__(self, executable: Path, directory: Path) -> None:
        self.executable = executable
        self.ipam = Ipam(executable, directory / "leases")
        self.ipam.conf["cniVersion"] = "1.0.0"
        self.ipam.conf["ipam"] = {
            "type": executable.name, "dataDir": str(directory / "leases"),
            "ranges": [[{"subnet": "10.0.0.0/16"}]],
        }  # fmt: skip
        self.ipam.data_dir.mkdir(parents=True)
        self.conf = write_conf(directory, self.ipam.conf)
        self.leases = 0

    def verb(self, verb: str, container: str) -> Call:
        return call(self.executable, verb, self.conf, container)

    def grow(self, leases: int) -> None:
        """Have so many leases, made as fast as each side allows."""
        directory = self.ipam.data_dir / "lan"
        directory.mkdir(exist_ok=True)
        for number in range(self.leases, leases):
            if self.executable == HOST_LOCAL:
                address = ipaddress.ip_address(FIRST + number)
                (directory / str(address)).write_text(f"pod{number}\r\neth0")
                (directory / "last_reserved_ip.0").write_text(str(address))
            else:
                assert self.ipam.warm("ADD", f"pod{number}").status == 0
        self.leases = max(leases, self.leases)


class Row(NamedTuple):
    """Milliseconds of one side at one number of leases."""

    add: float
    check: float
    delete: float


Found = dict[int, dict[str, Row]]


def as_process(side: Side) -> Callable[[int], Iterator[float]]:
    """Yield ADD, CHECK and DEL as a runtime has them: a process each."""
    check = write_conf(side.conf.parent, {})

    def case(number: int) -> Iterator[float]:
        pod = f"x{number}"
        started = time.perf_counter()
        previous = finish(*start(side.verb("ADD", pod)))
        yield (time.perf_counter() - started) * 1e3
        check.write_text(json.dumps({**side.ipam.conf, "prevResult": json.loads(previous)}))
        yield timed(call(side.executable, "CHECK", check, pod))
        yield timed(side.verb("DEL", pod))

    return case


def in_warm_process(side: Side) -> Callable[[int], Iterator[float]]:
    """Yield the same without the start of a process: what the agent does."""

    def case(number: int) -> Iterator[float]:
        pod = f"x{number}"
        extra: Json = {}
        for verb in ("ADD", "CHECK", "DEL"):
            started = time.perf_counter()
            reply = side.ipam.warm(verb, pod, extra)
            yield (time.perf_counter() - started) * 1e3
            assert reply.status == 0, reply
            extra = {"prevResult": reply.document} if verb == "ADD" else {}

    return case


def measure(executable: Path, directory: Path, rounds: int, sizes: tuple[int, ...]) -> Found:
    theirs, ours = Side(HOST_LOCAL, directory / "theirs"), Side(executable, directory / "ours")
    cases = {
        "host-local": as_process(theirs),
        "cni-ipam": as_process(ours),
        "cni-ipam, warm": in_warm_process(ours),
    }
    found: Found = {}
    for size in sizes:
        theirs.grow(size)
        ours.grow(size)
        medians = interleaved(cases, rounds if size <= 10_000 else max(5, rounds // 3))
        found[size] = {name: Row(*figures) for name, figures in medians.items()}
        print(
            f"{size} leases: " + ", ".join(f"{n} {row.add:.1f} ms" for n, row in found[size].items()),
            flush=True,
        )
    return found


class Storm(NamedTuple):
    """So many processes at once: milliseconds to the last end, and one after another."""

    name: str
    processes: int
    at_once: float
    serially: float


def storms(executable: Path, directory: Path) -> list[Storm]:
    found = []
    for name, program, processes in (
        ("host-local", HOST_LOCAL, 50),
        ("cni-ipam", executable, 50),
        ("cni-ipam", executable, 200),
    ):
        side = Side(program, directory / f"storm-{name}-{processes}")
        side.grow(1000)
        serially = sum(timed(side.verb("ADD", f"s{number}")) for number in range(processes))
        calls = [side.verb("ADD", f"b{number}") for number in range(processes)]
        found.append(Storm(name, processes, burst(calls).each[-1], serially))
        print(found[-1], flush=True)
    return found


def write(found: Found, many: list[Storm]) -> None:
    """Write the part of docs/performance.md that is about IPAM."""
    names = list(next(iter(found.values())))
    header = ["leases", *(f"{name}: ADD / CHECK / DEL" for name in names), "ADD, warm : host-local"]
    rows = []
    for size, sides in found.items():
        label = f"{size:,}" + (" (20 free of a /16)" if size == NEARLY_FULL else "")
        cells = [" / ".join(map(report.ms, sides[name])) for name in names]
        rows.append([label, *cells, f"1 : {sides['host-local'].add / sides['cni-ipam, warm'].add:.0f}"])
    base = found[min(found)]
    growth = [
        f"{name}: {found[size][name].add / base[name].add:.2f} at {size:,}"
        for name in names[1:]
        for size in found
        if size
    ]
    burst_rows = [
        [storm.name, str(storm.processes), report.ms(storm.at_once), report.ms(storm.serially),
         f"{storm.at_once / storm.serially:.2f}"]
        for storm in many
    ]  # fmt: skip
    text = [
        f"Milliseconds, medians. {report.machine()}.",
        report.table(header, rows),
        f"ADD against ADD with no leases: {'; '.join(growth)}.",
        "Many processes at once on one pool of 1,000 leases, the slowest against the same one after another:",
        report.table(["", "processes", "slowest, ms", "serially, ms", "ratio"], burst_rows),
        "![ADD over the number of leases](ipam.svg)",
    ]
    report.write("ipam", "\n\n".join(text))
    lines = {name: [(size, sides[name].add) for size, sides in found.items()] for name in names}
    report.plot("ipam", "ADD over the number of leases", "leases", lines)
