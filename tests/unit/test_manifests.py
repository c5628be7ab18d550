"""What a cluster installs: valid for the Kubernetes API, and no more privileged than it has to be."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.unit.test_examples import validate

MANIFESTS = Path(__file__).parents[2] / "manifests"
BASE = MANIFESTS / "kubernetes" / "base"
OBJECTS = sorted(set(BASE.glob("*.yaml")) - {BASE / "kustomization.yaml"})
NETWORKS = sorted(set(MANIFESTS.glob("multus/*.yaml")) - {MANIFESTS / "multus" / "kustomization.yaml"})
OLDEST = "1.28"
# k8s.cni.cncf.io/v1, as its CustomResourceDefinition has it (Network Plumbing Working Group).
ATTACHMENT = {
    "type": "object",
    "required": ["apiVersion", "kind", "metadata", "spec"],
    "additionalProperties": False,
    "properties": {
        "apiVersion": {"const": "k8s.cni.cncf.io/v1"},
        "kind": {"const": "NetworkAttachmentDefinition"},
        "metadata": {
            "type": "object",
            "required": ["name"],
            "properties": {"name": {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"}},
        },
        "spec": {
            "type": "object",
            "required": ["config"],
            "additionalProperties": False,
            "properties": {"config": {"type": "string"}},
        },
    },
}


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    return document


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.name)
@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
def test_an_object_is_valid_for_the_api(path: Path, version: str) -> None:
    kubernetes_validate.validate(read(path), version, strict=True)


def test_an_object_that_is_not_valid_is_found() -> None:
    broken = read(BASE / "daemonset.yaml")
    broken["spec"]["template"]["spec"]["hostNetwrok"] = True

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, OLDEST, strict=True)


def test_the_base_lists_every_object() -> None:
    base = read(BASE / "kustomization.yaml")

    assert sorted(base["resources"]) == [path.name for path in OBJECTS]


def test_the_agent_has_no_more_than_it_needs() -> None:
    spec = read(BASE / "daemonset.yaml")["spec"]["template"]["spec"]

    assert "hostPID" not in spec
    for container in (*spec["initContainers"], *spec["containers"]):
        context = container["securityContext"]
        assert "privileged" not in context
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"]["drop"] == ["ALL"]
    (agent,) = spec["containers"]
    assert agent["securityContext"]["capabilities"]["add"] == ["NET_ADMIN", "NET_RAW", "SYS_ADMIN"]


@pytest.mark.parametrize("path", NETWORKS, ids=lambda path: path.name)
def test_an_attachment_definition_holds_the_example_of_its_name(path: Path, tmp_path: Path) -> None:
    definition = read(path)
    jsonschema.validate(definition, ATTACHMENT)
    config = json.loads(definition["spec"]["config"])
    example = json.loads((MANIFESTS / "networks" / path.name).with_suffix(".conflist").read_text())
    written = tmp_path / "network.conflist"
    written.write_text(definition["spec"]["config"])

    assert config == example
    assert definition["metadata"]["name"] == config["name"]
    assert validate(written).returncode == 0


def test_every_example_is_there_for_multus_too() -> None:
    assert [path.stem for path in NETWORKS] == [p.stem for p in sorted((MANIFESTS / "networks").iterdir())]


def test_every_example_is_in_the_list_for_kustomize() -> None:
    listed = read(MANIFESTS / "multus" / "kustomization.yaml")["resources"]

    assert listed == [path.name for path in NETWORKS]


def test_the_agent_can_write_no_more_of_the_kernel_s_variables_than_it_needs() -> None:
    """/proc/sys/kernel/core_pattern, written, is a program that the kernel runs as root on the host."""
    pod = read(BASE / "daemonset.yaml")["spec"]["template"]["spec"]
    shared = [volume["hostPath"]["path"] for volume in pod["volumes"]]
    unit = (MANIFESTS / "systemd" / "cni-agent.service").read_text()

    assert [path for path in shared if path.startswith(("/proc", "/sys"))] == ["/proc/sys/net"]
    assert "ProtectKernelTunables=yes\n" in unit
    assert "ReadWritePaths=/run/cni-vlan /proc/sys/net\n" in unit


def test_no_port_is_open_unless_somebody_asks_for_it() -> None:
    (agent,) = read(BASE / "daemonset.yaml")["spec"]["template"]["spec"]["containers"]

    assert "--metrics" not in agent["command"]
    assert all("exec" in agent[probe] for probe in ("livenessProbe", "readinessProbe"))
