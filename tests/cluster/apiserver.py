"""A real kube-apiserver beside an etcd, on loopback, without controllers; KUBERNETES names the directory."""

import json
import signal
import ssl
import subprocess
import urllib.request
from pathlib import Path
from typing import Any, Self

from cni_ipam.cluster import EngineConf
from tests.cluster.certificates import Certificates
from tests.cluster.etcds import Etcds
from tests.e2e.kubernetes import programs
from tests.lab.ports import free_port
from tests.lab.waiting import suspend, wait_until

TYPES = Path(__file__).parents[2] / "manifests" / "kubernetes" / "cluster"
_OPERATOR, AGENT, STRANGER = "operator", "agent", "stranger"
# The agents are let in as the account of the DaemonSet; the stranger is known, and may nothing.
_TOKENS = f"""\
{_OPERATOR},operator,1,system:masters
{AGENT},system:serviceaccount:kube-system:cni-vlan,2,"system:serviceaccounts,system:authenticated"
{STRANGER},stranger,3
"""
_START_S = 120
_VERSION = "ipam.cni-vlan.io/v1alpha1"


class ApiServer:
    """An API server with an etcd of its own, in a directory; use it as a context."""

    def __init__(self, scratch: Path) -> None:
        found = programs.unpacked()
        assert found is not None
        self._bin, self._scratch = found, scratch
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.certificates = Certificates(scratch / "certificates")
        self.etcd = Etcds()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.certificates.issue("server", "IP:127.0.0.1,DNS:localhost")
        self.certificates.issue("accounts", "DNS:accounts")
        (self._scratch / "tokens.csv").write_text(_TOKENS)
        self._write_kubeconfig()
        self.etcd.__enter__()
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        self.kill()
        self.etcd.__exit__()

    def conf(self, token: str = AGENT, **more: Any) -> EngineConf:  # noqa: ANN401 - any field
        """Return the configuration of whoever has a token."""
        file = self._scratch / f"token-{token}"
        file.write_text(token + "\n")
        fields = {
            "endpoints": (self.url,),
            "ca_file": str(self.certificates.ca),
            "token_file": str(file),
        }
        return EngineConf("kubernetes", **{**fields, **more})

    def start(self) -> None:
        """Start the API server, and wait until it serves."""
        here, log = self._scratch, self._scratch / "kube-apiserver.log"
        command: list[str | Path] = [
            self._bin / "kube-apiserver", f"--etcd-servers={self.etcd.endpoints[0]}",
            "--bind-address=127.0.0.1", f"--secure-port={self.port}",
            f"--tls-cert-file={self.certificates.server[0]}",
            f"--tls-private-key-file={self.certificates.server[1]}",
            f"--token-auth-file={here}/tokens.csv", "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.96.0.0/16", "--endpoint-reconciler-type=none",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.certificates.crt('accounts')}",
            f"--service-account-signing-key-file={self.certificates.key('accounts')}",
        ]  # fmt: skip
        with log.open("ab") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output, cwd=here)
        wait_until(self.is_ready, _START_S)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def suspend(self) -> None:
        """Stop the API server so that it takes connections and never answers."""
        assert self._process is not None
        suspend(self._process)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
        wait_until(self.is_ready, _START_S)

    def is_ready(self) -> bool:
        assert self._process is not None
        log = self._scratch / "kube-apiserver.log"
        assert self._process.poll() is None, log.read_text()[-4000:]
        context = ssl.create_default_context(cafile=self.certificates.ca)
        headers = {"Authorization": f"Bearer {_OPERATOR}"}
        asked = urllib.request.Request(f"{self.url}/readyz", headers=headers)  # noqa: S310 - ours
        try:
            with urllib.request.urlopen(asked, timeout=5, context=context) as answer:  # noqa: S310 - ours
                return bool(answer.read() == b"ok")
        except OSError:
            return False

    def install_types(self) -> None:
        """Do what `kubectl apply` of the manifests does to a cluster that runs."""
        self.kubectl("apply", "--server-side", "--kustomize", str(TYPES))
        self.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=60s")
        self.await_types()

    def await_types(self) -> None:
        """Wait until our resource types are served; the first object of a type takes a second or two."""
        wait_until(lambda: "rror" not in self.kubectl("get", "cni-vlan", check=False), _START_S)
        spec = {"pool": "p", "start": "10.0.0.0", "size": 1, "node": "n", "incarnation": "0" * 16}
        first = {"apiVersion": _VERSION, "kind": "VlanBlock", "metadata": {"name": "first"}, "spec": spec}
        self.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(first))

    def kubectl(self, *arguments: str, stdin: str = "", check: bool = True) -> str:
        """Run kubectl; return what it says, without surrounding blanks."""
        done = subprocess.run(
            [self._bin / "kubectl", f"--kubeconfig={self._scratch}/kubeconfig", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not (check and done.returncode), f"kubectl {' '.join(arguments)}: {done.stderr}{done.stdout}"
        return (done.stdout + done.stderr).strip()

    def _write_kubeconfig(self) -> None:
        cluster = {"server": self.url, "certificate-authority": str(self.certificates.ca)}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "it", "cluster": cluster}],
            "users": [{"name": "operator", "user": {"token": _OPERATOR}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "operator"}}],
            "current-context": "it",
        }
        (self._scratch / "kubeconfig").write_text(json.dumps(document))
