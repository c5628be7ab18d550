"""Real etcd on loopback: one member or three, which are killed, stopped, suspended and started again.

It is asked over HTTP by the standard library alone, never by the code under test.
"""

import base64
import json
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from cni_ipam.cluster import EngineConf
from tests.cluster.certificates import Certificates
from tests.lab import tools
from tests.lab.ports import free_port
from tests.lab.waiting import suspend, wait_until

_HEARTBEAT_MS, _ELECTION_MS = 50, 500
_MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of our own in it: etcd syncs each write


class Etcds:
    """The members of one etcd, by their number; use it as a context.

    With `certificates` the clients speak TLS, and with `mutual` each needs a certificate of its own.
    """

    def __init__(
        self,
        members: int = 1,
        arguments: Sequence[str] = (),
        certificates: Certificates | None = None,
        *,
        mutual: bool = False,
    ) -> None:
        tools.install("etcd")
        self.size = members
        self.directory = Path(tempfile.mkdtemp(prefix="etcd-", dir=_MEMORY if _MEMORY.is_dir() else None))
        self.certificates = certificates
        self._mutual = mutual
        self._arguments = arguments
        self._clients = [free_port() for _ in range(members)]
        self._peers = [free_port() for _ in range(members)]
        self._metrics = [free_port() for _ in range(members)]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._token = ""

    def __enter__(self) -> Self:
        try:
            for member in range(self.size):
                self.launch(member)
            for member in range(self.size):
                wait_until(lambda at=member: self.is_healthy(at), 60)  # type: ignore[misc] # bound now
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exception: object) -> None:
        for member in list(self._processes):
            self.kill(member)
        shutil.rmtree(self.directory)

    @property
    def endpoints(self) -> tuple[str, ...]:
        scheme = "https" if self.certificates else "http"
        return tuple(f"{scheme}://127.0.0.1:{port}" for port in self._clients)

    def conf(self, **more: Any) -> EngineConf:  # noqa: ANN401 - any field
        """Return the configuration of a client that may do everything."""
        fields: dict[str, Any] = {"endpoints": self.endpoints}
        if self.certificates:
            fields["ca_file"] = str(self.certificates.ca)
        if self.certificates and self._mutual:
            fields |= {"cert_file": str(self.certificates.crt("client"))}
            fields |= {"key_file": str(self.certificates.key("client"))}
        return EngineConf("etcd", **{**fields, **more})

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self._metrics[0]}/metrics"

    # Members.

    def launch(self, member: int) -> None:
        """Start a member, and do not wait for it."""
        with self._log(member).open("ab") as log:
            self._processes[member] = subprocess.Popen(self._command(member), stdout=log, stderr=log)

    def start(self, member: int) -> None:
        """Start a member, and wait until it serves."""
        self.launch(member)
        wait_until(lambda: self.is_healthy(member), 60)

    def kill(self, member: int) -> None:
        process = self._processes.pop(member)
        process.kill()
        process.wait()

    def forget(self, member: int) -> None:
        """Remove all that a member has on disk."""
        shutil.rmtree(self.directory / str(member))

    def restart(self, member: int = 0) -> None:
        self.kill(member)
        self.start(member)

    def suspend(self, member: int) -> None:
        """Stop a member so that it takes connections and never answers."""
        suspend(self._processes[member])

    def resume(self, member: int) -> None:
        self._processes[member].send_signal(signal.SIGCONT)
        wait_until(lambda: self.is_healthy(member), 60)

    def is_healthy(self, member: int) -> bool:
        """Whether a member serves, with a leader."""
        process = self._processes[member]
        assert process.poll() is None, self._log(member).read_text()[-4000:]
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self._metrics[member]}/health", timeout=5
            ) as answer:
                return bool(json.load(answer)["health"] == "true")
        except OSError:
            return False

    def leader(self) -> int:
        """Return the number of the member that leads."""
        for member in self._processes:
            status = self.ask("maintenance/status", {}, member)
            if status["leader"] == status["header"]["member_id"]:
                return member
        raise AssertionError("no leader")

    def snapshot(self) -> Path:
        """Save a snapshot, as an operator does every night."""
        tools.install("etcdctl")
        path = self.directory / "snapshot"
        path.unlink(missing_ok=True)
        self._etcdctl("--endpoints", self.endpoints[0], "snapshot", "save", str(path))
        return path

    def restore(self, snapshot: Path, name: str = "restored") -> None:
        """Start all members again from a snapshot, under a new token of the cluster."""
        for member in list(self._processes):
            self.kill(member)
        for member in range(self.size):
            self.forget(member)
            peer = f"http://127.0.0.1:{self._peers[member]}"
            self._etcdctl(
                "snapshot", "restore", str(snapshot), f"--name=m{member}",
                f"--data-dir={self.directory}/{member}", f"--initial-cluster={self._members()}",
                f"--initial-cluster-token={name}", f"--initial-advertise-peer-urls={peer}",
            )  # fmt: skip
        for member in range(self.size):
            self.launch(member)
        for member in range(self.size):
            wait_until(lambda at=member: self.is_healthy(at), 60)  # type: ignore[misc] # bound now

    @staticmethod
    def _etcdctl(*words: str) -> None:
        environment = {**os.environ, "ETCDCTL_API": "3"}
        done = subprocess.run(
            ["etcdctl", *words], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def _members(self) -> str:
        return ",".join(f"m{at}=http://127.0.0.1:{port}" for at, port in enumerate(self._peers))

    def _log(self, member: int) -> Path:
        return self.directory / f"{member}.log"

    def _command(self, member: int) -> list[str]:
        peer, client = f"http://127.0.0.1:{self._peers[member]}", self.endpoints[member]
        return [
            "etcd", f"--name=m{member}", f"--data-dir={self.directory}/{member}",
            f"--listen-client-urls={client}", f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}",
            f"--listen-metrics-urls=http://127.0.0.1:{self._metrics[member]}",
            f"--initial-cluster={self._members()}",
            f"--initial-cluster-token={self.directory.name}", f"--heartbeat-interval={_HEARTBEAT_MS}",
            f"--election-timeout={_ELECTION_MS}", "--unsafe-no-fsync", "--bcrypt-cost=4",
            *self._tls(), *self._arguments,
        ]  # fmt: skip

    def _tls(self) -> list[str]:
        if self.certificates is None:
            return []
        crt, key = self.certificates.server
        found = [f"--cert-file={crt}", f"--key-file={key}"]
        if self._mutual:
            found += ["--client-cert-auth", f"--trusted-ca-file={self.certificates.ca}"]
        return found

    # What an operator does.

    def ask(self, path: str, request: dict[str, Any], member: int = 0) -> dict[str, Any]:
        """Ask a member as an operator."""
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = self._token
        body = json.dumps(request).encode()
        asked = urllib.request.Request(f"{self.endpoints[member]}/v3/{path}", body, headers)  # noqa: S310 - ours
        with urllib.request.urlopen(asked, timeout=30, context=self._context()) as answer:  # noqa: S310 - ours
            found: dict[str, Any] = json.load(answer)
            return found

    def _context(self) -> ssl.SSLContext | None:
        if self.certificates is None:
            return None
        context = ssl.create_default_context(cafile=self.certificates.ca)
        context.load_cert_chain(self.certificates.crt("client"), self.certificates.key("client"))
        return context

    def put(self, key: str, value: str) -> None:
        self.ask("kv/put", {"key": coded(key), "value": coded(value)})

    def delete(self, key: str) -> None:
        self.ask("kv/deleterange", {"key": coded(key)})

    def accepts(self, key: str, value: str) -> bool:
        """Write a key; whether etcd takes it."""
        try:
            self.put(key, value)
        except urllib.error.HTTPError:
            return False
        return True

    def keys(self, prefix: str = "/") -> list[str]:
        """Return all keys that begin with a text."""
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        request = {"key": coded(prefix), "range_end": coded(end), "keys_only": True}
        found = self.ask("kv/range", request).get("kvs", [])
        return [base64.b64decode(item["key"]).decode() for item in found]

    def demand_users(self, user: str, password: str, prefix: str) -> None:
        """Let a user in who may read and write below a prefix, and root; nobody else."""
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        for name, secret in (("root", "root"), (user, password)):
            self.ask("auth/user/add", {"name": name, "password": secret})
            self.ask("auth/role/add", {"name": name})
            self.ask("auth/user/grant", {"user": name, "role": name})
        allowed = {"permType": "READWRITE", "key": coded(prefix), "range_end": coded(end)}
        self.ask("auth/role/grant", {"name": user, "perm": allowed})
        self.ask("auth/enable", {})

    def become_root(self) -> None:
        """Log in, for an etcd that demands users."""
        self._token = ""
        self._token = self.ask("auth/authenticate", {"name": "root", "password": "root"})["token"]

    def has_forgotten_root(self) -> bool:
        """Whether the token of root has ended; a simple token is as good as ended by a new password."""
        if self._token.count(".") == 1:
            return True
        try:
            self.ask("auth/user/get", {"name": "root"})
        except urllib.error.HTTPError:
            return True
        return False


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
