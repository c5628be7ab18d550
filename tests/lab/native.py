"""A node on this machine: new network, mount and PID namespaces, the state directories hidden by a tmpfs.

Nothing of it stays: links and namespaces go with the processes, files with the mounts.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.lab import stage, tools

KINDS = {
    "macvlan": "link add k link up0 type macvlan",
    "ipvlan": "link add k link up0 type ipvlan",
    "vlan": "link add k link up0 type vlan id 7",
    "dummy": "link add k type dummy",
    "bond": "link add k type bond",
}


def missing_kinds() -> list[str]:
    """Return the link kinds that this machine's kernel cannot make, found by making one of each."""
    if os.geteuid() != 0:
        return list(KINDS)
    return [kind for kind, command in KINDS.items() if not _can(command)]


def _can(command: str) -> bool:
    script = f"ip link add up0 type veth peer name far0 && ip {command}"
    probe = subprocess.run(["unshare", "-n", "sh", "-c", script], capture_output=True, check=False)
    return probe.returncode == 0


_TOOLS = ("ip", "unshare", "ping", "sysctl", "traceroute", "host-local", "strace")
# What the plugins and `ip netns` keep; hidden, so that the machine's own is neither seen nor changed.
_HIDDEN = ("/var/lib/cni", "/run/netns", "/run/cni-vlan")
_END_S = 10  # an interrupted command may still tidy up


def run(project: Path, command: list[str]) -> int:
    tools.install(*_TOOLS)
    with stage.scratch_directory() as scratch, _mount_points():
        stage.install_executables(
            scratch / "bin", stage.site_packages(), project, interpreter=str(stage.interpreter())
        )
        hide = " && ".join(f"mount -t tmpfs hidden {path}" for path in _HIDDEN)
        script = f'{hide} && mount -t sysfs sys /sys && ip link set lo up && exec "$@"'
        (scratch / "tmp").mkdir()
        environment = {
            **os.environ,
            "PATH": f"{stage.interpreter().parent}:{os.environ['PATH']}",
            "PYTHONPATH": f"{project}:{stage.site_packages()}",
            "TMPDIR": str(scratch / "tmp"),
            "LAB_CNI_BIN": str(scratch / "bin"),
            "CNI_VLAN_BUNDLE": str(scratch / "bin"),
        }
        isolated = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        return _wait(
            subprocess.Popen([*isolated, "sh", "-c", script, "sh", *command], env=environment, cwd=project)
        )


@contextmanager
def _mount_points() -> Iterator[None]:
    """Make the directories that are missing for a while."""
    made = []
    try:
        for path in map(Path, _HIDDEN):
            for directory in reversed((path, *path.parents)):
                if not directory.exists():
                    directory.mkdir()
                    made.append(directory)
        yield
    finally:
        for directory in reversed(made):
            with suppress(OSError):  # somebody else uses it by now
                directory.rmdir()


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Wait for the end; an interruption gives the command, which has had it too, time to end by itself."""
    try:
        return process.wait()
    except BaseException:
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
        process.kill()  # and with it, by --kill-child, all that is in the namespaces
        process.wait()
        raise
