"""HTTP to the endpoints of an engine, with one deadline for a request. The only module that imports urllib3.

urllib3 keeps connections and shares them among threads; http.client does neither. The import takes 53 ms and
7 MiB, so that only a process that asks an engine pays for it.

The endpoint that answered last is asked first. Each gets its share of the time, so that one that hangs does
not use up what the others need. An answer may be lost after the request was carried out: an answer to a
request that was sent before says so, and the engine compares.

While no endpoint answers, a burst of pods must not wait the full time each: after one has, those that follow
in the next seconds wait briefly.
"""

import ipaddress
import os
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

from cni_core import waiting
from cni_ipam.cluster import EngineConf
from cni_ipam.engine import EngineAway, EngineRefused

if TYPE_CHECKING:
    from urllib3 import HTTPConnectionPool
    from urllib3.response import BaseHTTPResponse

DEADLINE_S = 2.5
_HURRY_S = 0.5  # is waited for an engine that has just not answered in the full time
_HURRIED_S = 5.0  # thereafter
LARGEST_ANSWER = 64 << 20  # bytes
_LEAST_S = 0.05  # for one endpoint, however little time is left
_PAUSE_S = 0.05  # before the endpoints are asked once more, doubled each time: an election takes a second
_CHUNK = 1 << 18
_CONNECTIONS = 16  # kept for each endpoint; more are made at need
_OTHER_NAME = {62, 64}  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH


class Request(NamedTuple):
    """A request; `path` has the query. `headers` are those beside the usual ones."""

    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = {}


class Answer(NamedTuple):
    """An answer. `is_repeated`: an earlier try of the same request may have been carried out."""

    status: int
    body: bytes
    endpoint: str
    is_repeated: bool = False


class Failure(NamedTuple):
    """The reason why an endpoint did not serve a request.

    `may_be_done`: the request was sent. `is_passing`: another try may succeed at once. `is_fault`: somebody
    has to repair a configuration or certificate.
    """

    why: str
    may_be_done: bool = False
    is_passing: bool = False
    is_fault: bool = False


