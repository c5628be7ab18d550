"""A node loses its power in the middle of a stream of calls, and starts again on the same disk."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.lab import node

ROOT = Path(__file__).parents[2]


class Cut:
    """Takes the power away when so many lines of a kind were seen; keeps what was printed."""

    def __init__(self, answers: int) -> None:
        self.answers = answers
        self.output = ""

    def __call__(self, output: str) -> bool:
        self.output += output
        return self.output.count("answered") >= self.answers


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "data.img"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", path, "64M"], check=True, stdout=subprocess.DEVNULL)
    return path


def test_leases_survive_the_loss_of_power_without_leak_or_lock(disk: Path) -> None:
    found = []
    for answers in (60, 300, 1):
        cut = Cut(answers)
        status = node.run(ROOT, ["python3", "-m", "tests.power.stream", "verify"], disk, cut)
        assert status == node.LOST, cut.output
        match = re.search(r"verified over (\d+) leases of before", cut.output)
        assert match, cut.output
        found.append(int(match[1]))

    assert found[0] == 0
    assert min(found[1:]) > 0  # else the disk had nothing that a loss could have hurt
