"""Agents killed before the system calls by which they make and remove parents: nothing is left.

As in `make crash`, for parents that only a node's kernel can make; of each kind, the calls that change what
another process sees of parents and links. The tables are written below dist/crash-points.
"""

from collections.abc import Iterator
from itertools import cycle
from typing import TYPE_CHECKING

import pytest

from tests.crash.exploration import WAYS, Exploration, Scene
from tests.crash.table import write_table
from tests.crash.victims import Agent
from tests.kernel.conftest import ONE_SHOT
from tests.lab import world
from tests.lab.warm import Agents
from tests.lab.world import Host, network

if TYPE_CHECKING:
    from tests.crash.points import Point

pytestmark = pytest.mark.kernel

SEEN_BY_OTHERS = {"rename", "link", "symlink", "unlink", "rmdir", "sendto"}
NETWORKS = {
    "a nested VLAN": network("lan", "eth0.10.20", "10.0.0.0/28", announce=0),
    "a dummy of ipvlan l3": network("lan", "", "10.0.0.0/28", driver="ipvlan", mode="l3", announce=0),
}


@pytest.fixture
def empty_host() -> Iterator[Host]:
    """A host without an agent yet."""
    with world.host(ONE_SHOT / "launched") as made:
        yield made


class InTurns:
    """The ways to go on after a kill: for what is about parents and links one of them, each in its turn."""

    def __init__(self) -> None:
        self._turns = cycle(WAYS)

    def __call__(self, point: "Point") -> list[str]:
        about = point.about
        chosen = point.name in SEEN_BY_OTHERS and ("RTM_" in about or "/cni-vlan/parents" in about)
        return [next(self._turns)] if chosen else []


@pytest.mark.parametrize("verb", ["ADD", "DEL"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_killed_where_it_makes_or_removes_a_parent(
    empty_host: Host, agents: Agents, kind: str, verb: str
) -> None:
    host = empty_host
    host.uplink()
    exploration = Exploration(
        Scene(host, NETWORKS[kind], Agent(agents), agents, frozenset({"lo", "eth0"})), verb
    )
    outcomes = list(exploration.outcomes(InTurns()))
    write_table(f"{verb} by the agent, on {kind}", outcomes)

    assert len(outcomes) > 4
    assert exploration.missed == []
    assert [outcome for outcome in outcomes if outcome.wrong] == []
