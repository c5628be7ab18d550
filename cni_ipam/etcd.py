"""An engine in etcd, over the JSON gateway of its v3 API: etcd 3.4 and later.

    <prefix>/v1/<kind>/<pool>/<name>    a pool, block, pin or want; the name begins with its pool
    <prefix>/v1/node/<name>             a node

The value is the object's fields as JSON. Keys and values travel in base64, numbers of 64 bits as text, and
an answer leaves out what is 0, "" or false.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from typing_extensions import override

from cni_core import statefile
from cni_core.errors import IoFailure
from cni_ipam.cluster import EngineConf
from cni_ipam.engine import Engine, EngineRefused, Entry, Fields, Kind, Snapshot
from cni_ipam.http import Answer, Http, Request

_OK = 200
# Codes of gRPC.
_CANCELLED, _DEADLINE, _UNAVAILABLE, _UNAUTHENTICATED = 1, 4, 14, 16
_AWAY_STATUS = {502, 503, 504}
_AWAY_WORDS = ("no leader", "leader changed", "not a primary lessor", "too many requests", "timed out")
# The token has ended, or is of before a change of users, or users were introduced only now.
_STALE_WORDS = ("invalid auth token", "revision of auth store is old", "user name is empty")

_TOKENS_MOST = 4  # for one request: while users change, etcd gives tokens that are stale at once


class _Done(NamedTuple):
    """The outcome of a transaction: whether it was carried out, at which revision, else what it found."""

    revision: str
    is_done: bool
    is_repeated: bool
    found: Mapping[str, Any]


class _Range(NamedTuple):
    """The entries found, and the number of keys without regard to their revision."""

    snapshot: Snapshot
    total: int


class Etcd(Engine):
    """A cluster's store in etcd."""

    def __init__(self, conf: EngineConf) -> None:
        self._conf = conf
        self._http = Http("etcd", conf, _away)
        self._nodes: Snapshot | None = None
        self._token: str | None = None  # None: not asked for yet
        self._root = f"{conf.prefix.rstrip('/')}/v1/"

    @override
    def list(self, kind: Kind, pool: str = "") -> Snapshot:
        first = f"{self._root}{kind}/{pool}/" if pool else f"{self._root}{kind}/"
        last = first[:-1] + chr(ord("/") + 1)  # the first text after all that begin so
        request = {"key": _coded(first), "range_end": _coded(last)}
        if kind != "node":
            return self._range(kind, request, f"list {kind}s").snapshot
        found = self._news(request) or self._range(kind, request, "list nodes").snapshot
        self._nodes = found
        return found

    def _news(self, request: Mapping[str, str]) -> Snapshot | None:
        """Return the nodes by what has changed since they were listed; None if that does not tell all.

        Every idle node asks for them, again and again: of a thousand, that would be 7 MB each second.
        """
        known = self._nodes
        if known is None:
            return None
        since = {"min_mod_revision": str(known.revision + 1)}
        found, total = self._range("node", {**request, **since}, "list nodes")
        if found.cluster != known.cluster or found.revision < known.revision:
            return None
        entries = {entry.name: entry for entry in (*known.entries, *found.entries)}
        if len(entries) != total:  # some were deleted
            return None
        return found._replace(entries=tuple(entries[name] for name in sorted(entries)))

    @override
    def read(self, kind: Kind, name: str) -> Entry | None:
        found = self._range(kind, {"key": _coded(self._key(kind, name))}, f"read {kind} {name}")
        return next(iter(found.snapshot.entries), None)

    @override
    def create(self, kind: Kind, name: str, fields: Fields) -> Entry | None:
        return self._put(kind, name, fields, {"target": "VERSION", "version": "0"})

    @override
    def replace(self, entry: Entry, fields: Fields) -> Entry | None:
        return self._put(entry.kind, entry.name, fields, _unchanged(entry))

    @override
    def delete(self, entry: Entry) -> bool:
        key = self._key(entry.kind, entry.name)
        change = {"requestDeleteRange": {"key": _coded(key)}}
        done = self._transact(key, _unchanged(entry), change, f"delete {entry.kind} {entry.name}")
        # Gone after a try whose answer was lost: that try did it, or another node, and gone it is.
        return done.is_done or (done.is_repeated and not done.found)

    @override
    def nodes(self) -> None:
        return None

    def _key(self, kind: Kind, name: str) -> str:
        match kind:
            case "node":
                return f"{self._root}node/{name}"
            case "pool":
                return f"{self._root}pool/{name}/{name}"
            case _:
                return f"{self._root}{kind}/{name.rpartition('.')[0]}/{name}"

    def _put(self, kind: Kind, name: str, fields: Fields, compare: Mapping[str, str]) -> Entry | None:
        key = self._key(kind, name)
        value = json.dumps(dict(fields), separators=(",", ":"), ensure_ascii=False)
        change = {"requestPut": {"key": _coded(key), "value": _coded(value)}}
        done = self._transact(key, compare, change, f"write {kind} {name}")
        if done.is_done:
            return Entry(kind, name, fields, done.revision)
        if done.is_repeated and done.found.get("value") == _coded(value):
            # An earlier try of this request reached etcd, its answer was lost, and this try met what that one
            # wrote: the same bytes, with the incarnation of this node. It is no other node's object.
            return Entry(kind, name, fields, str(done.found["mod_revision"]))
        return None

    def _transact(
        self, key: str, compare: Mapping[str, str], change: Mapping[str, object], what: str
    ) -> _Done:
        """Make a change if the comparison of the key holds; one that is sent twice is made once."""
        request = {
            "compare": [{"key": _coded(key), "result": "EQUAL", **compare}],
            "success": [change],
            "failure": [{"requestRange": {"key": _coded(key)}}],
        }
        answer, is_repeated = self._ask("kv/txn", request, what)
        responses = answer.get("responses") or [{}]
        found = responses[0].get("response_range", {}).get("kvs") or [{}]
        return _Done(answer["header"]["revision"], bool(answer.get("succeeded")), is_repeated, found[0])

    def _range(self, kind: Kind, request: Mapping[str, str], what: str) -> _Range:
        answer, _is_repeated = self._ask("kv/range", request, what)
        header = answer["header"]
        try:
            entries = tuple(self._entry(kind, item) for item in answer.get("kvs", ()))
            found = Snapshot(entries, int(header["revision"]), str(header["cluster_id"]))
            return _Range(found, int(answer.get("count", 0)))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise EngineRefused(f"{what} on etcd: the answer is not etcd's") from error

    def _entry(self, kind: Kind, item: Mapping[str, Any]) -> Entry:
        key = base64.b64decode(item["key"]).decode(errors="replace")
        name = key.removeprefix(f"{self._root}node/") if kind == "node" else key.rpartition("/")[2]
        fields = _document(base64.b64decode(item.get("value", "")))
        return Entry(kind, name, fields, str(item["mod_revision"]))

    def _ask(self, path: str, request: Mapping[str, Any], what: str) -> tuple[dict[str, Any], bool]:
        """Return the answer of etcd, and whether an earlier try may have been carried out."""
        answer = self._send(path, request)
        is_repeated = answer.is_repeated
        for _try in range(_TOKENS_MOST if self._conf.user else 0):
            if not _is_stale(answer):
                break
            answer = self._send(path, request)
            is_repeated = is_repeated or answer.is_repeated
        return self._checked(answer, what), is_repeated

    def _send(self, path: str, request: Mapping[str, Any]) -> Answer:
        # Threads that meet here log in side by side: a lock would be held while one of them steps aside.
        token = self._token
        if self._conf.user and token is None:
            token = self._token = self._log_in()
        headers = {"Content-Type": "application/json"}
        if token:
            headers["Authorization"] = token
        answer = self._http.request(Request("POST", f"/v3/{path}", json.dumps(request).encode(), headers))
        if self._token == token and _is_stale(answer):  # else another thread has a fresh one already
            self._token = None
        return answer

    def _log_in(self) -> str:
        """Return a token, "" if this etcd has no users yet."""
        conf = self._conf
        try:
            password = statefile.read_file(conf.password_file)
        except IoFailure as error:
            raise EngineRefused(f"read ipam.cluster.passwordFile: {error.msg}") from error
        if password is None:
            raise EngineRefused(f"read ipam.cluster.passwordFile {conf.password_file}: no such file")
        request = {"name": conf.user, "password": password.rstrip("\n")}
        headers = {"Content-Type": "application/json"}
        body = json.dumps(request).encode()
        answer = self._http.request(Request("POST", "/v3/auth/authenticate", body, headers))
        if answer.status != _OK and "authentication is not enabled" in _problem(answer)[1]:
            return ""
        return str(self._checked(answer, f"log in as {conf.user}").get("token", ""))

    def _checked(self, answer: Answer, what: str) -> dict[str, Any]:
        """Return the document of an answer; raises EngineRefused if it is an error."""
        where = f"{what} on etcd {answer.endpoint}"
        if answer.status != _OK:
            raise EngineRefused(f"{where}: {self._reason(answer)}")
        document = _document(answer.body)
        header = document.get("header")
        if not isinstance(header, dict) or "revision" not in header:
            raise EngineRefused(f"{where}: the answer is not etcd's")
        return document

    def _reason(self, answer: Answer) -> str:
        """Return why etcd refuses, with what helps if that is known."""
        _code, message = _problem(answer)
        user = self._conf.user
        if "database space exceeded" in message:
            return (
                "its quota of disk space is used up (alarm NOSPACE): compact and defragment it, then etcdctl"
                " alarm disarm"
            )
        if "user name is empty" in message:
            return "it wants a user: set ipam.cluster.user and passwordFile"
        if "authentication failed" in message:
            return "wrong user or password: see ipam.cluster.user and passwordFile"
        if "permission denied" in message:
            return f"user {user} has no permission for keys under {self._root}" if user else message
        if "HTTP request to an HTTPS server" in message:
            return "it speaks TLS: an https:// endpoint"
        return f"HTTP {answer.status}: {message}"


