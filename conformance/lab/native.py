"""A node on this machine: new network, mount and PID namespaces, the state directories hidden by a tmpfs."""

import os
import subprocess
from pathlib import Path

from conformance.lab import stage

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


def run(project: Path, command: list[str]) -> int:
    with stage.scratch_directory() as scratch:
        stage.install_executables(
            scratch / "bin", stage.site_packages(), project, interpreter=str(stage.interpreter())
        )
        script = (
            "set -e; mount -t tmpfs state /var/lib/cni 2>/dev/null"
            " || { mkdir -p /var/lib/cni; mount -t tmpfs state /var/lib/cni; };"
            "mkdir -p /run/netns; mount -t tmpfs netns /run/netns; mount -t sysfs sys /sys;"
            'ip link set lo up; exec "$@"'
        )
        environment = {
            **os.environ,
            "PATH": f"{stage.interpreter().parent}:{os.environ['PATH']}",
            "PYTHONPATH": f"{project}:{stage.site_packages()}",
            "LAB_CNI_BIN": str(scratch / "bin"),
            "CNI_VLAN_BUNDLE": str(scratch / "bin"),
        }
        return subprocess.run(
            ["unshare", "-nmp", "--fork", "--mount-proc", "sh", "-c", script, "sh", *command],
            env=environment,
            cwd=project,
            check=False,
        ).returncode
