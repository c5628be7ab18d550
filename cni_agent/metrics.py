"""Metrics for Prometheus, and a health check, over HTTP on a Unix socket or a loopback port."""

import contextlib
import os
import socket
import threading
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from typing_extensions import override

from cni_agent import health
from cni_agent.server import Report
from cni_ipam import inventory
from cni_ipam.place import DATA_DIR
from cni_net.rtnl import open_rtnl
from cni_vlan.ledger import Ledger
from cni_vlan.node import read_node

_VERBS = frozenset({"ADD", "DEL", "CHECK", "GC", "STATUS"})
_CONNECTIONS = 4
_CONNECTION_S = 5.0
_BUCKETS_S = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.0, 4.0, 16.0)


class Metrics:
    """The counters of the running agent, and the gauges that are read at each scrape."""

    def __init__(self, data_dir: str = DATA_DIR) -> None:
        self.registry = CollectorRegistry()
        self._verbs = Counter(
            "cni_verbs",
            "CNI verbs answered, by plugin, verb and CNI error code (0 for success).",
            ["plugin", "verb", "code"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "cni_verb_seconds",
            "Seconds from the start of a CNI verb to its answer.",
            ["plugin", "verb"],
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self._stages = Histogram(
            "cni_stage_seconds",
            "Seconds in each stage of a CNI verb.",
            ["verb", "stage"],
            buckets=_BUCKETS_S,
            registry=self.registry,
        )
        self.registry.register(_State(data_dir))

    def observe(self, report: Report) -> None:
        """Count one invocation."""
        given = report.environ.get("CNI_COMMAND", "")
        verb = given if given in _VERBS else "other"  # a caller can invent verbs, and labels, without end
        self._verbs.labels(report.plugin, verb, str(report.code)).inc()
        self._seconds.labels(report.plugin, verb).observe(report.seconds)
        for stage, seconds in report.stages:
            self._stages.labels(verb, stage).observe(seconds)

    @contextlib.contextmanager
    def served(self, where: str, agent: str) -> Iterator[None]:
        """Serve /metrics and /healthz on a path, or on a port of the loopback address.

        The health is that of the agent on the path `agent`.
        """
        handler = _handler(self.registry, agent)
        if where.isdecimal():
            server: Any = _PortServer(("127.0.0.1", int(where)), handler)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(where)
            os.makedirs(os.path.dirname(where), mode=0o700, exist_ok=True)
            server = _UnixServer(where, handler)
            os.chmod(where, 0o600)
        threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()


class _FewAtOnce(ThreadingMixIn):
    """A thread for each of a few connections; others are closed, so that strangers cost the pods nothing."""

    daemon_threads = True
    request_queue_size = 128
    _places = threading.BoundedSemaphore(_CONNECTIONS)

    @override
    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            try:
                super().process_request(request, client_address)
            except RuntimeError:  # the limit of processes
                self._places.release()
                raise
        else:
            self.shutdown_request(request)  # type: ignore[attr-defined] # of the server it is mixed into

    @override
    def process_request_thread(self, request: Any, client_address: Any) -> None:
        end = threading.Timer(_CONNECTION_S, _shut, [request])
        end.daemon = True
        try:
            end.start()
            super().process_request_thread(request, client_address)
        finally:
            end.cancel()
            self._places.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """Write nothing: the client hung up, and knows."""


def _shut(request: socket.socket) -> None:
    """End a connection whose time is up, however slowly it was read or written."""
    with contextlib.suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


class _UnixServer(_FewAtOnce, UnixStreamServer):
    pass


class _PortServer(_FewAtOnce, HTTPServer):
    pass


class _State:
    """Leases, pools and parents, read from disk at each scrape."""

    def __init__(self, data_dir: str) -> None:
        self._data_dir = data_dir

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics (prometheus_client, custom collectors)."""
        labels = ["pool", "subnet"]
        used = GaugeMetricFamily("cni_leases", "Leased addresses in the subnet.", labels=labels)
        size = GaugeMetricFamily(
            "cni_pool_addresses", "Addresses of the subnet that can be leased, free or not.", labels=labels
        )
        free = GaugeMetricFamily("cni_pool_free_addresses", "Free addresses in the subnet.", labels=labels)
        for usage in inventory.usage(self._data_dir):
            for family, value in ((used, usage.used), (size, usage.size), (free, usage.free)):
                family.add_metric([usage.pool, usage.subnet], value)
        parents = GaugeMetricFamily(
            "cni_parent_users", "Pod interfaces on the parent interface.", labels=["parent"]
        )
        ready = GaugeMetricFamily(
            "cni_parent_ready",
            "1 if the parent interface exists, is up and has a carrier, else 0.",
            labels=["parent"],
        )
        with open_rtnl() as rtnl:
            node = read_node(rtnl, Ledger())
        for name in sorted(node.parents):
            link = node.links.get(name)
            parents.add_metric([name], len(node.on(name)))
            ready.add_metric([name], link is not None and link.up and link.carrier)
        return [used, size, free, parents, ready]


def _handler(registry: CollectorRegistry, agent: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        @override
        def address_string(self) -> str:
            return "local"

        @override
        def log_message(self, format: str, *args: object) -> None:
            """Write nothing: a line for each scrape has no use."""

        def do_GET(self) -> None:
            match self.path:
                case "/metrics":
                    text: bytes = generate_latest(registry)
                case "/healthz":
                    wrong = health.problem(agent)
                    if wrong:
                        self.send_error(503, wrong)
                        return
                    text = b"ok\n"
                case _:
                    self.send_error(404)
                    return
            self.send_response(200)
            self.send_header("Content-Type", CONTENT_TYPE_LATEST)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    return Handler
