"""Pods as kubelet has them made: over the Container Runtime Interface of containerd."""

from pathlib import Path
from typing import Any

import grpc

PROTO = Path(__file__).with_name("cri.proto")
SOCKET = "unix:///run/containerd/containerd.sock"
_DEADLINE_S = 120

messages, _services = grpc.protos_and_services(str(PROTO.relative_to(Path.cwd())))


class Runtime:
    """A connection to containerd; a method of the service by its name."""

    def __init__(self) -> None:
        self._stub = _services.RuntimeServiceStub(grpc.insecure_channel(SOCKET))

    def __call__(self, method: str, request: Any) -> Any:  # noqa: ANN401 - messages made at run time
        return getattr(self._stub, method)(request, timeout=_DEADLINE_S, wait_for_ready=True)

    def network_is_ready(self) -> bool:
        conditions = self("Status", messages.Empty()).status.conditions
        return all(condition.status for condition in conditions)

    def sandboxes(self) -> dict[str, str]:
        """The names of all pods, by id."""
        return {item.id: item.metadata.name for item in self("ListPodSandbox", messages.Empty()).items}


class Pod:
    """A sandbox with the containers that are started in it."""

    def __init__(self, runtime: Runtime, name: str, **linux: Any) -> None:  # noqa: ANN401 - a message's fields
        self.runtime = runtime
        self.config = messages.PodSandboxConfig(
            metadata=messages.PodSandboxMetadata(name=name, uid=f"uid-{name}", namespace="default"),
            hostname="" if linux else name,  # a pod on the host's network has the host's
            log_directory=f"/tmp/logs/{name}",  # noqa: S108 - a node of the test's own
            linux=messages.LinuxPodSandboxConfig(
                security_context=messages.LinuxSandboxSecurityContext(**linux)
            ),
        )
        request = messages.RunPodSandboxRequest(config=self.config)
        self.id = runtime("RunPodSandbox", request).pod_sandbox_id

    @classmethod
    def known(cls, runtime: Runtime, sandbox: str) -> "Pod":
        """A pod that was there before."""
        pod = cls.__new__(cls)
        pod.runtime, pod.id = runtime, sandbox
        return pod

    def _this(self) -> Any:  # noqa: ANN401 - a message
        return messages.PodSandboxRequest(pod_sandbox_id=self.id)

    @property
    def addresses(self) -> list[str]:
        network = self.runtime("PodSandboxStatus", self._this()).status.network
        return [network.ip, *(extra.ip for extra in network.additional_ips)]

    @property
    def ready(self) -> bool:
        status = self.runtime("PodSandboxStatus", self._this()).status
        return bool(status.state == messages.SANDBOX_READY)

    def start(self, name: str, image: str, *command: str, **config: Any) -> "Container":  # noqa: ANN401 - fields
        request = messages.CreateContainerRequest(
            pod_sandbox_id=self.id,
            sandbox_config=self.config,
            config=messages.ContainerConfig(
                metadata=messages.ContainerMetadata(name=name),
                image=messages.ImageSpec(image=image),
                command=command,
                log_path=f"{name}.log",
                **config,
            ),
        )
        container = self.runtime("CreateContainer", request).container_id
        self.runtime("StartContainer", messages.ContainerRequest(container_id=container))
        return Container(self, container, name)

    def stop(self) -> None:
        """Stop and remove it, as kubelet does."""
        self.runtime("StopPodSandbox", self._this())
        self.runtime("RemovePodSandbox", self._this())


class Container:
    """A container of a pod."""

    def __init__(self, pod: Pod, container_id: str, name: str) -> None:
        self.pod = pod
        self.id = container_id
        self.log = Path(pod.config.log_directory) / f"{name}.log"

    def execute(self, *command: str) -> tuple[int, str]:
        request = messages.ExecSyncRequest(container_id=self.id, cmd=command, timeout=30)
        reply = self.pod.runtime("ExecSync", request)
        return reply.exit_code, (reply.stdout + reply.stderr).decode()

    def reaches(self, address: str) -> bool:
        return self.execute("ping", "-c1", "-W2", address)[0] == 0

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        request = messages.ContainerRequest(container_id=self.id)
        status = self.pod.runtime("ContainerStatus", request).status
        return int(status.exit_code) if status.state == messages.CONTAINER_EXITED else None

    def stop(self) -> None:
        self.pod.runtime("StopContainer", messages.StopContainerRequest(container_id=self.id, timeout=60))
