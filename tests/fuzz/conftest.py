"""Fuzzing in namespaces of its own: run by `make fuzz`, under unshare(1). FUZZ is the number of examples."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "fuzz",
    max_examples=int(os.environ.get("FUZZ", "300")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
settings.load_profile("fuzz")


@pytest.fixture(scope="session", autouse=True)
def _apart() -> None:
    """Refuse to run on the machine's own network; hide the machine's state."""
    shown = subprocess.run(["ip", "-j", "link"], capture_output=True, check=True).stdout
    assert [link["ifname"] for link in json.loads(shown)] == ["lo"], "run this by make fuzz"
    for path in ("/var/lib/cni", "/run/cni-vlan", "/run/netns"):
        Path(path).mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "hidden", path], check=True)
    subprocess.run(["mount", "-t", "sysfs", "sys", "/sys"], check=True)
    for command in (
        "link set lo up",
        "link add eth0 type veth peer name far0",
        "link set eth0 up",
        "link set far0 up",
        "netns add pod",
    ):
        subprocess.run(["ip", *command.split()], check=True)
