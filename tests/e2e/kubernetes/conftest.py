"""A cluster for the session: a control plane and two nodes, in namespaces of this machine."""

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.e2e.kubernetes import machine
from tests.e2e.kubernetes.cluster import PRIMARY, Cluster, Node
from tests.e2e.kubernetes.control_plane import ControlPlane
from tests.e2e.kubernetes.machine import System
from tests.e2e.kubernetes.topology import ROUTER, Place, connect, put_router

ROOT = Path(__file__).parents[3]


def _overlay(directory: Path) -> Path:
    """Write the manifests as an operator does: network, shared pool, image."""
    shutil.copytree(ROOT / "manifests" / "kubernetes", directory)
    primary = directory / "overlays" / "primary"
    (primary / "10-pods.conflist").write_text(json.dumps(PRIMARY))
    kustomization = primary / "kustomization.yaml"
    kustomization.write_text(kustomization.read_text().replace("- ../../base", "- ../cluster"))
    overlay = directory / "overlays" / "lab"
    overlay.mkdir()
    lab = {
        "resources": ["../primary"],
        "images": [{"name": "cni-vlan", "newName": "localhost/cni-vlan"}],
    }
    (overlay / "kustomization.yaml").write_text(json.dumps(lab))
    return overlay


@contextmanager
def _started(plane: ControlPlane, system: System, scratch: Path, place: Place) -> Iterator[Node]:
    """Start a node, which waits until it is connected."""
    kubeconfig = scratch / "node.kubeconfig"
    plane.kubeconfig(f"https://{ROUTER}:{plane.port}", kubeconfig)
    settings = {"number": place.number, "kubeconfig": json.loads(kubeconfig.read_text())}
    worker = ["tests.e2e.kubernetes.worker", json.dumps(settings)]
    with machine.started(place, system, scratch / f"{place.name}.log", worker) as running:
        connect(place, running.init)
        yield Node(place, running)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    scratch = tmp_path_factory.mktemp("kubernetes")
    put_router()
    with ExitStack() as stack:
        system = stack.enter_context(machine.system(scratch))
        plane = ControlPlane(scratch)
        places = (Place(1), Place(2))
        nodes = tuple(stack.enter_context(_started(plane, system, scratch, place)) for place in places)
        stack.enter_context(plane)
        plane.kubectl("apply", "--kustomize", str(_overlay(scratch / "manifests")))
        yield Cluster(plane, nodes)
