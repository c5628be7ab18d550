"""An engine in the Kubernetes API: a resource for each kind of object, whose `spec` is the object's fields.

    vlanpools, vlanblocks, vlanpins, vlanwants, vlannodes    of ipam.cni-vlan.io/v1alpha1, without namespace

Labels repeat pool and node, for selectors. No object is owned by a Node: the garbage collector would delete
the blocks of a node that registers anew, under its running pods. manifests/kubernetes/cluster defines them.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

from typing_extensions import override

from cni_core import statefile
from cni_core.errors import IoFailure
from cni_ipam.cluster import EngineConf
from cni_ipam.engine import Engine, EngineAway, EngineRefused, Entry, Fields, Kind, Snapshot
from cni_ipam.http import Answer, Http, Request

GROUP = "ipam.cni-vlan.io"
_VERSION = f"{GROUP}/v1alpha1"
_TYPES: Mapping[Kind, str] = {
    "pool": "VlanPool",
    "block": "VlanBlock",
    "pin": "VlanPin",
    "want": "VlanWant",
    "node": "VlanNode",
}
_INSTALL = "kubectl apply -k manifests/kubernetes/overlays/cluster"
_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"  # in a pod
_TOKEN_S = 60.0  # a token is replaced in its file long before it ends
_PAGE = 500  # objects
_NODES = 100  # of 20 kB each
_DEAD = "node.kubernetes.io/out-of-service"
_Objects = list[Mapping[str, Any]]  # a name for it where `list` is the method
_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_REFUSED, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _CONFLICT, _GONE = 400, 401, 403, 404, 409, 410
_AWAY_STATUS = {429, 500, 502, 503, 504}  # 500 is its etcd's: no leader, a timeout


class Kubernetes(Engine):
    """A cluster's store in the Kubernetes API."""

    def __init__(self, conf: EngineConf) -> None:
        self._conf = _in_pod(conf)
        self._http = Http("Kubernetes", self._conf, _away)
        self._token = ""
        self._token_until = 0.0  # in seconds of time.monotonic

    @override
    def list(self, kind: Kind, pool: str = "") -> Snapshot:
        selector = {"labelSelector": f"{GROUP}/pool={_label(pool)}"} if pool else {}
        return self._snapshot(kind, selector, f"list {kind}s")

    @override
    def read(self, kind: Kind, name: str) -> Entry | None:
        answer = self._send("GET", _path(kind, name))
        if _is_absent(answer):
            return None
        return _entry(kind, self._checked(answer, f"read {kind} {name}"))

    @override
    def create(self, kind: Kind, name: str, fields: Fields) -> Entry | None:
        answer = self._send("POST", _path(kind), _object(kind, name, fields))
        return self._written(answer, kind, name, fields)

    @override
    def replace(self, entry: Entry, fields: Fields) -> Entry | None:
        changed = _object(entry.kind, entry.name, fields, entry.revision)
        answer = self._send("PUT", _path(entry.kind, entry.name), changed)
        return self._written(answer, entry.kind, entry.name, fields)

    @override
    def delete(self, entry: Entry) -> bool:
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": _version(entry.revision),
        }
        answer = self._send("DELETE", _path(entry.kind, entry.name), options)
        if _is_absent(answer):
            # Gone after a try whose answer was lost: that try did it, or another node, and gone it is.
            return answer.is_repeated
        if answer.status == _CONFLICT:
            return False
        self._checked(answer, f"delete {entry.kind} {entry.name}")
        return True

    @override
    def nodes(self) -> Mapping[str, str]:
        # Whole objects: those with metadata alone have no taints.
        items, _revision = self._pages("/api/v1/nodes", {"limit": str(_NODES)}, "list nodes")
        return {str(item["metadata"]["name"]): _proof(item) for item in items}

    def _written(self, answer: Answer, kind: Kind, name: str, fields: Fields) -> Entry | None:
        """Return the written object, None if it is taken, changed or gone."""
        if answer.status == _CONFLICT or _is_absent(answer):
            # A lost answer, as in cni_ipam.etcd: this try met what an earlier one had written.
            entry = self.read(kind, name) if answer.is_repeated else None
            return entry if entry is not None and entry.fields == json.loads(_json(fields)) else None
        return _entry(kind, self._checked(answer, f"write {kind} {name}"))

    def _snapshot(self, kind: Kind, query: Mapping[str, str], what: str) -> Snapshot:
        items, revision = self._pages(_path(kind), {"limit": str(_PAGE), **query}, what)
        try:
            return Snapshot(tuple(_entry(kind, item) for item in items), int(revision))
        except ValueError as error:
            raise _strange() from error

    def _pages(self, path: str, query: Mapping[str, str], what: str) -> tuple[_Objects, str]:
        """Return all objects of a list, and its revision; every page is of the same moment."""
        items: _Objects = []
        further: dict[str, str] = {}
        while True:
            answer = self._send("GET", f"{path}?{urlencode({**query, **further})}")
            page = self._checked(answer, what)
            items += page.get("items") or ()
            metadata = page["metadata"]
            if not metadata.get("continue"):
                return items, str(metadata.get("resourceVersion"))
            further = {"continue": metadata["continue"]}

    def _send(self, method: str, path: str, document: Mapping[str, Any] | None = None) -> Answer:
        self._check_credentials()
        body = b"" if document is None else _json(document)
        answer = self._http.request(Request(method, path, body, self._headers()))
        if answer.status == _UNAUTHORIZED and self._conf.token_file:
            self._token_until = 0.0
            again = self._http.request(Request(method, path, body, self._headers()))
            answer = again._replace(is_repeated=answer.is_repeated or again.is_repeated)
        return answer

    def _check_credentials(self) -> None:
        """Raise EngineRefused if this process has no way to the API: the one-shot plugins have no account."""
        conf = self._conf
        if not conf.endpoints or not (conf.token_file or conf.cert_file):
            raise EngineRefused(
                "log in to Kubernetes: no credentials",
                "run the agent as a pod (the DaemonSet), which has an account; or set ipam.cluster.server and"
                " caFile, with tokenFile, or with certFile and keyFile",
            )

    def _headers(self) -> Mapping[str, str]:
        headers = {"Accept": "application/json", "Content-Type": "application/json"}
        if self._conf.token_file:
            headers["Authorization"] = f"Bearer {self._current_token()}"
        return headers

    def _current_token(self) -> str:
        now = time.monotonic()
        if now >= self._token_until:
            path = self._conf.token_file
            try:
                token = statefile.read_file(path)
            except IoFailure as error:
                raise EngineRefused(f"log in to Kubernetes: {error.msg}") from error
            if token is None:
                raise EngineRefused(f"log in to Kubernetes: token file {path} does not exist")
            token = token.strip()
            if not token or not token.isascii() or not token.isprintable():
                raise EngineRefused(f"log in to Kubernetes: token file {path} has no token")
            self._token, self._token_until = token, now + _TOKEN_S
        return self._token

    def _checked(self, answer: Answer, what: str) -> dict[str, Any]:
        """Return the document of an answer; raises EngineRefused or EngineAway if it is an error."""
        document = _document(answer.body)
        if answer.status < _REFUSED and isinstance(document.get("metadata"), dict):
            return document
        where = f"{what} on Kubernetes {answer.endpoint}"
        message = str(document.get("message") or answer.body[:200].decode(errors="replace").strip())
        match answer.status:
            case 401:
                where_from = self._conf.token_file or self._conf.cert_file
                raise EngineRefused(f"{where}: the credentials in {where_from} are not accepted")
            case 403:
                raise EngineRefused(f"{where}: {message}", f"the role of the agents: {_INSTALL}")
            case 404:
                raise EngineRefused(f"{where}: the resource type is not installed: {_INSTALL}")
            case 410:
                raise EngineAway(f"{where}: the list changed too fast")
            case _:
                raise EngineRefused(f"{where}: HTTP {answer.status}: {message}")


