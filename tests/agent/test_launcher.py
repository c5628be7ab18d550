"""The launcher against an agent that is absent, refuses, hangs, dies, or answers something odd."""

import contextlib
import json
import os
import re
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
Behaviour = Callable[[socket.socket], None]
CONF = '{"cniVersion": "1.0.0", "name": "lan"}'


class Launched:
    """One run of the launcher, and whether the one-shot plugin was executed."""

    def __init__(self, launcher: Path, directory: Path, stdin: str = CONF, **environ: str) -> None:
        mark = directory / "executed"
        mark.unlink(missing_ok=True)
        bundle = directory / "bundle"
        bundle.mkdir(exist_ok=True)
        plugin = bundle / launcher.name
        plugin.write_text(f'#!/bin/sh\necho "$0 $*" >>{mark}\ncat\nexit 3\n')
        plugin.chmod(0o755)
        variables = {"CNI_COMMAND": "ADD", "CNI_IFNAME": "eth0", **environ}
        self.done = subprocess.run(
            [launcher, *([] if variables["CNI_COMMAND"] else ["--help"])],
            input=stdin,
            env={
                "PATH": os.environ["PATH"],
                "CNI_VLAN_SOCKET": str(directory / "agent.sock"),
                "CNI_VLAN_BUNDLE": str(bundle),
                **{name: value for name, value in variables.items() if value},
            },
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        self.executed = mark.read_text().splitlines() if mark.exists() else []

    @property
    def code(self) -> int:
        code: int = json.loads(self.done.stdout)["code"]
        return code


@contextlib.contextmanager
def agent(directory: Path, behave: Behaviour) -> Iterator[None]:
    """Serve one connection."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(directory / "agent.sock"))
        listener.listen()
        thread = threading.Thread(target=lambda: behave(listener.accept()[0]))
        thread.start()
        yield
        thread.join(20)


def read_request(connection: socket.socket) -> tuple[bytes, bytes, list[int]]:
    """The environment and the stdin that were sent, and the descriptors."""
    data, descriptors, _flags, _address = socket.recv_fds(connection, 65536, 4)
    while len(data) < 12:
        data += connection.recv(65536)
    magic, environment, stdin = struct.unpack_from("=4sII", data)
    assert magic == b"CNI\x02"
    while len(data) < 12 + environment + stdin:
        data += connection.recv(65536)
    return data[12 : 12 + environment], data[12 + environment :], descriptors


def reply(status: int, out: bytes, err: bytes = b"") -> bytes:
    return struct.pack("=4sIII", b"CNI\x02", status, len(out), len(err)) + out + err


BEGUN = reply(0x101, b"")
DECLINED = reply(0x100, b"")


def answering(answer: bytes) -> Behaviour:
    def behave(connection: socket.socket) -> None:
        with connection:
            read_request(connection)
            connection.sendall(answer)

    return behave


@pytest.fixture
def launcher(impatient: Path) -> Path:
    return impatient / "cni-vlan"


def test_an_answer_is_passed_on_byte_for_byte(launcher: Path, tmp_path: Path) -> None:
    with agent(tmp_path, answering(BEGUN + reply(7, b'{"a": 1}\n\n', b"warning\n"))):
        run = Launched(launcher, tmp_path)

    assert (run.done.returncode, run.done.stdout, run.done.stderr) == (7, '{"a": 1}\n\n', "warning\n")
    assert run.executed == []


def test_a_large_answer_arrives_whole(launcher: Path, tmp_path: Path) -> None:
    with agent(tmp_path, answering(BEGUN + reply(0, b"x" * 1_000_000, b"y" * 300_000))):
        run = Launched(launcher, tmp_path)

    assert (run.done.stdout, run.done.stderr) == ("x" * 1_000_000, "y" * 300_000)


def test_the_request_holds_all_that_a_plugin_is_given(launcher: Path, tmp_path: Path) -> None:
    seen: list[tuple[bytes, bytes, int]] = []

    def behave(connection: socket.socket) -> None:
        with connection:
            environment, stdin, descriptors = read_request(connection)
            seen.append((environment, stdin, os.fstat(descriptors[0]).st_ino))
            os.close(descriptors[0])
            connection.sendall(BEGUN + reply(0, b""))

    large = json.dumps({"name": "lan", "x": "y" * 3_000_000})
    with agent(tmp_path, behave):
        run = Launched(
            launcher,
            tmp_path,
            large,
            CNI_NETNS="/proc/self/ns/net",
            CNI_ARGS="A=b;C=d",
            OTHER="no",
            CNI_VLAN_BOOT="x",
        )

    ((environment, stdin, inode),) = seen
    name, *entries = environment.decode().split("\0")
    assert run.done.returncode == 0
    assert name == "cni-vlan"
    assert {"CNI_COMMAND=ADD", "CNI_ARGS=A=b;C=d", "CNI_NETNS=/proc/self/ns/net"} < set(entries)
    assert len([entry for entry in entries if re.fullmatch("CNI_VLAN_BOOT=[0-9a-f-]{36}", entry)]) == 1
    assert not any(entry.startswith("OTHER") for entry in entries)
    assert stdin == large.encode()
    assert inode == Path("/proc/self/ns/net").stat().st_ino


def test_no_agent_and_the_plugin_itself_is_executed(launcher: Path, tmp_path: Path) -> None:
    run = Launched(launcher, tmp_path)

    assert run.executed == [f"{tmp_path}/bundle/cni-vlan "]
    assert (run.done.returncode, run.done.stdout) == (3, CONF)


def test_a_socket_that_nobody_listens_on(launcher: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(tmp_path / "agent.sock"))

    run = Launched(launcher, tmp_path)

    assert (len(run.executed), run.done.stdout) == (1, CONF)


def hanging(*said: bytes) -> Behaviour:
    """An agent that says something, and then nothing until the launcher gives up."""

    def behave(connection: socket.socket) -> None:
        with connection:
            read_request(connection)
            for part in said:
                connection.sendall(part)
            assert connection.recv(1) == b""

    return behave


@pytest.mark.parametrize(
    "behave",
    [
        answering(DECLINED),
        answering(b"CNI\x01" + DECLINED[4:]),
        answering(b""),
        answering(BEGUN[:6]),
        answering(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        hanging(),
    ],
    ids=["declines", "declines in version 1", "dies", "dies in the header", "is another program", "hangs"],
)
def test_what_has_not_begun_is_done_by_the_plugin(launcher: Path, tmp_path: Path, behave: Behaviour) -> None:
    large = json.dumps({"name": "lan", "x": "y" * 3_000_000})
    with agent(tmp_path, behave):
        run = Launched(launcher, tmp_path, large)

    assert (len(run.executed), run.done.stdout) == (1, large)


def test_an_agent_that_wakes_too_late_cannot_begin(launcher: Path, tmp_path: Path) -> None:
    woken = threading.Event()
    refused: list[bool] = []

    def behave(connection: socket.socket) -> None:
        with connection:
            read_request(connection)
            woken.wait(20)
            try:
                connection.sendall(BEGUN)
            except BrokenPipeError:
                refused.append(True)

    with agent(tmp_path, behave):
        run = Launched(launcher, tmp_path)
        woken.set()

    assert (len(run.executed), refused) == (1, [True])


def test_an_agent_that_goes_before_it_has_the_request(launcher: Path, tmp_path: Path) -> None:
    large = json.dumps({"name": "lan", "x": "y" * 6_000_000})
    with agent(tmp_path, lambda connection: connection.close()):
        run = Launched(launcher, tmp_path, large)

    assert (len(run.executed), run.done.stdout) == (1, large)


def test_what_is_too_large_for_the_agent_is_done_by_the_plugin(launcher: Path, tmp_path: Path) -> None:
    large = json.dumps({"name": "lan", "x": "y" * 9_000_000})
    with agent(tmp_path, lambda connection: connection.close()):
        run = Launched(launcher, tmp_path, large)

    assert (len(run.executed), run.done.stdout) == (1, large)


@pytest.mark.parametrize(
    ("behave", "reason"),
    [
        (hanging(BEGUN), "cni-agent did not answer in time"),
        (answering(BEGUN), "cni-agent closed the connection before it answered"),
        (answering(BEGUN + b"CNI\x02\0\0"), "cni-agent closed the connection before it answered"),
        (answering(BEGUN + reply(0, b"whole")[:-2]), "cni-agent closed the connection before it answered"),
        (answering(BEGUN + b"HTTP/1.1 400 Bad Request\r\n\r\n"), "sent an invalid answer"),
        (answering(BEGUN + reply(9999, b"")), "sent an invalid answer"),
    ],
    ids=["hangs", "dies", "dies in the header", "dies in the text", "garbage", "impossible"],
)
def test_what_has_begun_is_never_run_a_second_time(
    launcher: Path, tmp_path: Path, behave: Behaviour, reason: str
) -> None:
    with agent(tmp_path, behave):
        run = Launched(launcher, tmp_path)

    assert (run.done.returncode, run.code) == (1, 11)
    assert reason in json.loads(run.done.stdout)["msg"]
    assert run.executed == []


@pytest.mark.parametrize("closed", [0, 1, 2])
def test_a_standard_descriptor_that_is_closed(launcher: Path, tmp_path: Path, closed: int) -> None:
    """None of them becomes the agent's socket; without stdout nothing is attached."""
    seen: list[bytes] = []

    def behave(connection: socket.socket) -> None:
        with connection:
            seen.append(read_request(connection)[1])
            connection.sendall(BEGUN + reply(0, b"{}\n", b"warning\n"))

    def launch() -> int:
        return subprocess.run(
            ["sh", "-c", f"exec {launcher} {closed}>&-"],
            input=CONF,
            env={"CNI_COMMAND": "ADD", "CNI_VLAN_SOCKET": str(tmp_path / "agent.sock")},
            capture_output=True,
            text=True,
            timeout=8,
            check=False,
        ).returncode

    if closed == 1:
        assert launch() == 1
        return
    with agent(tmp_path, behave):
        assert launch() == 0
    assert seen == [CONF.encode() if closed == 2 else b""]


def test_a_person_gets_the_tool(launcher: Path, tmp_path: Path) -> None:
    run = Launched(launcher, tmp_path, CNI_COMMAND="")

    assert run.executed == [f"{tmp_path}/bundle/cni-vlan --help"]


def test_neither_agent_nor_plugin(launcher: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [launcher],
        env={"CNI_COMMAND": "ADD", "CNI_VLAN_SOCKET": "/nowhere", "CNI_VLAN_BUNDLE": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert json.loads(done.stdout)["msg"] == (
        f"no agent is running, and {tmp_path}/cni-vlan cannot be started: No such file or directory"
    )


def test_it_is_small_and_needs_no_library(launcher: Path) -> None:
    assert launcher.stat().st_size <= 100 * 1024
    assert len((ROOT / "launcher" / "launcher.c").read_text().splitlines()) <= 300
    shown = subprocess.run(["ldd", launcher], capture_output=True, text=True, check=False)
    assert "not a dynamic executable" in shown.stderr + shown.stdout
