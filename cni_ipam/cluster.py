"""The keys of a pool that many nodes share: its engine, its blocks, its pinned addresses. Pure."""

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypedDict

from cni_ipam.ranges import Interval, merge, without_zone

BLOCK_SIZE = 16
LARGEST_BLOCK = 256
AUTO = 0  # the size is chosen by the first node, and recorded in the engine
FILES = ("caFile", "certFile", "keyFile", "tokenFile", "passwordFile")


class ClusterKeys(TypedDict, total=False):
    """The keys of the section "ipam.cluster", spelled as in JSON."""

    store: Literal["etcd", "kubernetes"]
    endpoints: list[str]
    prefix: str
    server: str
    caFile: str
    certFile: str
    keyFile: str
    tokenFile: str
    user: str
    passwordFile: str
    node: str


class EngineConf(NamedTuple):
    """The way to an engine; hashable, so that a process keeps one connection for it.

    `endpoints` are URLs: of the members of etcd, or of one API server; none for a pod's own API server. Files
    are read at each connection, since they are rotated. `user` and `password_file` are etcd's.
    """

    store: str
    endpoints: tuple[str, ...] = ()
    prefix: str = "/cni-vlan"
    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    token_file: str = ""
    user: str = ""
    password_file: str = ""


UNKNOWN = EngineConf("unknown")


class Cluster(NamedTuple):
    """The part of a pool's configuration that concerns all nodes.

    `block_size` is a power of two, or AUTO. `pinned` are the addresses that are never cut into blocks, by IP
    version. `node` is the configured name of this node, "" for its host name.
    """

    engine: EngineConf
    block_size: int = BLOCK_SIZE
    pinned: tuple[tuple[int, Interval], ...] = ()
    node: str = ""

    def pinned_of(self, version: int) -> list[Interval]:
        """Return the pinned addresses of an IP version, sorted and disjoint."""
        return merge(part for of, part in self.pinned if of == version)


def parse_cluster(
    keys: ClusterKeys, block_size: object, pinned: Sequence[str], problems: list[str]
) -> Cluster:
    """Return the section "cluster" with the keys beside it; adds its problems."""
    return Cluster(
        _engine(keys, problems),
        _block_size(block_size, problems),
        tuple(part for text in pinned for part in _pinned(text, problems)),
        keys.get("node", ""),
    )


def _engine(keys: ClusterKeys, problems: list[str]) -> EngineConf:
    store = keys.get("store", "")
    server = keys.get("server", "")
    endpoints = keys.get("endpoints", []) if store == "etcd" else [server] if server else []
    if store not in {"etcd", "kubernetes"}:
        problems.append(f'ipam.cluster.store {store!r}: required, "etcd" or "kubernetes"')
    elif store == "etcd" and not endpoints:
        problems.append("ipam.cluster.endpoints: required for etcd")
    problems += [
        f"ipam.cluster {url}: not an http:// or https:// URL"
        for url in endpoints
        if not url.startswith(("http://", "https://"))
    ]
    problems += _file_problems(keys)
    return EngineConf(
        store,
        tuple(url.rstrip("/") for url in endpoints),
        "/" + keys.get("prefix", "/cni-vlan").strip("/"),
        keys.get("caFile", ""),
        keys.get("certFile", ""),
        keys.get("keyFile", ""),
        keys.get("tokenFile", ""),
        keys.get("user", ""),
        keys.get("passwordFile", ""),
    )


def _file_problems(keys: ClusterKeys) -> list[str]:
    files = {key: str(keys.get(key, "")) for key in FILES}
    problems = [
        f"ipam.cluster.{key} {path}: not an absolute path"
        for key, path in files.items()
        if path and not path.startswith("/")
    ]
    if bool(files["certFile"]) != bool(files["keyFile"]):
        problems.append("ipam.cluster: certFile and keyFile go together")
    if bool(keys.get("user")) != bool(files["passwordFile"]):
        problems.append("ipam.cluster: user and passwordFile go together")
    return problems


def _block_size(value: object, problems: list[str]) -> int:
    if value == "auto":
        return AUTO
    if isinstance(value, int) and 1 <= value <= LARGEST_BLOCK and value.bit_count() == 1:
        return value
    problems.append(f'ipam.blockSize {value!r}: not a power of two from 1 to {LARGEST_BLOCK}, nor "auto"')
    return BLOCK_SIZE


def _pinned(text: str, problems: list[str]) -> list[tuple[int, Interval]]:
    """Return the addresses of an address, a range `first-last` or a CIDR."""
    try:
        if "-" in text:
            first, last = (ipaddress.ip_address(without_zone(part.strip())) for part in text.split("-"))
        else:
            network = ipaddress.ip_network(without_zone(text))
            first, last = network[0], network[-1]
    except ValueError:
        problems.append(f"ipam.pinned {text}: not an address, a range first-last or a CIDR")
        return []
    if first.version != last.version or int(first) > int(last):
        problems.append(f"ipam.pinned {text}: ends before it starts")
        return []
    return [(first.version, (int(first), int(last)))]


def cluster_document(cluster: Cluster) -> dict[str, Any]:
    """Return the form in which a pool's directory keeps it, for calls without a configuration."""
    return {
        "version": 1,
        "engine": cluster.engine._asdict(),
        "blockSize": cluster.block_size,
        "pinned": [[version, *part] for version, part in cluster.pinned],
        "node": cluster.node,
    }


def parse_document(document: Mapping[str, Any]) -> Cluster | None:
    """Return the cluster in a document, None if there is none or it is damaged."""
    try:
        engine = {k: v for k, v in document["engine"].items() if k in EngineConf._fields}
        engine["endpoints"] = tuple(engine["endpoints"])
        pinned = tuple((int(v), (int(first), int(last))) for v, first, last in document["pinned"])
        return Cluster(EngineConf(**engine), int(document["blockSize"]), pinned, str(document["node"]))
    except (AttributeError, KeyError, TypeError, ValueError):
        return None
