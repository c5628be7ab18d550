"""Whether this machine can have a lab node, and what to do where it cannot."""

import os
import platform
import shutil
from pathlib import Path
from typing import NamedTuple

from tests.lab import suite

_GIB = 1 << 30
_MEMORY = 3  # GiB
_DISK = 4
_ARCHITECTURE = "x86_64"
_NATIVE = "native mode (LAB_MODE=native) needs a kernel with macvlan, ipvlan, vlan, dummy and bond instead"


class Machine(NamedTuple):
    """What counts of a machine. Memory and disk in bytes."""

    is_root: bool
    has_apt: bool
    distribution: str
    architecture: str
    memory: int
    disk: int
    cache: Path


def problem(machine: Machine) -> str:
    """Say in one sentence why the machine cannot have a node, "" if it can."""
    if not machine.is_root:
        return "links and namespaces need root: run the same command with sudo"
    if machine.architecture != _ARCHITECTURE:
        return (
            f"nodes are made for {_ARCHITECTURE} alone, and this machine is {machine.architecture}; {_NATIVE}"
        )
    if not machine.has_apt or machine.distribution != "debian":
        name = machine.distribution or "no Debian"
        return f"nodes are made from the packages of Debian 12 or 13, and this machine is {name}; {_NATIVE}"
    if machine.memory < _MEMORY * _GIB:
        return f"a node needs {_MEMORY} GiB of memory, and this machine has {machine.memory / _GIB:.1f}"
    if machine.disk < _DISK * _GIB:
        free = f"{machine.disk / _GIB:.1f} GiB are free"
        return f"a node needs {_DISK} GiB of disk, and {free} for {machine.cache} (XDG_CACHE_HOME moves it)"
    return ""


def require(cache: Path) -> None:
    """End the program with that sentence if the machine cannot have a node."""
    found = problem(_this(cache))
    if found:
        raise SystemExit(f"lab: {found}")


def _this(cache: Path) -> Machine:
    existing = next(path for path in (cache, *cache.parents) if path.exists())
    return Machine(
        os.geteuid() == 0,
        shutil.which("apt-get") is not None,
        suite.release().get("ID", ""),
        platform.machine(),
        os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        # An image that is built needs no more than scratch.
        shutil.disk_usage(existing).free if not any(cache.glob("node-*/root.img")) else _DISK * _GIB,
        cache,
    )
