"""One host for the subject, a fresh pod and a fresh network for each test."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.spec.subject import Subject, load
from tests.lab.world import Host, Json, Pod

VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
NUMBERS = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--subject", type=Path, required=True, help="what is judged, a TOML file")


@pytest.fixture(scope="session")
def subject(request: pytest.FixtureRequest) -> Subject:
    return load(request.config.getoption("--subject"))


@pytest.fixture(scope="session")
def host(subject: Subject) -> Iterator[Host]:
    with subject.host() as made:
        yield made


@pytest.fixture(scope="session")
def supported(subject: Subject, host: Host) -> list[str]:
    """The versions that the plugin says it has."""
    reply = host.plugin("VERSION", {"cniVersion": "1.1.0", "type": subject.plugin})
    found: list[str] = reply.document["supportedVersions"]
    return found


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest, supported: list[str]) -> str:
    return _needed(request.param, supported)


@pytest.fixture(params=[v for v in VERSIONS if v >= "0.4.0"])
def version_with_check(request: pytest.FixtureRequest, supported: list[str]) -> str:
    return _needed(request.param, supported)


@pytest.fixture
def latest(supported: list[str]) -> str:
    """The version that has GC and STATUS."""
    return _needed("1.1.0", supported)


def _needed(version: str, supported: list[str]) -> str:
    # The suite judges any plugin, and an old one has no such verb. The report says "not supported"; of a
    # subject that is required to pass, such as ours, that counts as a failure (report.Judged.complete).
    if version not in supported:
        pytest.skip(f"does not support {version}")
    return version


@pytest.fixture
def conf(subject: Subject) -> Json:
    """A network of its own; the test adds the version."""
    return {"name": f"net{next(NUMBERS)}", **subject.config}


@pytest.fixture
def pod(host: Host) -> Pod:
    return host.namespace(f"pod{next(NUMBERS)}")