def _in_pod(conf: EngineConf) -> EngineConf:
    """Return a configuration; one without a server is completed as for a pod of the cluster."""
    host, port = (os.environ.get(f"KUBERNETES_SERVICE_{name}", "") for name in ("HOST", "PORT"))
    if conf.endpoints or not host:
        return conf
    return conf._replace(
        endpoints=(f"https://{f'[{host}]' if ':' in host else host}:{port or 443}",),
        ca_file=conf.ca_file or f"{_ACCOUNT}/ca.crt",
        token_file=conf.token_file or f"{_ACCOUNT}/token",
    )


def _path(kind: Kind, name: str = "") -> str:
    """Return the path of a kind, or of one of its objects."""
    return f"/apis/{_VERSION}/vlan{kind}s" + (f"/{quote(name, safe='')}" if name else "")


def _label(text: str) -> str:
    """Return a text as the value of a label, which has at most 63 characters: longer ones by their hash."""
    return text if _LABEL.fullmatch(text) else hashlib.sha256(text.encode()).hexdigest()[:40]


def _object(kind: Kind, name: str, fields: Fields, revision: str = "") -> Mapping[str, Any]:
    labels = {f"{GROUP}/{key}": _label(str(fields[key])) for key in ("pool", "node") if fields.get(key)}
    metadata = {"name": name, "labels": labels, **_version(revision)}
    return {"apiVersion": _VERSION, "kind": _TYPES[kind], "metadata": metadata, "spec": dict(fields)}


def _entry(kind: Kind, item: Mapping[str, Any]) -> Entry:
    try:
        metadata = item["metadata"]
        revision = f"{metadata['resourceVersion']}.{metadata['uid']}"
        return Entry(kind, str(metadata["name"]), item.get("spec") or {}, revision)
    except (KeyError, TypeError) as error:
        raise _strange() from error


def _strange() -> EngineRefused:
    return EngineRefused("ask Kubernetes: the answer is not its API's")


def _version(revision: str) -> Mapping[str, str]:
    """Return the identity of one version of one object: numbers come again after a backup is restored."""
    number, _dot, uid = revision.partition(".")
    return {"resourceVersion": number, "uid": uid} if revision else {}


def _proof(node: Mapping[str, Any]) -> str:
    """Return the proof that a Node is dead, "" if there is none; one that is not ready may be alive."""
    taints = node.get("spec", {}).get("taints") or ()
    return f"taint {_DEAD}" if any(taint.get("key") == _DEAD for taint in taints) else ""


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(document), separators=(",", ":")).encode()


def _document(text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _is_absent(answer: Answer) -> bool:
    """Return whether an object does not exist; a resource type that does not has no name in its answer."""
    return answer.status == _NOT_FOUND and "name" in (_document(answer.body).get("details") or {})


def _away(answer: Answer) -> str:
    """Return why this API server cannot serve at the moment, "" if it has."""
    if answer.status not in _AWAY_STATUS:
        return ""
    message = _document(answer.body).get("message") or answer.body[:200].decode(errors="replace").strip()
    return f"HTTP {answer.status}: {message}"
