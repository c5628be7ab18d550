"""One fresh host for each test."""

from collections.abc import Iterator

import pytest

from conformance import world
from conformance.world import Host


@pytest.fixture
def host() -> Iterator[Host]:
    with world.host() as made:
        yield made
