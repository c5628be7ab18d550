"""A cluster for the session: a control plane on this machine, two nodes of their own kernels."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.e2e.kubernetes import programs
from tests.e2e.kubernetes.cluster import PRIMARY, Cluster, Node
from tests.e2e.kubernetes.control_plane import ControlPlane, Json, free_port
from tests.e2e.kubernetes.topology import API_SERVER, Place

ROOT = Path(__file__).parents[3]


def _overlay(directory: Path) -> Path:
    """Write the manifests as an operator does: network, shared pool, image; with time for an emulator."""
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
        "patches": [{"target": {"kind": "DaemonSet"}, "patch": json.dumps(_patient())}],
    }
    (overlay / "kustomization.yaml").write_text(json.dumps(lab))
    return overlay


def _patient() -> list[Json]:
    """Return a patch by which an agent is seldom asked for its health: an emulator takes seconds for it."""
    container = "/spec/template/spec/containers/0"
    asked = {"exec": {"command": ["/bundle/cni-agent", "health"]}, "timeoutSeconds": 60}
    found = [
        {"op": "replace", "path": f"{container}/{probe}", "value": {**asked, "periodSeconds": 300}}
        for probe in ("livenessProbe", "readinessProbe")
    ]
    until_then = {**asked, "periodSeconds": 5, "failureThreshold": 100}
    return [*found, {"op": "add", "path": f"{container}/startupProbe", "value": until_then}]


@contextmanager
def _started(plane: ControlPlane, scratch: Path, place: Place) -> Iterator[Node]:
    """Start a node, which takes longer than the control plane does."""
    kubeconfig = scratch / "node.kubeconfig"
    plane.kubeconfig(f"https://{API_SERVER}:{plane.port}", kubeconfig)
    ports = {"kubelet": free_port(), "shell": free_port()}
    settings = {"number": place.number, "api": plane.port, **ports}
    settings["kubeconfig"] = json.loads(kubeconfig.read_text())
    command = [sys.executable, "-m", "tests.e2e.kubernetes.machine"]
    command += [str(scratch / f"{place.number}.img"), str(scratch / "wire"), json.dumps(settings)]
    path = scratch / f"node{place.number}.log"
    with path.open("ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    try:
        yield Node(place, ports, process, path)
    finally:
        process.terminate()
        process.wait(60)
        (scratch / f"{place.number}.img").unlink(missing_ok=True)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    missing = programs.missing()
    assert not missing, f"KUBERNETES names no directory with {' '.join(missing)}"
    scratch = tmp_path_factory.mktemp("kubernetes")
    programs.disk(scratch / "1.img")
    subprocess.run(["cp", "--sparse=always", scratch / "1.img", scratch / "2.img"], check=True)
    with ExitStack() as stack:
        plane = ControlPlane(scratch)
        places = (Place(1), Place(2))
        nodes = tuple(stack.enter_context(_started(plane, scratch, place)) for place in places)
        stack.enter_context(plane)
        plane.kubectl("apply", "--kustomize", str(_overlay(scratch / "manifests")))
        yield Cluster(plane, nodes)
