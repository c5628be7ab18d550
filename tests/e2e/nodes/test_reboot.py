"""A node goes down with pods running, and starts again on the same disk."""

import subprocess
from pathlib import Path

from tests.lab import node

ROOT = Path(__file__).parents[3]


def test_a_node_starts_again_with_the_leases_of_its_pods_void(tmp_path: Path) -> None:
    disk = tmp_path / "state.img"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", disk, "1G"], check=True, stdout=subprocess.DEVNULL)
    command = ["python3", "-m", "tests.e2e.nodes.reboot"]

    lost = node.run(ROOT, [*command, "first"], disk, lambda output: "all addresses are leased" in output)
    status = node.run(ROOT, [*command, "again"], disk)

    assert lost == node.LOST
    assert status == 0