class Http:
    """The connections to the endpoints of one engine, for all threads of this process.

    `away` returns the reason why an answer is not the engine's but that of an endpoint that cannot reach it,
    "" if it is the engine's.
    """

    def __init__(self, engine: str, conf: EngineConf, away: Callable[[Answer], str]) -> None:
        self.engine = engine
        self._conf = conf
        self._away = away
        self._endpoints = conf.endpoints
        self._pools: dict[str, HTTPConnectionPool] = {}
        self._files: tuple[object, ...] = ()
        self._hurried_until = 0.0
        # Never held while a thread steps aside: others that wait for it may hold the turn.
        self._guard = threading.Lock()

    def request(self, request: Request) -> Answer:
        """Return the answer of the first endpoint that has one.

        Raises EngineAway if none answers in 2.5 s or in the time that the call has left, and sooner if none
        has just now; EngineRefused if the configuration or a certificate is wrong.
        """
        started = time.monotonic()
        is_hurried = started < self._hurried_until
        until = started + waiting.at_most(_HURRY_S if is_hurried else DEADLINE_S)
        try:
            with waiting.aside():
                return self._request(request, until)
        except EngineAway:
            ended = time.monotonic()
            if not is_hurried and ended - started > _HURRY_S:
                self._hurried_until = ended + _HURRIED_S
            raise

    def _request(self, request: Request, until: float) -> Answer:
        failures: dict[str, Failure] = {}
        is_repeated = False
        pause = _PAUSE_S
        while True:
            for endpoint, seconds in self._shares(until):
                found = self._try(endpoint, request, seconds)
                if isinstance(found, Answer):
                    self._prefer(endpoint)
                    return found._replace(is_repeated=is_repeated)
                failures[endpoint] = found
                is_repeated = is_repeated or found.may_be_done
            if not any(failure.is_passing for failure in failures.values()):
                raise self._error(failures)  # none was reached: waiting does not help
            if time.monotonic() + pause + _LEAST_S > until:
                raise self._error(failures)
            time.sleep(pause)
            pause *= 2

    def _shares(self, until: float) -> Iterator[tuple[str, float]]:
        """Yield the endpoints, each with its share in seconds of the time that is left."""
        endpoints = self._endpoints
        for at, endpoint in enumerate(endpoints):
            yield endpoint, max(_LEAST_S, (until - time.monotonic()) / (len(endpoints) - at))

    def _prefer(self, endpoint: str) -> None:
        if endpoint != self._endpoints[0]:
            others = tuple(other for other in self._endpoints if other != endpoint)
            self._endpoints = (endpoint, *others)

    def _error(self, failures: Mapping[str, Failure]) -> EngineAway | EngineRefused:
        why = "; ".join(f"{endpoint}: {failure.why}" for endpoint, failure in failures.items())
        are_faults = all(failure.is_fault for failure in failures.values())
        return (EngineRefused if are_faults else EngineAway)(f"reach {self.engine} on {why}")

    def _try(self, endpoint: str, request: Request, seconds: float) -> Answer | Failure:
        pool = self._pool(endpoint)
        if _is_address(pool.host):
            found = _ask(pool, endpoint, request, seconds)
        else:  # looking up a name has no deadline of its own, and takes 20 s without a name server
            found = _within(seconds, lambda: _ask(pool, endpoint, request, seconds))
        if isinstance(found, Failure):
            return found
        why = self._away(found)
        return Failure(why, may_be_done=True, is_passing=True) if why else found

    def _pool(self, endpoint: str) -> "HTTPConnectionPool":
        """Return the connections to an endpoint, with the certificates as they are on the disk now."""
        conf = self._conf
        files = tuple(_signature(path) for path in (conf.ca_file, conf.cert_file, conf.key_file))
        with self._guard:
            known = self._pools.get(endpoint)
            if known is not None and files == self._files:
                return known
            try:
                made = _connections(endpoint, conf)
            except EngineRefused:
                if known is None:
                    raise
                return known  # certificate and key are two files: one of them may be about to be replaced
            if files != self._files:
                self._pools, self._files = {}, files
            self._pools[endpoint] = made
            return made


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _within(seconds: float, ask: Callable[[], Answer | Failure]) -> Answer | Failure:
    """Return the addresses found in some seconds; a slower look-up is left to end by itself."""
    results: SimpleQueue[Answer | Failure] = SimpleQueue()
    try:
        threading.Thread(target=lambda: results.put(ask()), daemon=True).start()
        return results.get(timeout=seconds + _LEAST_S)
    except Empty:
        return Failure(_late("no answer", seconds), may_be_done=True, is_passing=True)
    except RuntimeError as error:  # the limit of processes
        return Failure(_words(error))


def _late(what: str, seconds: float) -> str:
    return f"{what} within {seconds:.2g} s"


def _ask(pool: "HTTPConnectionPool", endpoint: str, request: Request, seconds: float) -> Answer | Failure:
    """Ask an endpoint once."""
    from urllib3 import Timeout
    from urllib3.exceptions import HTTPError

    until = time.monotonic() + seconds
    below = endpoint.partition("://")[2].partition("/")[2]
    try:
        response = pool.urlopen(
            request.method,
            f"/{below}{request.path}" if below else request.path,
            request.body or None,
            {"User-Agent": "cni-vlan", **request.headers},
            retries=False,
            redirect=False,
            timeout=Timeout(total=seconds),
            preload_content=False,
        )
        body = _body(response, until)
    except HTTPError as error:
        return _failure(error, endpoint, seconds)
    if isinstance(body, Failure):
        response.close()
        return body
    return Answer(response.status, body, endpoint)


def _body(response: "BaseHTTPResponse", until: float) -> bytes | Failure:
    """Return the body of an answer."""
    parts: list[bytes] = []
    size = 0
    while part := response.read1(_CHUNK):
        parts.append(part)
        size += len(part)
        if size > LARGEST_ANSWER:
            return Failure(f"an answer over {LARGEST_ANSWER >> 20} MiB", may_be_done=True, is_fault=True)
        if time.monotonic() > until:
            return Failure("the answer came too slowly", may_be_done=True, is_passing=True)
    return b"".join(parts)


