"""One fresh host for each test, with an agent and the launcher as a node has them; or without."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import world
from tests.lab.warm import Agents
from tests.lab.world import Host, Json

ONE_SHOT = Path(os.environ["LAB_CNI_BIN"])
IS_IN_CI = "CI" in os.environ


def needs(program: str) -> pytest.MarkDecorator:
    """Mark tests of a routing daemon, which nodes have; in CI they run in any case, and fail without it."""
    is_there = shutil.which(program) or Path(program).exists()
    return pytest.mark.skipif(
        not (is_there or IS_IN_CI), reason=f"this machine, taken in place of a node, has no {program}"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse tests that could be skipped on this machine, and would not run on a node either."""
    lost = [
        item.nodeid for item in items if {"macvlan", "skipif"} <= {mark.name for mark in item.iter_markers()}
    ]
    if lost:
        raise pytest.UsageError(f"marked macvlan, but skipped without a program: {', '.join(lost)}")


@pytest.fixture(scope="session")
def agents() -> Iterator[Agents]:
    made = Agents()
    yield made
    made.end()


@pytest.fixture
def host(agents: Agents) -> Iterator[Host]:
    with world.host(ONE_SHOT / "launched", agents) as made:
        yield made


@pytest.fixture
def cold_host() -> Iterator[Host]:
    """A host whose plugins are executed, with no agent."""
    with world.host(ONE_SHOT) as made:
        yield made


def vlan(host: Host, name: str, uplink: str, vlan_id: int, *options: str) -> None:
    host.ip("link", "add", "link", uplink, "name", name, "type", "vlan", "id", str(vlan_id), *options)
    host.ip("link", "set", name, "up")


def info(host: Host, name: str) -> Json:
    data: Json = host.links()[name]["linkinfo"]["info_data"]
    return data
