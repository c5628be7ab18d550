"""A node as a virtual machine: boot it, run one command, pass its output and exit status through."""

import os
import select
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests.lab import accelerator, fitness, image, stage
from tests.lab.accelerator import Accelerator
from tests.lab.deadlines import overdue

_MEMORY = "3G"
_WIRE_S = 120
_LAST_LINES = 20
_LOOK_EVERY_S = 0.5
# The kernel counts interrupts of its timer against a loop, and panics if the host had no time for it.
_BUSY_HOST = "no_timer_check"
LOST = 125  # the node went away before it said how the command ended


class Trunk(NamedTuple):
    """A wire between two nodes, their eth0: the socket that it is, and which end this is, 1 or 2."""

    wire: Path
    end: int


def run(  # noqa: PLR0913 - one for each thing that a node may have plugged in
    project: Path,
    command: list[str],
    data: Path | None = None,
    cut: Callable[[str], bool] | None = None,
    trunk: Trunk | None = None,
    built: image.Image | None = None,
    *,
    side_by_side: bool = False,
) -> int:
    """Run a command on a node, of an image that is built if there is one; return its exit status.

    `data` is a disk that lasts, /dev/vdd. `cut` is shown each piece of output; if it says so, power is lost.
    `trunk` is its eth0.
    `side_by_side`: the command does several things at once, and wants two processors.
    """
    fitness.require(image.cache_directory())
    built = built or image.build()
    chosen = accelerator.choose(
        built.kernel, built.initramfs, image.cache_directory(), side_by_side=side_by_side
    )
    print(f"lab: a node of {built.release}, {chosen.why}", file=sys.stderr, flush=True)
    with stage.scratch_directory() as scratch:
        disk = scratch / "project.img"
        _make_project_disk(project, command, scratch / "project", disk)
        disks = [disk, data] if data else [disk]
        machine = _Machine(built, disks, scratch / "status", scratch / "console", chosen, trunk)
        complaints = _run_until_off(machine, cut or (lambda _output: False))
        status = machine.exit_status()
        if status is None:
            print("lab: the node was lost; its console ends with:", file=sys.stderr)
            print("\n".join(machine.console_lines()[-_LAST_LINES:]), file=sys.stderr)
            print(complaints, file=sys.stderr, flush=True)
            return LOST
        return status


class _Machine(NamedTuple):
    built: image.Image
    disks: list[Path]
    status: Path
    console: Path
    accelerator: Accelerator
    trunk: Trunk | None

    def console_lines(self) -> list[str]:
        return self.console.read_text(errors="replace").splitlines() if self.console.exists() else []

    def _said(self) -> list[str]:
        return self.status.read_text().split() if self.status.exists() else []

    @property
    def is_up(self) -> bool:
        return bool(self._said())

    def exit_status(self) -> int | None:
        said = self._said()
        return int(said[1]) if len(said) > 1 else None


def _run_until_off(machine: _Machine, cut: Callable[[str], bool]) -> str:
    """Run the node until it is off, copying its output live; return what went wrong with it, in words."""
    # Not QEMU's stdio: at the end of stdin it takes the port for disconnected, and the node waits for ever.
    reading, writing = os.pipe()
    process = subprocess.Popen(
        _qemu(machine, f"/dev/fd/{writing}"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=[writing],
    )
    os.close(writing)
    try:
        late = _copy_output(machine, reading, process, cut)
        return late + process.communicate()[1].decode()
    finally:
        process.kill()
        process.wait()
        os.close(reading)


def _copy_output(
    machine: _Machine, reading: int, process: subprocess.Popen[bytes], cut: Callable[[str], bool]
) -> str:
    """Copy until the other end is closed; return the step that took too long, "" if none did."""
    start = time.monotonic()
    booted: float | None = None
    first_output: float | None = None
    while True:
        readable = select.select([reading], [], [], _LOOK_EVERY_S)[0]
        elapsed = time.monotonic() - start
        if booted is None and machine.is_up:
            booted = elapsed
        if readable:
            data = os.read(reading, 65536)
            if not data:
                return ""
            first_output = first_output or elapsed
            sys.stdout.buffer.write(data)
            sys.stdout.flush()
            if cut(data.decode(errors="replace")):
                process.kill()
        late = overdue(elapsed, booted, first_output)
        if late:
            process.kill()
            return f"lab: {late}\n"


def _make_project_disk(project: Path, command: list[str], tree: Path, disk: Path) -> None:
    tree.mkdir()
    stage.copy_project(project, tree)
    stage.install_executables(
        tree / "bin", Path("/opt/libraries"), Path("/opt/project"), interpreter="/usr/bin/python3"
    )
    (tree / ".lab").mkdir()
    (tree / ".lab" / "command").write_text(_script(command))
    image.make_disk(disk, tree, "200M")
    shutil.rmtree(tree)


def _script(command: list[str]) -> str:
    environment = {
        "PYTHONPATH": "/opt/project:/opt/libraries",
        "PYTHONDONTWRITEBYTECODE": "1",
        "LAB_CNI_BIN": "/opt/project/bin",
        "CNI_VLAN_BUNDLE": "/opt/project/bin",
        **{name: os.environ[name] for name in ("CI", "NO_COLOR") if name in os.environ},
    }
    if sys.stdout.isatty():
        environment |= {"COLUMNS": str(shutil.get_terminal_size().columns)}
        environment |= {"FORCE_COLOR": "1", "TERM": os.environ.get("TERM", "xterm-256color")}
    exports = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    return "\n".join([*exports, f"exec {shlex.join(command)}", ""])


def _qemu(machine: _Machine, output: str) -> list[str]:
    def drive(path: Path, options: str = "") -> list[str]:
        return ["-drive", f"file={path},if=virtio,format=raw,cache=unsafe{options}"]

    def port(name: str, chardev: str) -> list[str]:
        return ["-chardev", f"{chardev},id={name}", "-device", f"virtserialport,chardev={name},name={name}"]

    return [
        *["qemu-system-x86_64", "-machine", "q35", *machine.accelerator.options],
        *f"-m {_MEMORY} -display none -no-reboot -nic none -monitor none".split(),
        *["-kernel", str(machine.built.kernel), "-initrd", str(machine.built.initramfs)],
        *["-append", f"console=ttyS0 quiet panic=-1 {_BUSY_HOST}"],
        *["-serial", f"file:{machine.console}"],
        *drive(machine.built.root, ",snapshot=on"),
        *drive(machine.built.libraries, ",readonly=on"),
        *(option for disk in machine.disks for option in drive(disk)),
        *["-device", "virtio-serial-pci"],
        *(_wire(machine.trunk) if machine.trunk else ()),
        *port("output", f"file,path={output},append=on"),
        *port("status", f"file,path={machine.status}"),
    ]


def _wire(trunk: Trunk) -> list[str]:
    """Plug a node into a trunk; the first end listens, so the second waits for it."""
    give_up = time.monotonic() + _WIRE_S
    while trunk.end != 1 and not trunk.wire.exists():
        if time.monotonic() > give_up:
            raise TimeoutError("the other end of the trunk did not start")
        time.sleep(0.1)
    server = "on" if trunk.end == 1 else "off"
    stream = f"stream,id=trunk,server={server},addr.type=unix,addr.path={trunk.wire}"
    device = f"virtio-net-pci,netdev=trunk,mac=02:00:00:00:00:0{trunk.end}"
    return ["-netdev", stream, "-device", device]
