"""Certificates for tests, made by openssl."""

import copy
import subprocess
from pathlib import Path

from tests.lab import tools


class Certificates:
    """An authority in a directory, and what it signs."""

    def __init__(self, directory: Path) -> None:
        tools.install("openssl")
        self._directory = directory
        self._server = "server"
        directory.mkdir(parents=True)
        self._openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 3 -subj /CN=ca")

    @property
    def ca(self) -> Path:
        return self._directory / "ca.crt"

    def crt(self, name: str) -> Path:
        return self._directory / f"{name}.crt"

    def key(self, name: str) -> Path:
        return self._directory / f"{name}.key"

    def issue(self, name: str, alternatives: str) -> None:
        """Sign a certificate and key for some names, such as `IP:127.0.0.1,DNS:localhost`."""
        self._openssl(
            f"req -x509 -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.crt -days 3 -subj /CN={name}"
            f" -CA ca.crt -CAkey ca.key -addext subjectAltName={alternatives}"
        )

    def serving(self, name: str) -> "Certificates":
        """Return the same authority, with another certificate as the server's."""
        other = copy.copy(self)
        other._server = name
        return other

    @property
    def server(self) -> tuple[Path, Path]:
        """The certificate and key of the server."""
        return self.crt(self._server), self.key(self._server)

    def public(self, name: str) -> Path:
        """Return the file of a public key."""
        path = self._directory / f"{name}.pub"
        self._openssl(f"rsa -pubout -in {name}.key -out {path}")
        return path

    def encrypt(self, name: str, path: Path) -> None:
        """Write a key under a password."""
        self._openssl(f"rsa -aes256 -passout pass:secret -in {name}.key -out {path}")

    def _openssl(self, command: str) -> None:
        subprocess.run(["openssl", *command.split()], cwd=self._directory, check=True, capture_output=True)
