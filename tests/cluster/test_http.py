"""Endpoints that are slow, talk too much or are no engine; and what the environment must not change."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from cni_core import waiting
from cni_core.waiting import Waits
from cni_ipam import http
from cni_ipam.cluster import EngineConf
from cni_ipam.engine import EngineAway, EngineRefused
from cni_ipam.engines import open_engine
from cni_ipam.etcd import Etcd
from tests.cluster.etcds import Etcds
from tests.lab.ports import free_port
from tests.lab.waiting import wait_until

Serve = Callable[["_Handler"], None]
ROOT = Path(__file__).parents[2]
_EMPTY = {"header": {"revision": "1", "cluster_id": "1"}}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def odd(self) -> "Odd":
        assert isinstance(self.server, Odd)
        return self.server

    @override
    def setup(self) -> None:
        super().setup()
        self.odd.connections += 1

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.odd.asked.append(self.path)
        self.odd.serve(self)

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    @override
    def log_message(self, *_arguments: object) -> None:
        """Write nothing."""


class Odd(ThreadingHTTPServer):
    """A server that serves as a function says."""

    daemon_threads = True

    def __init__(self, serve: Serve) -> None:
        super().__init__(("127.0.0.1", free_port()), _Handler)
        self.serve = serve
        self.connections = 0
        self.asked: list[str] = []
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @override
    def handle_error(self, request: object, client_address: object) -> None:
        """The client hung up."""


@contextlib.contextmanager
def odd(serve: Serve) -> Iterator[Odd]:
    with Odd(serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.ended.set()
            server.shutdown()


def ok(handler: _Handler) -> None:
    handler.answer(200, json.dumps(_EMPTY).encode())


def hang(handler: _Handler) -> None:
    handler.odd.ended.wait(60)


def engine(*servers: Odd, below: str = "") -> Etcd:
    return Etcd(EngineConf("etcd", tuple(f"{server.url}{below}" for server in servers)))


def away(asked: Etcd, within_s: float = 3) -> str:
    start = time.monotonic()
    with pytest.raises(EngineAway) as found:
        asked.list("block")
    assert time.monotonic() - start < within_s
    return found.value.msg


def refused(asked: Etcd) -> str:
    with pytest.raises(EngineRefused) as found:
        asked.list("block")
    return found.value.msg


def test_objects_that_are_not_etcd_s_are_refused() -> None:
    document = {**_EMPTY, "kvs": [{"key": "!", "value": "%"}]}
    with odd(lambda handler: handler.answer(200, json.dumps(document).encode())) as server:
        assert "the answer is not etcd's" in refused(engine(server))


def test_after_one_full_wait_a_burst_waits_briefly() -> None:
    with odd(hang) as server:
        asked = engine(server)
        first = timed_out(asked)

        assert all(timed_out(asked) < first / 2 for _request in range(3))
        server.serve = ok
        asked.list("block")  # what answers is waited for no longer


def timed_out(asked: Etcd) -> float:
    start = time.monotonic()
    with pytest.raises(EngineAway):
        asked.list("block")
    return time.monotonic() - start


def test_connections_are_kept() -> None:
    with odd(ok) as server:
        asked = engine(server)
        for _ in range(5):
            asked.list("block")

        assert (server.connections, len(server.asked)) == (1, 5)


def test_an_endpoint_may_have_a_path() -> None:
    with odd(ok) as server:
        engine(server, below="/proxy/etcd").list("block")

        assert server.asked == ["/proxy/etcd/v3/kv/range"]


def test_an_answer_that_trickles_ends_in_time() -> None:
    def trickle(handler: _Handler) -> None:
        handler.answer(200, b"", **{"Content-Length": "1000000"})
        while not handler.odd.ended.wait(0.05):
            handler.wfile.write(b" ")

    with odd(trickle) as server:
        assert "the answer came too slowly" in away(engine(server))


def test_an_answer_that_is_cut_off_is_none() -> None:
    def cut(handler: _Handler) -> None:
        handler.answer(200, b"{}", **{"Content-Length": "1000"})
        handler.close_connection = True

    with odd(cut) as server:
        assert "its answer is cut off" in away(engine(server))


def test_an_answer_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "LARGEST_ANSWER", 3 << 20)
    with odd(lambda handler: handler.answer(200, b"x" * (8 << 20))) as server:
        assert refused(engine(server)) == f"reach etcd on {server.url}: an answer over 3 MiB"


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (200, b"<html>", "the answer is not etcd's"),
        (200, b"[]", "the answer is not etcd's"),
        (200, b'{"header":{}}', "the answer is not etcd's"),
        (200, b'{"header":"x"}', "the answer is not etcd's"),
        (302, b"", "HTTP 302: "),
        (404, b"404 page not found\n", "HTTP 404: 404 page not found"),
        (400, b'{"error":"etcdserver: odd","code":3}', "HTTP 400: etcdserver: odd"),
    ],
)
def test_what_is_no_etcd_is_refused(status: int, body: bytes, words: str) -> None:
    def answer(handler: _Handler) -> None:
        handler.answer(status, body, Location="http://127.0.0.1:1/")

    with odd(answer) as server:
        assert refused(engine(server)) == f"list blocks on etcd {server.url}: {words}"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, {"error": "etcdserver: leader changed", "code": 14}),
        (500, {"error": "etcdserver: no leader", "code": 2}),
        (400, {"error": "lease: not a primary lessor", "code": 9}),
        (429, {"error": "etcdserver: too many requests", "code": 8}),
        (504, "upstream timed out"),
    ],
)
def test_an_election_is_waited_for(status: int, body: object) -> None:
    answers = iter([(status, body)] * 3)

    def once(handler: _Handler) -> None:
        given = next(answers, (200, _EMPTY))
        handler.answer(given[0], json.dumps(given[1]).encode())

    with odd(once) as server:
        assert engine(server).list("block").revision == 1
        assert len(server.asked) == 4


def test_an_election_that_does_not_end_is_told() -> None:
    body = json.dumps({"error": "etcdserver: no leader", "code": 14}).encode()
    with odd(lambda handler: handler.answer(503, body)) as server:
        assert away(engine(server)) == f"reach etcd on {server.url}: etcdserver: no leader"
        assert len(server.asked) < 12  # the pauses grow


def test_the_next_endpoint_is_asked_and_remembered() -> None:
    body = json.dumps({"error": "etcdserver: no leader", "code": 14}).encode()
    with odd(lambda handler: handler.answer(503, body)) as first, odd(ok) as second:
        asked = engine(first, second)
        for _ in range(3):
            asked.list("block")

        assert (len(first.asked), len(second.asked)) == (1, 3)


def test_each_endpoint_has_its_share_of_the_time() -> None:
    with odd(hang) as first, odd(hang) as second, odd(ok) as third:
        asked = engine(first, second, third)
        start = time.monotonic()

        asked.list("block")

        assert time.monotonic() - start < 2.3
        assert len(third.asked) == 1


def test_a_call_with_little_time_waits_no_longer() -> None:
    with odd(hang) as server, waiting.briefly(0.4):
        assert "no answer within 0.4 s" in away(engine(server), 1)


def test_others_run_while_an_endpoint_is_awaited() -> None:
    entered: list[str] = []

    @contextlib.contextmanager
    def aside() -> Iterator[None]:
        entered.append("in")
        yield
        entered.append("out")

    def look(handler: _Handler) -> None:
        entered.append("asked")
        ok(handler)

    with odd(look) as server, waiting.by(Waits(aside=aside)):
        engine(server).list("block")

    assert entered == ["in", "asked", "out"]


@pytest.mark.parametrize("endpoint", ["http://", "http://127.0.0.1:port", "http://127.0.0.1:99999"])
def test_what_is_no_url_is_refused(endpoint: str) -> None:
    assert refused(Etcd(EngineConf("etcd", (endpoint,)))).startswith(f"reach etcd on {endpoint}: ")


# Names.


def named(server: Odd) -> Etcd:
    return Etcd(EngineConf("etcd", (f"http://etcd.example:{server.server_port}",)))


def test_a_name_that_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:  # noqa: ANN401 - as the real one
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with odd(ok) as server:
        monkeypatch.setattr(socket, "getaddrinfo", fail)

        assert away(named(server), 1).endswith("its name is not resolved: name or service not known")


def test_a_name_server_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    look_up = socket.getaddrinfo
    ended = threading.Event()

    def wait(_host: str, *arguments: Any, **more: Any) -> object:  # noqa: ANN401 - as the real one
        ended.wait(30)
        return look_up("127.0.0.1", *arguments, **more)

    with odd(ok) as server:
        monkeypatch.setattr(socket, "getaddrinfo", wait)
        asked = named(server)

        assert "no answer within 2.5 s" in away(asked)

        ended.set()
        asked.list("block")
        wait_until(lambda: len(server.asked) == 2)  # the first request was only late


# The process.


def test_proxies_of_the_environment_are_ignored(etcd: Etcds, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    Etcd(etcd.conf()).list("block")


def test_an_engine_is_opened_once(etcd: Etcds) -> None:
    assert open_engine(etcd.conf()) is open_engine(etcd.conf())
    assert open_engine(etcd.conf()) is not open_engine(etcd.conf(prefix="/other"))


@pytest.mark.parametrize("store", ["etcd", "kubernetes"])
def test_urllib3_is_loaded_by_the_first_request(store: str) -> None:
    script = (
        "import sys; from cni_ipam import block_store, engines, cluster;"
        f"engines.open_engine(cluster.EngineConf({store!r}, ('http://127.0.0.1:1',)));"
        "print('urllib3' in sys.modules)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )

    assert shown.stdout == "False\n"
