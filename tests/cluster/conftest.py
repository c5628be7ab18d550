"""The engines: etcd, and the Kubernetes API if KUBERNETES names the directory with its programs."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from cni_ipam.cluster import EngineConf
from cni_ipam.engine import Engine
from cni_ipam.etcd import Etcd
from cni_ipam.kubernetes import Kubernetes
from tests.cluster.apiserver import ApiServer
from tests.cluster.certificates import Certificates
from tests.cluster.etcds import Etcds
from tests.e2e.kubernetes import programs
from tests.store.conftest import executable

__all__ = ["executable"]

ENGINES = ("etcd", "kubernetes") if programs.directory() else ("etcd",)
collect_ignore = [] if programs.directory() else ["test_kubernetes.py"]
_numbers = itertools.count(1)


class Subject(NamedTuple):
    """An engine under test: the way to it, and a pool that no other test uses."""

    conf: EngineConf
    open: Callable[[EngineConf], Engine]
    pool: str

    def engine(self) -> Engine:
        """Return the engine as a further process would open it."""
        return self.open(self.conf)


@pytest.fixture(scope="session")
def etcd() -> Iterator[Etcds]:
    """An etcd of one member for tests that leave it as it is."""
    with Etcds() as running:
        yield running


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server with our resource types, for tests that leave it as it is."""
    with ApiServer(tmp_path_factory.mktemp("api")) as running:
        running.install_types()
        yield running


@pytest.fixture(params=ENGINES)
def subject(request: pytest.FixtureRequest) -> Subject:
    pool = f"pool{next(_numbers)}.a"
    if request.param == "etcd":
        running: Etcds = request.getfixturevalue("etcd")
        return Subject(running.conf(prefix=f"/{pool}"), Etcd, pool)
    server: ApiServer = request.getfixturevalue("api")
    return Subject(server.conf(), Kubernetes, pool)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """An authority with a server's certificate for this machine, and a client's."""
    found = Certificates(tmp_path_factory.mktemp("certificates") / "ca")
    found.issue("server", "IP:127.0.0.1,DNS:localhost")
    found.issue("client", "DNS:client")
    return found


@pytest.fixture
def stranger(tmp_path: Path) -> Certificates:
    """Another authority, with certificates that nobody here trusts."""
    found = Certificates(tmp_path / "stranger")
    found.issue("client", "DNS:client")
    return found
