"""A cluster for the session: a control plane and two nodes, in namespaces of this machine."""

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.kubernetes import machine
from tests.e2e.kubernetes.cluster import PRIMARY, Cluster, Node
from tests.e2e.kubernetes.control_plane import ControlPlane
from tests.e2e.kubernetes.machine import Machine, System
from tests.e2e.kubernetes.topology import ROUTER, Place, put_router

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


def _node(plane: ControlPlane, system: System, scratch: Path, place: Place) -> Node:
    """Return a node that is about to start."""
    kubeconfig = scratch / "node.kubeconfig"
    plane.kubeconfig(f"https://{ROUTER}:{plane.port}", kubeconfig)
    settings = {"number": place.number, "kubeconfig": json.loads(kubeconfig.read_text())}
    worker = ["tests.e2e.kubernetes.worker", json.dumps(settings)]
    return Node(place, Machine(place, system, scratch / f"{place.name}.log", worker))


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    scratch = tmp_path_factory.mktemp("kubernetes")
    put_router()
    with ExitStack() as stack:
        system = stack.enter_context(machine.system(scratch))
        plane = stack.enter_context(ControlPlane(scratch))
        nodes = tuple(_node(plane, system, scratch, place) for place in (Place(1), Place(2)))
        for node in nodes:
            stack.callback(node.machine.end)
            node.machine.start()
        plane.kubectl("apply", "--kustomize", str(_overlay(scratch / "manifests")))
        yield Cluster(plane, nodes)
