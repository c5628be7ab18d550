"""Native mode, on a node that stands for a machine whose kernel has every link kind."""

from pathlib import Path

import pytest

from tests.lab import node

ROOT = Path(__file__).parents[2]


def test_native_mode_works_and_leaves_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    status = node.run(ROOT, ["python3", "-m", "tests.lab.trial_of_native"])

    shown = capfd.readouterr()
    assert status == 0, shown.out + shown.err
    assert "native mode: all as expected" in shown.out
