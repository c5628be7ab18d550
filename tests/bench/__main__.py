"""`python -m tests.bench [--quick] [--beside BASE]`: measures, prints, and writes docs/performance.md.

Run as root; it moves itself into new network and mount namespaces, where a tmpfs hides the state directories.
The leases of the IPAM part are on the disk.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench import beside, cluster, ipam, pods, pods_report, vlans

DIST = Path(__file__).parents[2] / "dist"
INSIDE = "BENCH_HAS_NAMESPACES_OF_ITS_OWN"
HIDDEN = ("/var/lib/cni", "/run/netns", "/run/cni-vlan")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("--quick", action="store_true", help="fewer sizes and rounds; nothing is written")
    parser.add_argument("--part", choices=("ipam", "cluster", "pods", "vlans"), help="only one part")
    parser.add_argument("--beside", type=Path, help="only this build beside a built checkout of another")
    arguments = parser.parse_args()
    if INSIDE not in os.environ:
        os.environ[INSIDE] = "yes"
        unshare = ["unshare", "--net", "--mount", sys.executable, "-m", "tests.bench", *sys.argv[1:]]
        os.execvp(unshare[0], unshare)  # noqa: S606 - no shell is wanted
    quick = arguments.quick
    for path in HIDDEN:
        Path(path).mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "bench", path], check=True)
    subprocess.run(["mount", "-t", "sysfs", "bench", "/sys"], check=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    os.environ["CNI_VLAN_BUNDLE"] = str(DIST / "bundle")
    with tempfile.TemporaryDirectory(prefix="bench-", dir=Path.home()) as name:
        if arguments.beside:
            shown = beside.table(beside.measure(Path(name), arguments.beside, quick=quick), arguments.beside)
            print(shown)
            if not quick:
                beside.write(shown)
        else:
            measure(Path(name), arguments.part, quick=quick)


def measure(directory: Path, part: str | None, *, quick: bool) -> None:
    """Measure all parts or one, and write what was measured unless in a hurry."""
    if part in {None, "ipam"}:
        plugin = DIST / "bundle" / "cni-ipam"
        found = ipam.measure(plugin, directory, 9 if quick else 31, ipam.QUICK if quick else ipam.SIZES)
        many = ipam.storms(plugin, directory)
        if not quick:
            ipam.write(found, many)
    if part in {None, "cluster"}:
        shared = cluster.measure(DIST / "bundle" / "cni-ipam", directory, pods=200 if quick else 2000)
        print(shared)
        if not quick:
            cluster.write(shared)
    if part in {None, "pods"}:
        figures = pods.measure(directory, quick=quick)
        if not quick:
            pods_report.write(figures)
    if part == "vlans" or (not part and not quick):
        on_node = vlans.measure()
        print(on_node)
        vlans.write(on_node)


main()
