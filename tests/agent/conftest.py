"""Launchers, a bundle of one-shot plugins, and a host whose agent is running."""

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.lab import stage, world
from tests.lab.waiting import wait_until
from tests.lab.world import Host

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def launchers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the launcher under both names."""
    return _built(tmp_path_factory.mktemp("launchers"))


@pytest.fixture(scope="session")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the launcher under both names; it waits 2 s for an answer."""
    return _built(tmp_path_factory.mktemp("impatient"), "EXTRA=-DDEADLINE_S=2")


def _built(directory: Path, *options: str) -> Path:
    binary = directory / "cni-vlan"
    subprocess.run(["make", "--quiet", "-C", ROOT / "launcher", f"OUT={binary}", *options], check=True)
    (directory / "cni-ipam").hardlink_to(binary)
    return directory


@pytest.fixture(scope="session")
def one_shot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The plugins and the agent as they are without a launcher."""
    directory = tmp_path_factory.mktemp("one-shot")
    stage.install_executables(directory, stage.site_packages(), ROOT, interpreter=str(stage.interpreter()))
    return directory


class RunningAgent:
    """An agent in the namespaces of a host."""

    def __init__(self, host: Host, executable: Path, *before: str, options: Sequence[str] = ()) -> None:
        self.host = host
        self.socket = host.scratch / "agent" / "agent.sock"
        self.metrics = host.scratch / "agent" / "metrics.sock"
        self.log = host.scratch / "agent.log"
        old = self._inode()
        with self.log.open("a") as log:
            arguments = ["--socket", str(self.socket), "--metrics", str(self.metrics), *options]
            self.process = host.popen(*before, str(executable), "serve", *arguments, stderr=log)
        wait_until(lambda: self.process.poll() is not None or self._inode() not in {None, old})
        wait_until(lambda: self.process.poll() is not None or self.metrics.exists())
        assert self.process.poll() is None, self.log.read_text()[-4000:]

    def _inode(self) -> int | None:
        """What tells its socket from that of the agent before it."""
        return self.socket.stat().st_ino if self.socket.exists() else None

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.wait(30)


@pytest.fixture
def host(launchers: Path, one_shot: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    with world.host(launchers) as made:
        monkeypatch.setenv("CNI_VLAN_SOCKET", str(made.scratch / "agent" / "agent.sock"))
        monkeypatch.setenv("CNI_VLAN_BUNDLE", str(one_shot))
        yield made


@pytest.fixture
def agent(host: Host, one_shot: Path) -> Iterator[RunningAgent]:
    running = RunningAgent(host, one_shot / "cni-agent")
    yield running
    running.stop()
