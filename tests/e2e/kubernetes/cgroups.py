"""A control group for a node, in every hierarchy of this machine."""

import errno
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.lab.waiting import wait_until

_MOUNTED = Path("/sys/fs/cgroup")
_OURS = "cni-vlan-node-"
_OLD_S = 3600
_OF_A_SET = ("cpuset.cpus", "cpuset.mems")  # of version 1, empty in a new group


def _parents() -> Iterator[Path]:
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    for _number, controllers, path in (line.split(":", 2) for line in lines):
        if controllers:
            yield _MOUNTED / controllers.removeprefix("name=") / path.lstrip("/")
        elif len(lines) == 1:
            (_MOUNTED / "cgroup.subtree_control").write_text("+cpu +cpuset +io +memory +pids")
            yield _MOUNTED  # processes of any other could not stay beside groups with controllers


def _remove_old(parent: Path) -> None:
    """Remove the groups of tests that were killed; one of tests that run is about to have processes."""
    for old in parent.glob(f"{_OURS}*"):
        with suppress(FileNotFoundError):  # as another run does the same
            if time.time() - old.stat().st_mtime > _OLD_S and not _has_processes(old):
                _removed(old)


def _has_processes(group: Path) -> bool:
    return any(file.read_text() for file in group.rglob("cgroup.procs"))


def _removed(group: Path) -> bool:
    """Remove a group with all below it, unless a process of it is still about to end."""
    try:
        for directory, _directories, _files in os.walk(group, topdown=False):
            os.rmdir(directory)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        return False
    return True


@contextmanager
def group() -> Iterator[list[Path]]:
    """Give a new group of each hierarchy; remove it with all below it once its processes are gone."""
    made: list[Path] = []
    name = f"{_OURS}{uuid.uuid4().hex[:8]}"
    try:
        for parent in _parents():
            _remove_old(parent)
            own = parent / name
            own.mkdir()
            made.append(own)
            for setting in _OF_A_SET:
                if (parent / setting).exists() and not (parent / "cgroup.controllers").exists():
                    (own / setting).write_text((parent / setting).read_text())
        yield made
    finally:
        for own in made:
            wait_until(lambda own=own: _removed(own))  # type: ignore[misc]