def _coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _unchanged(entry: Entry) -> Mapping[str, str]:
    return {"target": "MOD", "mod_revision": entry.revision}


def _document(text: bytes) -> dict[str, Any]:
    """Return a JSON object, an empty one if the text is none: people write into etcd too."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _problem(answer: Answer) -> tuple[int, str]:
    """Return gRPC's code and message in an error; 0 and the text if it is not from the gateway."""
    document = _document(answer.body)
    message = document.get("message") or document.get("error")
    if not isinstance(message, str):
        return 0, answer.body[:200].decode(errors="replace").strip()
    code = document.get("code")
    return code if isinstance(code, int) else 0, message


def _away(answer: Answer) -> str:
    """Return why this member cannot serve at the moment, "" if it has."""
    if answer.status == _OK:
        return ""
    code, message = _problem(answer)
    is_away = code in {_CANCELLED, _DEADLINE, _UNAVAILABLE} or answer.status in _AWAY_STATUS
    return message if is_away or any(words in message for words in _AWAY_WORDS) else ""


def _is_stale(answer: Answer) -> bool:
    """Return whether a token is needed, or a fresh one."""
    if answer.status == _OK:
        return False
    code, message = _problem(answer)
    return code == _UNAUTHENTICATED or any(words in message for words in _STALE_WORDS)
