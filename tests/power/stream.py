"""What a node does until its power is lost: lease and release without end, on a disk that lasts.

Run on a node as `python3 -m tests.power.stream verify|stream`. A line for each call that was answered.
"""

import itertools
import os
import random
import subprocess
import sys
from pathlib import Path

from tests.store.ipam import Ipam

DISK, LEASES = "/dev/vdd", Path("/var/lib/cni")
USABLE = 13  # of a /28
PODS = 10
KEPT = 40  # calls after which all is on the disk; what follows may be there, or in part, or not


def mount() -> Ipam:
    """Mount the disk so that what is written reaches it early and out of step, as on a busy node."""
    LEASES.mkdir(exist_ok=True)
    subprocess.run(["mount", "-o", "commit=1", DISK, LEASES], check=True)
    for knob in ("dirty_writeback_centisecs", "dirty_expire_centisecs"):
        Path(f"/proc/sys/vm/{knob}").write_text("5")
    return Ipam(Path("cni-ipam"), LEASES / "cni-ipam", "10.0.0.0/28", "2001:db8::/64")


def verify(ipam: Ipam) -> None:
    """Lease every address, release them all, and see that nothing is left of the boot before."""
    found = len(list(ipam.data_dir.glob("lan/*-*/owners/*")))
    given: list[str] = []
    while (reply := ipam.warm("ADD", f"new{len(given)}")).status == 0:
        given.append(reply.addresses[0])
    assert reply.code == 110, reply
    assert len(set(given)) == len(given) == USABLE, given
    assert ipam.warm("STATUS", "").code == 50
    for number in range(len(given)):
        assert ipam.warm("DEL", f"new{number}").status == 0
    assert ipam.warm("STATUS", "").status == 0
    files = sorted(path.name for path in ipam.data_dir.rglob("*") if path.is_file())
    assert len(files) == 4, files  # lock, pool, two cursors
    print(f"verified over {found} leases of before", flush=True)


def stream(ipam: Ipam) -> None:
    dice = random.Random(0)  # noqa: S311 - a test's dice
    held: set[str] = set()
    for call in itertools.count(1):
        pod = f"pod{dice.randrange(PODS)}"
        reply = ipam.warm("DEL" if pod in held else "ADD", pod)
        assert reply.status == 0, reply
        held ^= {pod}
        print(f"answered {pod}", flush=True)
        if call == KEPT:
            assert held
            os.sync()


if __name__ == "__main__":
    pool = mount()
    if sys.argv[1] == "verify":
        verify(pool)
    stream(pool)
