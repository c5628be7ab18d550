"""The nodes, as containers on this machine: namespaces of their own over the files of a Debian."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.e2e.kubernetes import cgroups, programs
from tests.e2e.kubernetes.topology import Place
from tests.lab import image
from tests.lab.waiting import wait_until

ROOT = Path(__file__).parents[3]
_INIT = Path(__file__).with_name("node-init")
_JOIN = 'until [ "$1" = -- ]; do echo $$ >"$1/cgroup.procs"; shift; done; shift; exec "$@"'
_ISOLATED = "unshare --mount --uts --ipc --net --cgroup --pid --fork --kill-child".split()


class System(NamedTuple):
    """What all nodes read: the files of a Debian, and the programs of Kubernetes."""

    debian: Path
    programs: Path


@contextmanager
def system(scratch: Path) -> Iterator[System]:
    """Give what nodes read; the image of a lab node is not changed."""
    debian, programs_directory = scratch / "debian", scratch / "programs"
    programs.write(programs_directory)
    debian.mkdir()
    subprocess.run(["mount", "-o", "loop,ro", image.build().root, debian], check=True)
    try:
        yield System(debian, programs_directory)
    finally:
        subprocess.run(["umount", "--lazy", debian], check=True)


class Machine(NamedTuple):
    """A node that runs."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def init(self) -> int:
        """The process id of its first process."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        wait_until(children.read_text)
        return int(children.read_text())

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command on it, outside of every container."""
        assert self.process.poll() is None, self.log.read_text()[-4000:]
        enter = ["nsenter", f"--target={self.init}", "--all", "--root", "--wd"]
        return subprocess.run(
            [*enter, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )


def _leave(groups: Sequence[Path], machine: Machine) -> None:
    """Take out the process that waits for a node's first one, which cannot do it for one outside."""
    assert machine.init
    for own in groups:
        (own.parent / "cgroup.procs").write_text(f"{machine.process.pid}\n")


@contextmanager
def started(place: Place, system: System, log: Path, worker: Sequence[str]) -> Iterator[Machine]:
    """Start a node that does a Python module's work; end it with all that runs on it."""
    command = [*_ISOLATED, str(_INIT), place.name, str(system.debian), str(system.programs), str(ROOT)]
    with cgroups.group() as groups:
        join = ["sh", "-c", _JOIN, "sh", *map(str, groups), "--"]
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*join, *command, "python3", "-m", *worker], stdout=output, stderr=output
            )
        try:
            machine = Machine(process, log)
            _leave(groups, machine)
            yield machine
        finally:
            process.kill()
            process.wait()
