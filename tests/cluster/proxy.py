"""A proxy before an engine: it counts the requests, and may be slow."""

import contextlib
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from typing_extensions import override

from tests.lab.ports import free_port


class Proxy(ThreadingHTTPServer):
    """Passes each request on after a delay, and remembers its path."""

    daemon_threads = True

    def __init__(self, behind: str, delay_s: float) -> None:
        super().__init__(("127.0.0.1", free_port()), _Handler)
        self.behind = behind
        self.delay_s = delay_s
        self.asked: list[str] = []
        self.on_request: Callable[[str, bytes], None] | None = None  # before it is passed on
        self.sent: list[int] = []  # bytes of each answer

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @override
    def handle_error(self, request: object, client_address: object) -> None:
        """The client hung up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        proxy = self.server
        assert isinstance(proxy, Proxy)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        proxy.asked.append(self.path)
        time.sleep(proxy.delay_s)
        if proxy.on_request:
            proxy.on_request(self.path, body)
        try:
            with urllib.request.urlopen(urllib.request.Request(proxy.behind + self.path, body)) as answer:  # noqa: S310 - ours
                status, text = answer.status, answer.read()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read()
        proxy.sent.append(len(text))
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    @override
    def log_message(self, *_arguments: object) -> None:
        """Write nothing."""


@contextlib.contextmanager
def slowed(behind: str, delay_s: float = 0.0) -> Iterator[Proxy]:
    with Proxy(behind, delay_s) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
