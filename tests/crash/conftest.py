"""Hosts without an agent yet, and agents that are forked from one that has loaded all."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.conftest import one_shot
from tests.lab import world
from tests.lab.warm import Agents
from tests.lab.world import Host

__all__ = ["one_shot"]


@pytest.fixture(scope="session")
def agents() -> Iterator[Agents]:
    made = Agents()
    yield made
    made.end()


@pytest.fixture
def host(one_shot: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setenv("CNI_VLAN_BUNDLE", str(one_shot))
    with world.host(one_shot / "launched") as made:
        yield made
