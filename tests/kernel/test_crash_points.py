"""Killed before the system calls that make and remove parents: nothing is left.

As in `make crash`, for parents that only a node's kernel can make, and at the calls that change what another
process sees of parents and links. `make crash-points` kills the plugin too, not the agent alone, and goes on
from each kill in both ways. The tables are written below dist/crash-points.
"""

import os
from collections.abc import Iterator
from itertools import cycle
from typing import TYPE_CHECKING

import pytest

from tests.crash.exploration import WAYS, Exploration, Scene
from tests.crash.table import write_table
from tests.crash.victims import Agent, OneShot, Victim
from tests.kernel.conftest import ONE_SHOT
from tests.lab import world
from tests.lab.warm import Agents
from tests.lab.world import Host, network

if TYPE_CHECKING:
    from tests.crash.points import Point

pytestmark = pytest.mark.kernel

IN_FULL = "CRASH_POINTS" in os.environ
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
    """The ways to go on after a kill where parents and links change: in full both, else one, in its turn."""

    def __init__(self) -> None:
        self._turns = cycle(WAYS)

    def __call__(self, point: "Point") -> list[str]:
        about = point.about
        if point.name not in SEEN_BY_OTHERS or not ("RTM_" in about or "/cni-vlan/parents" in about):
            return []
        return list(WAYS) if IN_FULL else [next(self._turns)]


@pytest.fixture(params=["agent", "one-shot"] if IN_FULL else ["agent"])
def victim(request: pytest.FixtureRequest, agents: Agents) -> Victim:
    """What does a verb and is killed."""
    return Agent(agents) if request.param == "agent" else OneShot(agents, ONE_SHOT)


@pytest.mark.parametrize("verb", ["ADD", "DEL"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_killed_where_it_makes_or_removes_a_parent(
    empty_host: Host, agents: Agents, victim: Victim, kind: str, verb: str, request: pytest.FixtureRequest
) -> None:
    host = empty_host
    host.uplink()
    exploration = Exploration(Scene(host, NETWORKS[kind], victim, agents, frozenset({"lo", "eth0"})), verb)
    outcomes = list(exploration.outcomes(InTurns()))
    write_table(f"{verb} by the {request.node.callspec.params['victim']}, on {kind}", outcomes)

    assert len(outcomes) > 4
    assert exploration.missed == []
    assert [outcome for outcome in outcomes if outcome.wrong] == []
