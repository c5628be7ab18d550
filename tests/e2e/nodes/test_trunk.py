"""Two nodes on one trunk: pods of the same VLANs reach each other over tagged frames."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.lab import node
from tests.lab.node import Trunk

ROOT = Path(__file__).parents[3]


def test_pods_of_two_nodes_reach_each_other(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    wire = tmp_path / "trunk.sock"

    def run(number: int) -> int:
        command = ["python3", "-m", "tests.e2e.nodes.side", str(number)]
        return node.run(ROOT, command, trunk=Trunk(wire, number))

    with ThreadPoolExecutor(2) as pool:
        statuses = list(pool.map(run, (1, 2)))

    shown = capfd.readouterr().out
    assert statuses == [0, 0], shown
    for number in (1, 2):
        assert shown.count(f"node {number}: vlan10 reaches") == 2
        assert shown.count(f"node {number}: vlan20 reaches") == 2
        assert f"node {number}: routed reaches" in shown
        assert f"node {number}: frames of VLAN 10 seen" in shown
        assert f"node {number}: frames of VLAN 20 seen" in shown
        assert f"node {number}: removed" in shown