def _signature(path: str) -> object:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _connections(endpoint: str, conf: EngineConf) -> "HTTPConnectionPool":
    from urllib3 import connection_from_url
    from urllib3.exceptions import LocationValueError

    try:
        if endpoint.startswith("https://"):
            return connection_from_url(endpoint, maxsize=_CONNECTIONS, ssl_context=_context(conf))
        return connection_from_url(endpoint, maxsize=_CONNECTIONS)
    except LocationValueError as error:
        raise EngineRefused(f"reach {conf.store} on {endpoint}: not a URL") from error


def _context(conf: EngineConf) -> ssl.SSLContext:
    """Return the TLS settings; raises EngineRefused for a file that does not serve."""
    try:
        context = ssl.create_default_context(cafile=conf.ca_file or None)
    except ssl.SSLError as error:
        raise EngineRefused(f"read ipam.cluster.caFile {conf.ca_file}: no certificate in it") from error
    except OSError as error:
        raise EngineRefused(f"read ipam.cluster.caFile {conf.ca_file}: {_words(error)}") from error
    if conf.cert_file:
        files = f"ipam.cluster.certFile {conf.cert_file} and keyFile {conf.key_file}"
        try:
            context.load_cert_chain(conf.cert_file, conf.key_file, password="")  # asks nobody
        except ssl.SSLError as error:
            raise EngineRefused(f"read {files}: not a certificate and its key") from error
        except OSError as error:
            raise EngineRefused(f"read {files}: {_words(error)}") from error
    return context


def _failure(error: Exception, endpoint: str, seconds: float) -> Failure:
    """Return the meaning of an error of urllib3, for a try of some seconds."""
    from urllib3 import exceptions

    reason = error.args[-1] if error.args else error
    if isinstance(error, exceptions.NameResolutionError):
        found = Failure(f"its name is not resolved: {_words(error.__cause__)}")
    elif isinstance(error, exceptions.NewConnectionError):
        found = Failure(_words(error.__cause__))
    elif isinstance(error, exceptions.ConnectTimeoutError):
        found = Failure(_late("no connection", seconds), is_passing=True)
    elif isinstance(error, exceptions.TimeoutError):
        found = Failure(_late("no answer", seconds), may_be_done=True, is_passing=True)
    elif isinstance(reason, ConnectionError | ssl.SSLEOFError):
        found = Failure(_closed_words(endpoint), may_be_done=True, is_passing=True)
    elif isinstance(reason, ssl.SSLError):
        found = Failure(_tls_words(reason), may_be_done=True, is_fault=True)
    elif isinstance(reason, exceptions.IncompleteRead):
        found = Failure("its answer is cut off", may_be_done=True, is_passing=True)
    else:
        words = _words(reason if isinstance(reason, Exception) else error)
        found = Failure(words, may_be_done=True, is_passing=True)
    return found


def _closed_words(endpoint: str) -> str:
    """Return the possible meaning of an end of the connection; etcd refuses certificates in this way."""
    if endpoint.startswith("http://"):
        return "it closes the connection: an https:// endpoint?"
    return "it closes the connection: does it speak TLS? does it want another ipam.cluster.certFile, or one?"


def _words(error: BaseException | None) -> str:
    """Return the reason in an error of the system."""
    text = getattr(error, "strerror", None) or str(error)
    return text[:1].lower() + text[1:]


def _tls_words(error: ssl.SSLError) -> str:
    """Return the fault of a certificate."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _OTHER_NAME:
            return f"its certificate is another host's: {_words(ValueError(error.verify_message))}"
        return f"its certificate is not trusted: {error.verify_message}; see ipam.cluster.caFile"
    reason = str(error.reason or error)
    if "CERTIFICATE_REQUIRED" in reason or "BAD_CERTIFICATE" in reason:
        return "it wants a client certificate that it trusts: see ipam.cluster.certFile and keyFile"
    if "UNKNOWN_CA" in reason:
        return "it does not trust the client certificate in ipam.cluster.certFile"
    if "WRONG_VERSION" in reason or "RECORD_LAYER" in reason:
        return "it speaks no TLS: an http:// endpoint?"
    return f"TLS: {reason.lower().replace('_', ' ')}"
