"""The system calls of a verb that change something: a process that is killed is killed before one of them."""

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

CHANGES = "openat mkdir rename link symlink unlink rmdir flock sendto sendmsg write exit exit_group".split()


# strace shows the number where it takes the socket for one of another protocol (linux/rtnetlink.h).
_NETLINK = {"0x10": "RTM_NEWLINK", "0x11": "RTM_DELLINK", "0x12": "RTM_GETLINK", "0x14": "RTM_NEWADDR"}
_NETLINK |= {"0x18": "RTM_NEWROUTE", "0x1a": "RTM_GETROUTE"}
# What is another in each run.
_VARYING = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{64}(\.\d+)?|(?<=boot\.)[0-9a-f]{16}"
)


class Point(NamedTuple):
    """The n-th call of one kind in a thread, and what it is about, for people."""

    name: str
    nth: int
    about: str

    @property
    def injection(self) -> list[str]:
        return ["-e", f"inject={self.name}:signal=KILL:when={self.nth}"]


def strace(log: Path, *options: str) -> list[str]:
    return ["strace", "-f", "-y", "-s", "80", "-o", str(log), "-e", f"trace={','.join(CHANGES)}", *options]


def points(lines: list[str]) -> Iterator[Point]:
    """Yield the calls of one thread that change files, links, sysctls or sockets, or end it."""
    counts: Counter[str] = Counter()
    for line in lines:
        match = re.match(r"\d+ +(\w+)\((.*)", line)
        if match is None or match[1] not in CHANGES:
            continue
        name, arguments = match.groups()
        counts[name] += 1
        about = _about(name, arguments)
        if about:
            yield Point(name, counts[name], about)


def _about(name: str, arguments: str) -> str:
    """Say what a call changes, "" for one that changes nothing."""
    if name in {"exit", "exit_group"}:
        return "the end"
    if name == "openat":
        return _path(arguments) if "O_CREAT" in arguments or "/proc/sys" in arguments else ""
    if name in {"sendto", "sendmsg"}:
        found = [_NETLINK.get(kind, kind) for kind in re.findall(r"nlmsg_type=(\w+)", arguments)]
        changes = [kind for kind in found if not kind.startswith("RTM_GET")]
        return ", ".join(changes) or ("an answer" if "CNI\\" in arguments else "")
    if name == "write":
        kernel = re.match(r"\d+<(/proc/sys[^>]*)>", arguments)
        return kernel[1] if kernel else "stdout" if arguments.startswith("1<") else _written(arguments)
    return _path(arguments)


def _written(arguments: str) -> str:
    match = re.match(r"\d+<(/(?:var/lib|run)[^>]*)>", arguments)
    return _VARYING.sub("…", match[1]) if match else ""


def _path(arguments: str) -> str:
    found = re.findall(r'(?:"|<)(/(?:var/lib/cni|run/cni-vlan|proc/sys/net)[^">]*)', arguments)
    return _VARYING.sub("…", found[-1]) if found else ""


def attach(process: int, log: Path, *options: str) -> subprocess.Popen[str]:
    """Trace a process that runs, from the moment that this returns."""
    tracer = subprocess.Popen([*strace(log, *options), "-p", str(process)], stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    assert "attached" in tracer.stderr.readline()
    return tracer
