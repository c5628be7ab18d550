"""A cluster for the session: a control plane on this machine, a node of its own kernel."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.kubernetes import programs
from tests.e2e.kubernetes.cluster import PRIMARY, Cluster
from tests.e2e.kubernetes.control_plane import ADDRESS, ControlPlane

ROOT = Path(__file__).parents[3]


def _overlay(directory: Path) -> Path:
    """Write the manifests as an operator does: a network, the name of the image; and time for an emulator."""
    shutil.copytree(ROOT / "manifests" / "kubernetes", directory)
    (directory / "overlays" / "primary" / "10-pods.conflist").write_text(json.dumps(PRIMARY))
    probes = ("livenessProbe", "readinessProbe")
    container = "/spec/template/spec/containers/0"
    # To ask an agent for its health takes an emulator seconds of its one processor.
    slower = [
        {"op": "replace", "path": f"{container}/{probe}/{key}", "value": value}
        for probe, period in zip(probes, (300, 60), strict=True)
        for key, value in (("timeoutSeconds", 60), ("periodSeconds", period))
    ]
    overlay = directory / "overlays" / "lab"
    overlay.mkdir()
    kustomization = {
        "resources": ["../primary"],
        "images": [{"name": "cni-vlan", "newName": "localhost/cni-vlan"}],
        "patches": [{"target": {"kind": "DaemonSet"}, "patch": json.dumps(slower)}],
    }
    (overlay / "kustomization.yaml").write_text(json.dumps(kustomization))
    return overlay


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    missing = programs.missing()
    assert not missing, f"KUBERNETES names no directory with {' '.join(missing)}"
    scratch = tmp_path_factory.mktemp("kubernetes")
    disk = scratch / "programs.img"
    programs.disk(disk)
    with ControlPlane(scratch) as plane:
        plane.kubectl("apply", "--kustomize", str(_overlay(scratch / "manifests")))
        plane.kubeconfig(f"https://{ADDRESS}:{plane.port}", scratch / "node.kubeconfig")
        settings = {
            "port": plane.port,
            "kubelet": plane.kubelet,
            "kubeconfig": json.loads((scratch / "node.kubeconfig").read_text()),
        }
        command = [sys.executable, "-m", "tests.e2e.kubernetes.machine", str(disk), json.dumps(settings)]
        with (scratch / "node.log").open("ab") as log:
            machine = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            yield Cluster(plane, scratch, machine)
        finally:
            machine.terminate()
            machine.wait(60)
