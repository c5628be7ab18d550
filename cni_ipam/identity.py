"""The identity of this node in a cluster: its name, and an incarnation that no other machine has.

<data directory>/.node    JSON: name, incarnation, a fingerprint of the machine, and the directory

Names are used again: a machine is installed anew, a disk is cloned. Blocks belong to an incarnation, which is
drawn once. A file that came from another machine, with a cloned disk, is not believed; nor is one that was
copied from another directory of this machine.
"""

import contextlib
import hashlib
import json
import os
import socket
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeGuard

from cni_core import statefile
from cni_core.errors import IoFailure
from cni_core.lock import locked

_MACHINE = ("/etc/machine-id", "/sys/class/dmi/id/product_uuid")
_ID_LEAST = 32  # characters


class Identity(NamedTuple):
    """The name and incarnation of a node, the fingerprint of its machine, and its data directory."""

    node: str
    incarnation: str
    machine: str = ""
    directory: str = ""

    def is_of_machine(self, machine: str) -> bool:
        """Return whether a fingerprint is that of this machine, as far as both show one."""
        pairs = list(zip(self.machine.split(":"), machine.split(":"), strict=False))
        return any(a and a == b for a, b in pairs) and _is_same(self.machine, machine)


def is_copy(document: Mapping[str, Any], data_dir: str) -> bool:
    """Return whether a file is the copy of one in another directory of this machine, which is still there.

    A directory that was moved, or has two names, is no copy.
    """
    written = str(document.get("directory") or data_dir)
    if written == data_dir or not os.path.exists(f"{written}/.node"):
        return False
    try:
        return not os.path.samefile(written, data_dir)
    except OSError:
        return False


def identity(data_dir: str, name: str = "") -> Identity:
    """Return this node's identity, which is drawn at the first call; raises IoFailure.

    `name` is the configured name; without one, the name that the agent was given, else the host name. A node
    that is renamed stays the same: blocks belong to its incarnation.
    """
    path = os.path.join(data_dir, ".node")
    machine = _fingerprint()
    known = _read(path, data_dir)
    if _is_it(known, name, machine):
        return known
    with locked(os.path.join(data_dir, ".node.lock")):
        known = _read(path, data_dir)
        if not _is_it(known, name, machine):
            known = _drawn(known, name, machine)._replace(directory=data_dir)
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


def _read(path: str, data_dir: str) -> Identity | None:
    """Return the identity in a file; None if it is absent or a copy, raises IoFailure if it is damaged.

    A damaged one is left as it is: a node that drew another would have none of its blocks.
    """
    document = statefile.read_json(path)
    if document is None and not os.path.lexists(path):
        return None
    document = document or {}
    fields = [document.get(name, "") for name in Identity._fields]
    texts = [field for field in fields if isinstance(field, str)]
    if len(texts) < len(fields) or not texts[1]:
        raise IoFailure(
            f"read {path}: this node's identity in it is damaged",
            "restore the file; or remove it: then this node is another one, and cni-ipam forget has to free"
            " what it held",
        )
    return None if is_copy(document, data_dir) else Identity(*texts)


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
