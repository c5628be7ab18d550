"""cni-ipam beside Debian's host-local: with more and more leases, and many at once."""

import ipaddress
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.timing import Call, call, interleaved, write_conf
from tests.store.ipam import Ipam

SIZES = (0, 1_000, 10_000, 60_000, 65_513)  # the last leaves 20 free of a /16
FIRST = int(ipaddress.ip_address("10.0.0.2"))
HOST_LOCAL = Path("/usr/lib/cni/host-local")


class Side:
    """One plugin with its own leases."""

    def __init__(self, executable: Path, directory: Path) -> None:
        self.ipam = Ipam(executable, directory / "leases")
        self.ipam.conf["cniVersion"] = "1.0.0"
        kind = executable.name
        self.ipam.conf["ipam"] = {
            "type": kind, "dataDir": str(directory / "leases"), "ranges": [[{"subnet": "10.0.0.0/16"}]],
        }  # fmt: skip
        self.ipam.data_dir.mkdir(parents=True)
        self.conf = write_conf(directory, self.ipam.conf)
        # host-local takes no prevResult of a whole attachment amiss.
        previous = {"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.1/16"}]}
        self.previous = write_conf(directory, {**self.ipam.conf, "prevResult": previous})
        self.leases = 0

    def verb(self, verb: str, container: str) -> Call:
        return call(self.ipam.executable, verb, self.conf, container)

    def grow(self, leases: int) -> None:
        """Have so many leases, made as fast as each side allows."""
        directory = self.ipam.data_dir / "lan"
        for number in range(self.leases, leases):
            if self.ipam.executable == HOST_LOCAL:
                directory.mkdir(exist_ok=True)
                address = ipaddress.ip_address(FIRST + number)
                (directory / str(address)).write_text(f"pod{number}\r\neth0")
                (directory / "last_reserved_ip.0").write_text(str(address))
            else:
                assert self.ipam.warm("ADD", f"pod{number}").status == 0
        self.leases = max(leases, self.leases)


def as_process(side: Side) -> Callable[[int], Iterator[float]]:
    def case(number: int) -> Iterator[float]:
        from tests.bench.timing import timed

        yield timed(side.verb("ADD", f"x{number}"))
        yield timed(side.verb("DEL", f"x{number}"))

    return case


def in_warm_process(side: Side) -> Callable[[int], Iterator[float]]:
    def case(number: int) -> Iterator[float]:
        for verb in ("ADD", "DEL"):
            started = time.perf_counter()
            assert side.ipam.warm(verb, f"x{number}").status == 0
            yield (time.perf_counter() - started) * 1e3

    return case


def run(executable: Path, directory: Path, rounds: int) -> None:
    theirs, ours = Side(HOST_LOCAL, directory / "theirs"), Side(executable, directory / "ours")
    cases = {
        "host-local": as_process(theirs),
        "cni-ipam": as_process(ours),
        "cni-ipam, warm": in_warm_process(ours),
    }
    found: dict[int, dict[str, list[float]]] = {}
    for size in SIZES:
        theirs.grow(size)
        ours.grow(size)
        found[size] = interleaved(cases, rounds if size < 20_000 else max(5, rounds // 4))
        print(size, found[size], flush=True)
