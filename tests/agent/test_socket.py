"""Who may speak to the agent, and what it takes for a request."""

import contextlib
import json
import os
import socket
import struct
import subprocess
from pathlib import Path

import pytest

from tests.agent.conftest import RunningAgent
from tests.lab.world import Host, network

CONF = network("lan", "eth0", "10.0.0.0/24", "2001:db8::/64", announce=0)


def test_others_than_root_are_refused(agent: RunningAgent) -> None:
    agent.socket.parent.chmod(0o755)
    for directory in agent.socket.parents:
        directory.chmod(directory.stat().st_mode | 0o011)
    agent.socket.chmod(0o666)
    os.seteuid(65534)
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(agent.socket))
            os.seteuid(0)
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1) == b""
    finally:
        os.seteuid(0)


def test_the_socket_is_for_root_alone(agent: RunningAgent) -> None:
    assert agent.socket.stat().st_mode & 0o777 == 0o600
    assert agent.socket.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "request_",
    [struct.pack("=4sII", b"CNI\x01", 1, 1 << 30), b"GET / HTTP/1.1\r\n\r\n"],
    ids=["large", "other"],
)
def test_what_is_no_request_is_dropped(host: Host, agent: RunningAgent, request_: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(agent.socket))
        client.sendall(request_)
        assert client.recv(1) == b""

    assert host.run(str(host.cni_bin / "cni-vlan"), environment={"CNI_COMMAND": "VERSION"}).stdout


def test_systemd_may_listen_for_it_and_is_told(host: Host, one_shot: Path) -> None:
    path = host.scratch / "agent.sock"
    notices = host.scratch / "notify.sock"
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        notified.bind(str(notices))
        notified.settimeout(30)
        listener.bind(str(path))
        listener.listen()
        script = (
            f"exec 3<&{listener.fileno()}; "
            'LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" serve --no-log --socket /nowhere --metrics "$1"'
        )
        metrics = str(host.scratch / "metrics.sock")
        process = subprocess.Popen(
            ["bash", "-c", script, one_shot / "cni-agent", metrics],
            env={**os.environ, "NOTIFY_SOCKET": str(notices)},
            pass_fds=[listener.fileno()],
        )
        ready = notified.recv(100)
        environment = {"CNI_COMMAND": "VERSION", "CNI_VLAN_SOCKET": str(path), "CNI_VLAN_BUNDLE": "/nowhere"}
        answer = host.run(str(host.cni_bin / "cni-vlan"), environment=environment)
        process.terminate()
        stopping = notified.recv(100)

    assert (ready, stopping, process.wait(30)) == (b"READY=1", b"STOPPING=1", 0)
    assert json.loads(answer.stdout)["supportedVersions"]
    assert path.exists()  # systemd's own, to listen again
