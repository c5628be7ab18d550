"""Hosts of the agent's tests, with agents that are forked from one that has loaded all."""

from collections.abc import Iterator

import pytest

from tests.agent.conftest import host, launchers, one_shot
from tests.lab.warm import Agents

__all__ = ["host", "launchers", "one_shot"]


@pytest.fixture(scope="session")
def agents() -> Iterator[Agents]:
    made = Agents()
    yield made
    made.end()
