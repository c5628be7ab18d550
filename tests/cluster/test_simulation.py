"""A short run of the simulation; `python -m tests.cluster.simulation` runs a long one."""

import os
import random
from pathlib import Path

from tests.cluster.simulation import Simulation


def test_no_address_is_leased_twice_or_lost(executable: Path) -> None:
    seed = os.environ.get("SEED") or str(random.randrange(1_000_000))  # noqa: S311 - a test's dice
    print(f"seed {seed}")

    tally = Simulation(12, 8000, seed).run(executable)

    assert tally.operations >= 8000
    assert tally.nodes_killed > 0
    assert set(tally.errors) <= {11}, tally  # the engine was away
