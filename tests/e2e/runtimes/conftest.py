"""A node root without Python, with what `make build` made installed; an uplink and a router."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.runtimes import bare
from tests.e2e.runtimes.image import write_image
from tests.e2e.runtimes.installed import IMAGE, SOCKET, Containerd, cable, install
from tests.lab.waiting import wait_until

collect_ignore = [] if bare.podman_has_cni() else ["test_podman.py"]


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the root, install, plug in; return where logs are."""
    scratch = tmp_path_factory.mktemp("node")
    bare.make(Path("/var/bare"))
    cable()
    install(scratch)
    return scratch


@pytest.fixture(scope="module")
def agent(node: Path) -> Iterator[None]:
    """The agent as a host runs it."""
    process = bare.start("/opt/cni-vlan/current/cni-agent", "serve", log=node / "agent.log")
    wait_until(SOCKET.exists)
    yield
    process.terminate()
    process.wait()
    SOCKET.unlink(missing_ok=True)  # an agent that stops takes it away


@pytest.fixture(scope="session")
def containerd(node: Path, image: Path) -> Iterator[Containerd]:
    running = Containerd(node / "containerd.log", image)
    yield running
    running.end()


@pytest.fixture(scope="session")
def image(node: Path) -> Path:
    """An OCI archive of busybox."""
    path = node / "busybox.tar"
    write_image(path, IMAGE)
    return path
