"""The nodes, as containers on this machine: namespaces of their own over the files of a Debian."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.e2e.kubernetes import cgroups, programs
from tests.e2e.kubernetes.topology import Place, connect
from tests.lab import image
from tests.lab.waiting import wait_until

ROOT = Path(__file__).parents[3]
_INIT = Path(__file__).with_name("node-init")
_JOIN = 'until [ "$1" = -- ]; do echo $$ >"$1/cgroup.procs"; shift; done; shift; exec "$@"'
_ISOLATED = "unshare --mount --uts --ipc --net --cgroup --pid --fork --kill-child".split()


class System(NamedTuple):
    """What the nodes read, and the directory of the disks that they write."""

    debian: Path
    programs: Path
    disks: Path


@contextmanager
def system(scratch: Path) -> Iterator[System]:
    """Give what nodes need; the image of a lab node is not changed."""
    found = System(*(scratch / name for name in System._fields))
    programs.write(found.programs)
    found.debian.mkdir()
    found.disks.mkdir()
    subprocess.run(["mount", "-o", "loop,ro", image.build().root, found.debian], check=True)
    # An overlay can lie on it, which it cannot on the machine's files if they are an overlay too.
    subprocess.run(["mount", "-t", "tmpfs", "disks", found.disks], check=True)
    try:
        yield found
    finally:
        subprocess.run(["umount", "--lazy", found.debian, found.disks], check=True)


class Machine:
    """A node: what it runs on, from a start to an end, and again."""

    def __init__(self, place: Place, system: System, log: Path, worker: Sequence[str]) -> None:
        disk = system.disks / place.name
        reads = [str(system.programs), str(ROOT)]
        self._command = [*_ISOLATED, str(_INIT), place.name, str(system.debian), str(disk), *reads]
        self._command += ["python3", "-m", *worker]
        self._place, self._log = place, log
        self._running = ExitStack()

    def start(self) -> None:
        """Start it, and put it on the trunk."""
        groups = self._running.enter_context(cgroups.group())
        join = ["sh", "-c", _JOIN, "sh", *map(str, groups), "--"]
        with self._log.open("ab") as output:
            self._process = subprocess.Popen([*join, *self._command], stdout=output, stderr=output)
        self._running.callback(self._end)
        init = self._init  # which is in the groups by now
        for own in groups:  # one with a process that is not the node's could hand no controllers down
            (own.parent / "cgroup.procs").write_text(f"{self._process.pid}\n", encoding="ascii")
        connect(self._place, init)

    def end(self) -> None:
        """End all that runs on it at once, as a loss of power does."""
        self._running.close()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def _init(self) -> int:
        """The process id of its first process."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        wait_until(children.read_text)
        return int(children.read_text())

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command on it, outside of every container."""
        self.assert_runs()
        enter = ["nsenter", f"--target={self._init}", "--all", "--root", "--wd"]
        return subprocess.run(
            [*enter, *command], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )

    def assert_runs(self) -> None:
        assert self._process.poll() is None, self._log.read_text()[-4000:]
