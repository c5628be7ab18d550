"""A control plane: etcd, API server, controllers, scheduler; nodes reach it at the router's address."""

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from tests.e2e.kubernetes import programs
from tests.e2e.kubernetes.topology import ROUTER, SERVICES
from tests.lab import tools
from tests.lab.ports import free_port
from tests.lab.waiting import wait_until

Json = dict[str, Any]
TOKEN = "operator"  # noqa: S105 - of a control plane that lives for one test run
_NAMES = f"IP:127.0.0.1,IP:10.96.0.1,IP:{ROUTER},DNS:kubernetes.default.svc,DNS:kubernetes.default"


class ControlPlane:
    """Processes in a directory; `port` is the API server's."""

    def __init__(self, scratch: Path) -> None:
        tools.install("etcd", "openssl", "busybox")
        found = programs.unpacked()
        assert found is not None
        self._bin, self._scratch = found, scratch
        self.port = free_port()
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        try:
            self._certify()
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        for process in reversed(self._processes):
            process.kill()
            process.wait()

    def _certify(self) -> None:
        issued = f"-CA ca.crt -CAkey ca.key -addext subjectAltName={_NAMES}"
        for command in (
            "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 3 -subj /CN=ca",
            f"req -x509 -newkey rsa:2048 -nodes -keyout api.key -out api.crt -days 3 -subj /CN=api {issued}",
            "genrsa -out accounts.key 2048",
        ):
            words = ["openssl", *command.split()]
            subprocess.run(words, cwd=self._scratch, check=True, capture_output=True)
        (self._scratch / "tokens.csv").write_text(f"{TOKEN},operator,1,system:masters\n")
        self.kubeconfig(f"https://127.0.0.1:{self.port}", self._scratch / "kubeconfig")

    def kubeconfig(self, server: str, path: Path) -> None:
        cluster = {"server": server, "insecure-skip-tls-verify": True}
        path.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "lab", "cluster": cluster}],
                    "users": [{"name": "operator", "user": {"token": TOKEN}}],
                    "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "operator"}}],
                    "current-context": "lab",
                }
            )
        )

    def _start(self) -> None:
        here = self._scratch
        etcd, peer = free_port(), free_port()
        self._run(
            "etcd", "etcd", f"--data-dir={here}/etcd", f"--listen-client-urls=http://127.0.0.1:{etcd}",
            f"--advertise-client-urls=http://127.0.0.1:{etcd}", f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}", "--unsafe-no-fsync",
        )  # fmt: skip
        self._run(
            "kube-apiserver", self._bin / "kube-apiserver", f"--etcd-servers=http://127.0.0.1:{etcd}",
            "--bind-address=0.0.0.0", f"--secure-port={self.port}", f"--advertise-address={ROUTER}",
            f"--tls-cert-file={here}/api.crt", f"--tls-private-key-file={here}/api.key",
            f"--token-auth-file={here}/tokens.csv", "--authorization-mode=RBAC",
            f"--service-cluster-ip-range={SERVICES}", "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={here}/accounts.key",
            f"--service-account-signing-key-file={here}/accounts.key",
            "--kubelet-preferred-address-types=InternalIP", "--allow-privileged",
        )  # fmt: skip
        wait_until(lambda: self.kubectl("get", "--raw", "/readyz", check=False) == "ok")
        common = (f"--kubeconfig={here}/kubeconfig", "--leader-elect=false", "--secure-port=0")
        self._run(
            "kube-controller-manager", self._bin / "kube-controller-manager", *common,
            f"--root-ca-file={here}/ca.crt", f"--service-account-private-key-file={here}/accounts.key",
            "--use-service-account-credentials",
        )  # fmt: skip
        self._run("kube-scheduler", self._bin / "kube-scheduler", *common)

    def _run(self, name: str, *command: str | Path) -> None:
        with (self._scratch / f"{name}.log").open("ab") as log:
            self._processes.append(
                subprocess.Popen(command, stdout=log, stderr=log, cwd=self._scratch, env={**os.environ})
            )

    def kubectl(self, *arguments: str, stdin: str = "", check: bool = True, timeout_s: float = 600) -> str:
        """Run kubectl; return what it says, without surrounding blanks."""
        done = subprocess.run(
            [self._bin / "kubectl", f"--kubeconfig={self._scratch}/kubeconfig", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        assert not (check and done.returncode), f"kubectl {' '.join(arguments)}: {done.stderr}{done.stdout}"
        return done.stdout.strip()

    def get(self, *arguments: str) -> Json:
        found: Json = json.loads(self.kubectl("get", "-o", "json", *arguments))
        return found

    def apply(self, *objects: Json) -> None:
        items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(items))

    def logs(self) -> Sequence[Path]:
        return sorted(self._scratch.glob("*.log"))
