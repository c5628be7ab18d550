"""The interface of a cluster's store: small named objects, each changed by compare-and-swap.

All nodes of a cluster share one engine. It decides who holds a block or a pin: creating an object is the
claim, comparing and deleting it is the release. An object is changed alone, never together with another, so
that etcd and the Kubernetes API serve alike.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Protocol

from cni_core.errors import TryAgainLater

Kind = Literal["pool", "block", "pin", "want", "node"]
Fields = Mapping[str, Any]
NOBODY = "0" * 16  # the incarnation that no node has


class EngineAway(TryAgainLater):
    """The engine did not answer, or not in time: a change may have been made or not, so it has to be read."""


class EngineRefused(TryAgainLater):
    """The engine answered that it cannot or may not do this: credentials, quota, a missing resource type."""


class Entry(NamedTuple):
    """One object: its kind, its name, its fields, and the revision of its last change.

    The name of a block, pin or want begins with its pool (see `cni_ipam.blocks`), so that it is unique among
    the objects of its kind. A revision is compared for equality alone.
    """

    kind: Kind
    name: str
    fields: Fields
    revision: str

    @property
    def incarnation(self) -> str:
        """The incarnation of the node that it belongs to, "" if it is damaged."""
        found = self.fields.get("incarnation")
        return found if isinstance(found, str) else ""


class Snapshot(NamedTuple):
    """The objects of a kind at one moment.

    `revision` grows with every change of the engine; one that is lower than before means that the engine was
    restored from a backup. So does another `cluster`, an id that is "" if the engine has none.
    """

    entries: tuple[Entry, ...]
    revision: int
    cluster: str = ""


class Engine(Protocol):
    """A cluster's store. Every method raises EngineAway or EngineRefused; every read is linearizable."""

    def list(self, kind: Kind, pool: str = "") -> Snapshot:
        """Return the objects of a kind: those of one pool, or all."""

    def read(self, kind: Kind, name: str) -> Entry | None:
        """Return an object, None if there is none."""

    def create(self, kind: Kind, name: str, fields: Fields) -> Entry | None:
        """Create an object, whose fields have `pool` unless it is a node; None if the name is taken."""

    def replace(self, entry: Entry, fields: Fields) -> Entry | None:
        """Replace the fields of an object; None if it was changed or deleted since it was read."""

    def delete(self, entry: Entry) -> bool:
        """Delete an object; False if it was changed or deleted since it was read."""

    def nodes(self) -> Mapping[str, str] | None:
        """Return the nodes that an authority beside us knows, each with the proof of its death, "" for none.

        None if the engine has no such authority: then only the objects of kind "node" tell. In Kubernetes the
        authority is the Node objects: the taint node.kubernetes.io/out-of-service is a proof, and so is an
        absent Node. A node that is merely not ready is no proof: its pods may be alive.
        """
