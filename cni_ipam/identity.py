"""The identity of this node in a cluster: its name, and an incarnation that no other machine has.

<data directory>/.node    JSON: name, incarnation, and a fingerprint of the machine

Names are used again: a machine is installed anew, a disk is cloned. Blocks belong to an incarnation, which is
drawn once. A file that came from another machine, with a cloned disk, is not believed.
"""

import contextlib
import hashlib
import json
import os
import socket
from typing import NamedTuple, TypeGuard

from cni_core import statefile
from cni_core.errors import IoFailure
from cni_core.lock import locked

_MACHINE = ("/etc/machine-id", "/sys/class/dmi/id/product_uuid")
_ID_LEAST = 32  # characters


class Identity(NamedTuple):
    """The name and incarnation of a node, and the fingerprint of its machine."""

    node: str
    incarnation: str
    machine: str = ""


def identity(data_dir: str, name: str = "") -> Identity:
    """Return this node's identity, which is drawn at the first call; raises IoFailure.

    `name` is the configured name; without one, the name that the agent was given, else the host name. A node
    that is renamed stays the same: blocks belong to its incarnation.
    """
    path = os.path.join(data_dir, ".node")
    machine = _fingerprint()
    known = _read(path)
    if _is_it(known, name, machine):
        return known
    statefile.make_directory(data_dir)
    with locked(os.path.join(data_dir, ".node.lock")):
        known = _read(path)
        if not _is_it(known, name, machine):
            known = _drawn(known, name, machine)
            text = json.dumps({"version": 1, **known._asdict()}) + "\n"
            statefile.write_file(path, text, durable=True, temporary=f"{path}.new")
        return known


def _is_it(known: Identity | None, name: str, machine: str) -> TypeGuard[Identity]:
    return known is not None and _is_same(known.machine, machine) and name in {"", known.node}


def _drawn(known: Identity | None, name: str, machine: str) -> Identity:
    """Return a new identity: with the known incarnation if only the name has changed."""
    if known is not None and _is_same(known.machine, machine):
        return known._replace(node=name)
    return Identity(name or socket.gethostname(), os.urandom(8).hex(), machine)


def _read(path: str) -> Identity | None:
    document = statefile.read_json(path) or {}
    fields = [document.get(name) for name in Identity._fields]
    texts = [field for field in fields if isinstance(field, str)]
    return Identity(*texts) if len(texts) == len(fields) and texts[1] else None


def _fingerprint() -> str:
    """Return short hashes of the ids of this machine, "" for each that it does not show."""
    return ":".join(_hash(path) for path in _MACHINE)


def _hash(path: str) -> str:
    with contextlib.suppress(IoFailure):
        text = (statefile.read_file(path) or "").strip()
        if len(text) >= _ID_LEAST:  # systemd's file may say "uninitialized"
            return hashlib.sha256(text.encode()).hexdigest()[:12]
    return ""


def _is_same(one: str, other: str) -> bool:
    """Return whether two fingerprints may be of one machine: a container shows fewer ids than its host."""
    pairs = zip(one.split(":"), other.split(":"), strict=False)
    return all(a == b or not a or not b for a, b in pairs)
