"""Credentials that change while a process asks an engine all the time: it goes on, without a restart."""

import shutil
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from cni_core.errors import CniError
from cni_ipam.engine import Engine
from cni_ipam.etcd import Etcd
from tests.cluster.certificates import Certificates
from tests.cluster.etcds import Etcds
from tests.lab.waiting import wait_until

_THREADS = 8
_CHANGES = 12
_PAUSE_S = 0.1


class Failed(NamedTuple):
    """A request that failed: from when to when, and why."""

    began: float
    ended: float
    words: str

    def is_within(self, windows: list[tuple[float, float]]) -> bool:
        return any(self.began <= until and since <= self.ended for since, until in windows)


@contextmanager
def load(engine: Engine) -> Iterator[list[Failed]]:
    """Ask an engine from many threads during the block; yield the requests that fail."""
    failed: list[Failed] = []
    stopping = threading.Event()

    def ask() -> None:
        while not stopping.is_set():
            began = time.monotonic()
            try:
                engine.list("block", "lan")
            except CniError as error:
                failed.append(Failed(began, time.monotonic(), error.msg))

    threads = [threading.Thread(target=ask) for _ in range(_THREADS)]
    for thread in threads:
        thread.start()
    try:
        yield failed
    finally:
        stopping.set()
        for thread in threads:
            thread.join()


def replace(path: Path, content: bytes) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_bytes(content)
    fresh.rename(path)


def changed(times: int, change: Callable[[int], object]) -> list[tuple[float, float]]:
    """Change something again and again; return from when to when each change took."""
    windows = []
    for turn in range(times):
        since = time.monotonic()
        change(turn)
        windows.append((since, time.monotonic()))
        time.sleep(_PAUSE_S)
    return windows


# A password of etcd.


@pytest.fixture(params=["simple", "jwt"])
def users(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[Etcds]:
    """An etcd with users, for both kinds of tokens."""
    tokens = request.param
    if tokens == "jwt":
        private = certificates.key("client")
        tokens = f"jwt,sign-method=RS256,priv-key={private},pub-key={certificates.public('client')},ttl=1s"
    with Etcds(arguments=[f"--auth-token={tokens}"]) as etcd:
        etcd.demand_users("ipam", "first", "/cni-vlan/")
        yield etcd


def as_root(etcd: Etcds, path: str, request: dict[str, str]) -> None:
    """Change a user; what logs in meanwhile may be given a token that is stale at once."""

    def is_done() -> bool:
        try:
            etcd.become_root()
            etcd.ask(path, request)
        except urllib.error.HTTPError:
            return False
        return True

    wait_until(is_done)


def test_a_password_that_changes_under_load(users: Etcds, tmp_path: Path) -> None:
    """While file and etcd have different ones, a request may fail: CNI says to try again."""
    file = tmp_path / "password"
    file.write_text("first")
    engine = Etcd(users.conf(user="ipam", password_file=str(file)))
    engine.list("block", "lan")

    def change(turn: int) -> None:
        replace(file, f"password {turn}".encode())
        as_root(users, "auth/user/changepw", {"name": "ipam", "password": f"password {turn}"})

    with load(engine) as failed:
        windows = changed(_CHANGES, change)

    assert [each for each in failed if not each.is_within(windows)] == []
    engine.list("block", "lan")


def test_users_that_change_under_load(users: Etcds, tmp_path: Path) -> None:
    """Each change of any user ends the tokens of before."""
    file = tmp_path / "password"
    file.write_text("first")
    engine = Etcd(users.conf(user="ipam", password_file=str(file)))

    def change(turn: int) -> None:
        as_root(users, "auth/user/add", {"name": f"another{turn}", "password": "x"})

    with load(engine) as failed:
        changed(_CHANGES, change)

    assert failed == []


# A client's certificate.


def test_a_certificate_that_is_replaced_under_load(certificates: Certificates, tmp_path: Path) -> None:
    """Two files cannot be replaced at once: for a moment the key is that of the other certificate."""
    certificates.issue("renewed", "DNS:client")
    crt, key = tmp_path / "client.crt", tmp_path / "client.key"
    shutil.copy(certificates.crt("client"), crt)
    shutil.copy(certificates.key("client"), key)

    def change(turn: int) -> None:
        name = ("renewed", "client")[turn % 2]
        replace(crt, certificates.crt(name).read_bytes())
        time.sleep(_PAUSE_S)
        replace(key, certificates.key(name).read_bytes())

    with Etcds(certificates=certificates, mutual=True) as etcd:
        engine = Etcd(etcd.conf(cert_file=str(crt), key_file=str(key)))
        engine.list("block", "lan")
        with load(engine) as failed:
            changed(_CHANGES, change)

    assert failed == []
