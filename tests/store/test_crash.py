"""Killed at every system call that changes the store: nothing is lost, given twice or left behind.

strace kills the process as it enters the call. What lies between two such calls changes nothing on disk, so
every state that a kill can leave is met.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.store.ipam import Ipam

CHANGES = "openat write rename link mkdir unlink rmdir flock close exit_group".split()
SMALL, USABLE = "10.0.0.0/29", 5


class Point(NamedTuple):
    """The n-th call of one kind that a process makes."""

    name: str
    nth: int


@pytest.fixture
def small(executable: Path, tmp_path: Path) -> Ipam:
    return Ipam(executable, tmp_path / "leases", SMALL, "2001:db8::/64")


def points(trace: str, data_dir: Path) -> Iterator[Point]:
    """Yield the calls of a trace that touch the leases, and those by which the runtime has its answer."""
    counts = dict.fromkeys(CHANGES, 0)
    for line in trace.splitlines():
        match = re.match(r"\d+ +(\w+)\((.*)", line)
        if match is None or match[1] not in counts:
            continue
        counts[match[1]] += 1
        ours = str(data_dir) in match[2] and (match[1] != "openat" or "O_CREAT" in match[2])
        if ours or match[1] == "exit_group" or match[2].startswith("1<"):
            yield Point(match[1], counts[match[1]])


def traced(log: Path, *inject: str) -> list[str]:
    return ["strace", "-f", "-y", "-o", str(log), "-e", f"trace={','.join(CHANGES)}", *inject, "--"]


def killed_everywhere(ipam: Ipam, verb: str, tmp_path: Path) -> Iterator[Point]:
    """Run a verb of the pod `victim` on copies of the store, killed one call later each time."""
    base, log = tmp_path / "base", tmp_path / "trace"
    copy(ipam.data_dir, base)
    first = ipam.call(verb, "victim", before=traced(log))
    assert first.status == 0, first
    found = list(points(log.read_text(), ipam.data_dir))
    assert {"rename", "link", "unlink"} & {point.name for point in found}
    for point in found:
        copy(base, ipam.data_dir)
        inject = f"inject={point.name}:signal=KILL:when={point.nth}"
        killed = ipam.call(verb, "victim", before=traced(log, "-e", inject))
        assert "killed by SIGKILL" in log.read_text(), (point, killed)
        yield point


def copy(source: Path, target: Path) -> None:
    """Copy a store, hard links and all."""
    shutil.rmtree(target, ignore_errors=True)
    if source.exists():
        subprocess.run(["cp", "-a", str(source), str(target)], check=True)


def goes_on(ipam: Ipam, held: dict[str, list[str]]) -> list[str]:
    """Say what is wrong after a kill, given what pods other than `victim` hold."""
    wrong = [f"{pod} lost its lease" for pod, ips in held.items() if not holds(ipam, pod, ips)]
    if len(held) + 1 == USABLE:  # there may be room only once the pod that was killed is gone
        ipam.warm("DEL", "victim")
    following = ipam.warm("ADD", "next")
    wrong += [] if following.status == 0 else [f"the next ADD: {following.document}"]
    for attempt in ("first", "second"):
        ended = ipam.warm("DEL", "victim")
        wrong += [] if ended.status == 0 else [f"the {attempt} DEL: {ended.document}"]
    given = [address for ips in held.values() for address in ips]
    given += following.addresses if following.status == 0 else []
    pods = [*held, "next"]
    while (reply := ipam.warm("ADD", f"pod{len(pods)}")).status == 0:
        given += reply.addresses
        pods.append(f"pod{len(pods)}")
    wrong += [f"given twice: {given}"] if len(set(given)) < len(given) else []
    wrong += [] if len(pods) == USABLE else [f"{len(pods)} addresses of {USABLE} could be given"]
    for pod in pods:
        ipam.warm("DEL", pod)
    return wrong + [f"left behind: {name}" for name in leftovers(ipam)]


def holds(ipam: Ipam, pod: str, addresses: list[str]) -> bool:
    previous = {"cniVersion": "1.1.0", "ips": [{"address": address} for address in addresses]}
    return ipam.warm("CHECK", pod, {"prevResult": previous}).status == 0


def leftovers(ipam: Ipam) -> list[str]:
    files = (path for path in (ipam.data_dir / "lan").rglob("*") if path.is_file())
    lasting = {"lock", "pool"}
    return [str(path) for path in files if path.name not in lasting and path.parent.name != "cursors"]


def broken(ipam: Ipam, verb: str, held: dict[str, list[str]], tmp_path: Path) -> list[str]:
    return [
        f"{verb} killed at {point.name} {point.nth}: {text}"
        for point in killed_everywhere(ipam, verb, tmp_path)
        for text in goes_on(ipam, held)
    ]


def test_the_first_add_ever(small: Ipam, tmp_path: Path) -> None:
    small.add("earlier")  # so that the configuration is known as valid, and each start makes the same calls
    shutil.rmtree(small.data_dir)

    assert broken(small, "ADD", {}, tmp_path) == []


def test_an_add_among_others(small: Ipam, tmp_path: Path) -> None:
    held = {"one": small.add("one"), "two": small.add("two")}

    assert broken(small, "ADD", held, tmp_path) == []


def test_an_add_of_the_last_address_of_a_block(small: Ipam, tmp_path: Path) -> None:
    held = {pod: small.add(pod) for pod in ("one", "two", "three")}
    small.add("four")
    assert small.call("ADD", "five").status == 0
    assert small.call("ADD", "six").code == 110  # the block is marked as full
    small.delete("four")
    small.delete("five")

    assert broken(small, "ADD", held, tmp_path) == []


def test_a_delete_among_others(small: Ipam, tmp_path: Path) -> None:
    held = {"one": small.add("one")}
    small.add("victim")

    assert broken(small, "DEL", held, tmp_path) == []


def test_a_delete_in_a_full_block(small: Ipam, tmp_path: Path) -> None:
    held = {pod: small.add(pod) for pod in ("one", "two", "three", "four")}
    small.add("victim")
    assert small.call("ADD", "six").code == 110

    assert broken(small, "DEL", held, tmp_path) == []
