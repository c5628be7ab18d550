"""The system calls of a verb that change something: a process that is killed is killed before one of them."""

import re
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

CHANGES = "openat mkdir rename link symlink unlink rmdir flock sendto sendmsg write exit exit_group".split()


# strace shows the number where it takes the socket for one of another protocol (linux/rtnetlink.h).
_NETLINK = {"0x10": "RTM_NEWLINK", "0x11": "RTM_DELLINK", "0x12": "RTM_GETLINK", "0x14": "RTM_NEWADDR"}
_NETLINK |= {"0x16": "RTM_GETADDR", "0x18": "RTM_NEWROUTE", "0x19": "RTM_DELROUTE", "0x1a": "RTM_GETROUTE"}
_NETLINK |= {"0x1c": "RTM_NEWNEIGH", "0x1e": "RTM_GETNEIGH", "0x22": "RTM_GETRULE"}
# What is another in each run.
_VARYING = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{64}(\.\d+)?|(?<=boot\.)[0-9a-f]{16}"
    r"|(?<=/leases/)[^/]+/[^/]+"
)
_NOT_DONE = (" = ?", "<unfinished ...>")


class Point(NamedTuple):
    """A call that changes something; the same one in another run has the same name, about and turn."""

    name: str
    about: str  # for people
    turn: int  # among the calls of this name about this


class Trace(NamedTuple):
    """What the thread that did a verb changed: each point with its number among the calls of that name."""

    numbers: dict[Point, int]
    died_at: Point | None  # the call that was begun, and not done


def kill_at(name: str, number: int) -> list[str]:
    """Return the options by which strace kills a thread before its n-th call of a name."""
    return ["-e", f"inject={name}:signal=KILL:when={number}"]


def strace(log: Path, *options: str) -> list[str]:
    return ["strace", "-f", "-y", "-s", "80", "-o", str(log), "-e", f"trace={','.join(CHANGES)}", *options]


def trace_of(lines: Iterable[str]) -> Trace:
    """Read what strace wrote of one thread.

    A call that the kernel restarts, as a write to a sysctl while another changes links, is one call.
    """
    numbers: dict[Point, int] = {}
    counts: Counter[str] = Counter()
    turns: Counter[tuple[str, str]] = Counter()
    begun = None
    killed = restarted = False
    for line in lines:
        call = re.match(r"\d+ +(\w+)\((.*)", line)
        if call and call[1] in CHANGES:
            name, about = call[1], _about(call[1], call[2])
            counts[name] += 1
            turns[name, about] += not restarted
            begun = Point(name, about, turns[name, about]) if about else None
            if begun:
                numbers.setdefault(begun, counts[name])
        if not line.endswith(_NOT_DONE) and (call or "resumed>" in line):
            begun = None
            restarted = "ERESTART" in line
        killed |= line.endswith("+++ killed by SIGKILL +++")
    return Trace(numbers, begun if killed else None)


def _about(name: str, arguments: str) -> str:
    """Say what a call changes, "" for one that changes nothing."""
    if name in {"exit", "exit_group"}:
        return "the end"
    if name == "openat":
        return _opened(arguments) if "O_CREAT" in arguments or "/proc/sys" in arguments else ""
    if name in {"sendto", "sendmsg"}:
        found = [_NETLINK.get(kind, kind) for kind in re.findall(r"nlmsg_type=(\w+)", arguments)]
        changes = [kind for kind in found if not kind.startswith("RTM_GET")]
        return ", ".join(changes) or ("an answer" if "CNI\\" in arguments else "")
    if name == "write":
        kernel = re.match(r"\d+<(/proc/sys[^>]*)>", arguments)
        return kernel[1] if kernel else "stdout" if arguments.startswith("1<") else _written(arguments)
    return _path(arguments)


def _opened(arguments: str) -> str:
    """Say what is opened by what was asked alone: of a call that was not done there is no result."""
    match = re.match(r'\w+<([^>]*)>, "([^"]*)"', arguments)
    return _path(f'"{Path(match[1], match[2])}"') if match else ""


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
