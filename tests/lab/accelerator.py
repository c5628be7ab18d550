"""KVM where it can be used, else QEMU's own emulation, which is about ten times slower.

That /dev/kvm can be opened says little: under some hypervisors no ordinary kernel starts with it. So the
node's kernel is started once, and the answer is kept until this machine starts again.
"""

import os
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.lab import suite

DEVICE = Path("/dev/kvm")
HELLO = "lab: kernel up"  # what the initramfs says first
PROBE = "lab.probe"  # on the kernel's command line: say it and power off
_PROBE_S = 10


class Accelerator(NamedTuple):
    """QEMU's options, and why these."""

    options: tuple[str, ...]
    why: str


_TWO, _ONE = ("-smp", "2"), ("-smp", "1")
_KVM = ("-accel", "kvm", "-cpu", "host")
# Without cmpxchg16b, which the allocator of Linux 6.12 uses at each call: a node of Debian 13 was seen to
# panic at that instruction, emulated by QEMU 7.2, with flags that it does not set.
_TCG = ("-accel", "tcg,thread=multi", "-cpu", "max,cx16=off")


def choose(kernel: Path, initramfs: Path, cache: Path, *, side_by_side: bool) -> Accelerator:
    """Return what the nodes of this machine run with; `side_by_side`: several tests at once."""
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        return _emulated(f"{DEVICE} cannot be used", side_by_side=side_by_side)
    if _starts_under_kvm(kernel, initramfs, cache / "kvm"):
        return Accelerator(_KVM + _TWO, "with KVM")
    return _emulated(f"no kernel starts with {DEVICE} here", side_by_side=side_by_side)


def _emulated(reason: str, *, side_by_side: bool) -> Accelerator:
    # QEMU before 8.1 may translate code while another processor writes it, and Linux patches itself at run
    # time. Linux 6.12 was seen to die of an int3 that was no longer there, after a ping that turned on
    # timestamps; Linux 6.1 to hang on both processors, while runc made a first container, which turns on
    # cpusets. So there is one processor, but for tests that run side by side with a kernel of this QEMU's
    # age: they make no containers, were never seen to hang, and would take twice as long.
    processors = _TWO if side_by_side and suite.chosen() == suite.own() else _ONE
    return Accelerator(_TCG + processors, f"emulated, since {reason}")


def _starts_under_kvm(kernel: Path, initramfs: Path, known: Path) -> bool:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    for answer in (True, False):
        if known.exists() and known.read_text() == f"{boot} {answer}":
            return answer
    answer = HELLO in _console(kernel, initramfs)
    known.write_text(f"{boot} {answer}")
    return answer


def _console(kernel: Path, initramfs: Path) -> str:
    """Return what the console shows of a start under KVM."""
    with tempfile.NamedTemporaryFile() as console:
        command = ["qemu-system-x86_64", "-machine", "q35", *_KVM, "-m", "512M", "-display", "none"]
        command += ["-no-reboot", "-nic", "none", "-monitor", "none", "-serial", f"file:{console.name}"]
        command += ["-kernel", str(kernel), "-initrd", str(initramfs)]
        command += ["-append", f"console=ttyS0 quiet panic=-1 {PROBE}"]
        with suppress(subprocess.TimeoutExpired):
            subprocess.run(command, capture_output=True, check=False, timeout=_PROBE_S)
        return Path(console.name).read_text(errors="replace")
