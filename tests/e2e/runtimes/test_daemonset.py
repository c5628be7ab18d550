"""The DaemonSet's containers, started as kubelet starts them with exactly its settings, serve pods."""

import json
import shutil
import tomllib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.runtimes.bare import ROOT, links, run
from tests.e2e.runtimes.cri import Container, Pod, Runtime, messages
from tests.e2e.runtimes.installed import DIST, IMAGE, SOCKET, Containerd, leases
from tests.lab.waiting import wait_until

VERSION = tomllib.loads((DIST.parent / "pyproject.toml").read_text())["project"]["version"]
MANIFEST = Path(__file__).parents[3] / "manifests" / "kubernetes" / "base" / "daemonset.yaml"
NAME = f"localhost/cni-vlan:{VERSION}"
MEMORY = {"Mi": 1 << 20}


class Settings:
    """The pod template, in the words of the Container Runtime Interface."""

    def __init__(self) -> None:
        self.spec = yaml.safe_load(MANIFEST.read_text())["spec"]["template"]["spec"]
        self.volumes = {volume["name"]: volume["hostPath"] for volume in self.spec["volumes"]}

    def sandbox(self) -> dict[str, Any]:
        return {"namespace_options": self._namespaces(), "seccomp": self._seccomp()}

    def _namespaces(self) -> Any:  # noqa: ANN401 - a message
        assert self.spec["hostNetwork"]
        assert not self.spec.get("hostPID")
        assert not self.spec.get("hostIPC")
        return messages.NamespaceOption(network=messages.NODE, pid=messages.CONTAINER)

    def _seccomp(self) -> Any:  # noqa: ANN401 - a message
        kind = self.spec["securityContext"]["seccompProfile"]["type"]
        return messages.SecurityProfile(profile_type=messages.SecurityProfile.ProfileType.Value(kind))

    def container(self, spec: dict[str, Any]) -> dict[str, Any]:
        context = spec["securityContext"]
        assert not context.get("privileged")
        limit = spec["resources"]["limits"]["memory"]
        return {
            "mounts": [self._mount(mount) for mount in spec["volumeMounts"]],
            "linux": messages.LinuxContainerConfig(
                resources=messages.LinuxContainerResources(
                    memory_limit_in_bytes=int(limit[:-2]) * MEMORY[limit[-2:]]
                ),
                security_context=messages.LinuxContainerSecurityContext(
                    capabilities=messages.Capability(
                        add_capabilities=context["capabilities"].get("add", []),
                        drop_capabilities=context["capabilities"]["drop"],
                    ),
                    namespace_options=self._namespaces(),
                    readonly_rootfs=context["readOnlyRootFilesystem"],
                    no_new_privs=not context["allowPrivilegeEscalation"],
                    seccomp=self._seccomp(),
                ),
            ),
        }

    def _mount(self, mount: dict[str, str]) -> Any:  # noqa: ANN401 - a message
        volume = self.volumes[mount["name"]]
        if volume["type"] == "DirectoryOrCreate":
            run("mkdir", "-p", volume["path"])
        return messages.Mount(container_path=mount["mountPath"], host_path=volume["path"])


@pytest.fixture
def agent_pod(node: Path, containerd: Containerd) -> Iterator[Container]:
    """The node as the DaemonSet leaves it: nothing was installed on it before."""
    del containerd
    run("rm", "-rf", "/opt/cni/bin/cni-vlan", "/opt/cni/bin/cni-ipam", "/opt/cni-vlan")
    (archive,) = DIST.glob("cni-vlan-image-*.tar")
    run("ctr", "--namespace", "k8s.io", "images", "import", shutil.copy(archive, node))
    runtime, settings = Runtime(), Settings()
    wait_until(runtime.network_is_ready)
    pod = Pod(runtime, "cni-vlan-agent", **settings.sandbox())
    (installing,) = settings.spec["initContainers"]
    (serving,) = settings.spec["containers"]
    install = pod.start(installing["name"], NAME, *installing["command"], **settings.container(installing))
    wait_until(lambda: install.exit_code is not None)
    assert install.exit_code == 0, (ROOT / str(install.log).lstrip("/")).read_text()
    agent = pod.start(serving["name"], NAME, *serving["command"], **settings.container(serving))
    wait_until(lambda: SOCKET.exists() or agent.exit_code is not None)
    assert agent.exit_code is None, agent.log.read_text()
    yield agent
    agent.stop()
    pod.stop()
    SOCKET.unlink(missing_ok=True)


def test_the_daemonset_serves_pods(agent_pod: Container) -> None:
    (serving,) = Settings().spec["containers"]
    _program, *asked = serving["livenessProbe"]["exec"]["command"]
    health = run("/opt/cni-vlan/current/cni-agent", *asked).stdout  # what the init container installed
    one, two = Pod(agent_pod.pod.runtime, "a"), Pod(agent_pod.pod.runtime, "b")
    inside = one.start("main", IMAGE, "sleep", "3600")
    for address in (*two.addresses, "192.168.50.1", "2001:db8:50::1"):
        wait_until(partial(inside.reaches, address))
    accepts = inside.execute("cat", "/proc/sys/net/ipv6/conf/eth0/accept_ra")
    one.stop()
    two.stop()

    assert health == "ok\n"
    assert [mount["mountPath"] for mount in serving["volumeMounts"] if "proc" in mount["mountPath"]] == [
        "/host/proc/sys/net"
    ]
    assert accepts == (0, "0\n")
    served = [json.loads(line.partition("F ")[2]) for line in agent_pod.log.read_text().splitlines()]
    assert [line["verb"] for line in served].count("ADD") == 2
    assert "DEL" in {line["verb"] for line in served}
    assert {line["code"] for line in served} == {0}
    assert "eth0.50" not in links()
    assert leases() == []
