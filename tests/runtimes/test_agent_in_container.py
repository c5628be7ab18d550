"""The agent in a container: not privileged, without the host's processes or its mounts of namespaces."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtimes.conftest import PLUGIN, SOCKET, run, until
from tests.runtimes.image import write_image

NAME = "lab.local/cni-vlan:1"
CURRENT = Path("/opt/cni-vlan/current")
MOUNTS = (
    ("/run/cni-vlan", "/run/cni-vlan"),
    ("/var/lib/cni", "/var/lib/cni"),
    ("/proc/sys", "/host/proc/sys"),
)
CONTAINER: list[str] = [
    "ctr", "run", "--rm", "--net-host", "--read-only",
    *(f"--cap-add=CAP_{name}" for name in ("NET_ADMIN", "SYS_ADMIN", "NET_RAW")),
    *(f"--mount=type=bind,src={source},dst={target},options=rbind:rw" for source, target in MOUNTS),
    NAME, "cni-agent",
]  # fmt: skip


def libraries() -> list[Path]:
    """What the bundle's loader and libraries are linked with."""
    linked = run("ldd", CURRENT / "cni-agent", *CURRENT.resolve().rglob("*.so*"), check=False).stdout
    return sorted({Path(found) for found in re.findall(r"(?:=> |^\s+)(/lib\S+)", linked, re.MULTILINE)})


@pytest.fixture
def agent(node: Path, containerd: None) -> Iterator[Path]:
    """The agent of the bundle in a container; its log."""
    del containerd
    write_image(node / "agent.tar", NAME, CURRENT.resolve(), *libraries())
    run("ctr", "images", "import", node / "agent.tar")
    for directory in ("/run/cni-vlan", "/var/lib/cni"):
        Path(directory).mkdir(parents=True, exist_ok=True)
    log = node / "contained.log"
    with log.open("w") as output:
        command = [*CONTAINER, str(CURRENT.resolve() / "cni-agent"), "serve", "--proc-sys", "/host/proc/sys"]
        process = subprocess.Popen(command, stdout=output, stderr=output)
    until(lambda: SOCKET.exists() or process.poll() is not None)
    assert process.poll() is None, log.read_text()
    yield log
    run("ctr", "task", "kill", "--signal", "TERM", "cni-agent")
    process.wait(60)


def call(verb: str, pod: str) -> str:
    conf = {**PLUGIN, "name": "vlan50", "cniVersion": "1.0.0"}
    environment = {
        **os.environ, "CNI_COMMAND": verb, "CNI_CONTAINERID": pod, "CNI_NETNS": f"/run/netns/{pod}",
        "CNI_IFNAME": "eth0", "CNI_PATH": "/opt/cni/bin",
    }  # fmt: skip
    done = subprocess.run(
        ["/opt/cni/bin/cni-vlan"],
        input=json.dumps(conf),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_it_serves_pods_whose_namespaces_it_cannot_see(agent: Path) -> None:
    run("ip", "netns", "add", "pod")

    result = json.loads(call("ADD", "pod"))
    shown = run("ip", "-n", "pod", "-o", "address", "show", "eth0").stdout
    accepts = run("ip", "netns", "exec", "pod", "cat", "/proc/sys/net/ipv6/conf/eth0/accept_ra").stdout
    until(
        lambda: (
            run("ip", "netns", "exec", "pod", "ping", "-c1", "-W2", "192.168.50.1", check=False).returncode
            == 0
        )
    )
    call("DEL", "pod")

    assert all(ip["address"] in shown for ip in result["ips"])
    assert accepts == "0\n"
    assert '"verb": "ADD"' in agent.read_text()
    assert not Path("/sys/class/net/eth0.50").exists()
    run("ip", "netns", "delete", "pod")
