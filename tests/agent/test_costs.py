"""What an ADD and a DEL ask of the kernel and of the interpreter, counted: more of it shows as a diff.

Times decide no test; these numbers are exact. A change that needs another number writes it here.
"""

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.conftest import RunningAgent
from tests.lab.waiting import wait_until
from tests.lab.world import Host, network

CONF = network("lan", "eth0", "10.0.0.0/24", announce=0)
OURS = re.compile(r'"CNI\\(00)?2')  # strace writes three digits before another digit
FILES_AND_SOCKETS = "trace=%file,%desc,%network,setns"
ADD = {
    "bind": 2, "close": 16, "fcntl": 1, "flock": 3, "ioctl": 2, "link": 1, "mkdir": 5, "newfstatat": 12,
    "openat": 15, "poll": 2, "read": 2, "readlink": 1, "recvfrom": 9, "rename": 3, "sendto": 8,
    "setns": 4, "setsockopt": 8, "socket": 2, "symlink": 1, "write": 6,
}  # fmt: skip
DEL = {
    "bind": 1, "close": 10, "fcntl": 1, "flock": 3, "getdents64": 1, "ioctl": 2,
    "newfstatat": 13, "openat": 10, "poll": 2, "read": 4, "readlink": 2, "recvfrom": 3, "rmdir": 2,
    "sendto": 4, "setns": 2, "setsockopt": 4, "socket": 1, "unlink": 4,
}  # fmt: skip


class Traced:
    """An agent under strace."""

    def __init__(self, host: Host, one_shot: Path) -> None:
        self.log = host.scratch / "trace"
        strace = [
            "strace",
            "-D",
            "-f",
            "-qq",
            "-o",
            str(self.log),
            "-e",
            FILES_AND_SOCKETS,
            "-e",
            "signal=none",
        ]
        self.agent = RunningAgent(host, one_shot / "cni-agent", *strace)
        self.answers = 0

    def calls(self) -> list[str]:
        """The system calls of the thread that answered last, from the request's first byte to its answer."""
        self.answers += 1
        wait_until(lambda: self.agent.log.read_text().count("\n") >= self.answers)
        lines = self.log.read_text().splitlines()
        last = max(at for at, line in enumerate(lines) if "sendto(" in line and OURS.search(line))
        thread = lines[last].split()[0]
        mine = [line for line in lines[:last] if line.startswith(f"{thread} ")]
        # What another thread's call divides is resumed in a line of its own.
        first = max(at for at, line in enumerate(mine) if "recvmsg" in line and OURS.search(line))
        return mine[first + 1 :]


@pytest.fixture
def traced(host: Host, one_shot: Path) -> Iterator[Traced]:
    made = Traced(host, one_shot)
    yield made
    made.agent.stop()


def names(calls: list[str]) -> Counter[str]:
    """How often each was made, without what the allocator asks for."""
    found = (match[1] for line in calls if (match := re.match(r"\d+ +(\w+)\(", line)))
    return Counter(name for name in found if name not in {"mmap", "munmap"})


def requests(calls: list[str]) -> int:
    """How many netlink messages were sent, each of a batch counted."""
    sent = (line for line in calls if re.match(r"\d+ +sendto\(\d+, \[", line))
    return sum(line.count("{nlmsg_len=") for line in sent)


def test_a_pod_beside_others(host: Host, traced: Traced) -> None:
    host.uplink()
    first, second, third = host.pods("p1", "p2", "p3")
    for pod in (first, second):
        pod.attach(CONF)
        traced.calls()

    third.attach(CONF)
    add = traced.calls()
    third.detach(CONF)
    delete = traced.calls()

    assert (requests(add), requests(delete)) == (9, 3)
    assert dict(names(add)) == ADD
    assert dict(names(delete)) == DEL


def test_the_heap_of_an_agent_is_on_huge_pages(host: Host, agent: RunningAgent) -> None:
    assert host.plugin("VERSION", CONF).status == 0  # it serves
    rollup = Path(f"/proc/{agent.process.pid}/smaps_rollup").read_text()
    (kib,) = re.findall(r"^AnonHugePages: +(\d+) kB", rollup, re.MULTILINE)

    assert int(kib) >= 2 * 2048  # three to seven pages, by where the heap lies


MODULES = """
import sys
sys.argv = ["cni-vlan"]
from cni_vlan.__main__ import main
status = main()
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
sys.exit(status)
"""


def test_a_process_of_its_own_imports_no_more_than_it_needs(host: Host, one_shot: Path) -> None:
    host.uplink()
    earlier, pod = host.pods("p0", "p1")
    earlier.attach(CONF)  # the configuration is known as valid now
    paths = next(line for line in (one_shot / "cni-vlan").read_text().splitlines() if "sys.path" in line)
    head = (one_shot / "cni-vlan").read_text().splitlines()[0]
    probe = host.scratch / "bin" / "cni-vlan"
    probe.write_text(f"{head}\nimport json, sys\n{paths}\n{MODULES}")
    probe.chmod(0o755)

    reply = pod.add(CONF)
    probe.unlink()
    modules = json.loads(reply.stderr)

    assert reply.status == 0
    tops = Counter(name.partition(".")[0] for name in modules)
    ours = {name: count for name, count in tops.items() if name not in sys.stdlib_module_names}
    packages = {"cni_core": 21, "cni_ipam": 16, "cni_net": 12, "cni_vlan": 17, "filelock": 8}
    assert ours == {"__main__": 1, **packages}
    assert tops.keys() & {"asyncio", "subprocess", "tempfile", "multiprocessing"} == set()
    pod.detach(CONF)


def test_python_starts_without_site(one_shot: Path) -> None:
    shown = subprocess.run(["head", "-1", one_shot / "cni-vlan"], capture_output=True, text=True, check=True)

    assert shown.stdout.endswith(" -IS\n")
