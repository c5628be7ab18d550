"""The holdings of nodes in an engine, and how they are taken from those that are gone.

First the node's own object is deleted: by this it learns of its loss, should it return.
"""

from collections.abc import Iterable, Sequence

from cni_ipam import objects
from cni_ipam.engine import Engine, EngineRefused, Entry, Kind

_KINDS: tuple[Kind, ...] = ("block", "pin", "want")
_TRIES = 16  # a node that lives tells now and then how full it is


def held(engine: Engine, pool: str = "") -> list[Entry]:
    """Return all blocks, pins and wants of a pool, or of all."""
    return [entry for kind in _KINDS for entry in engine.list(kind, pool).entries]


def remove_node(engine: Engine, entry: Entry) -> None:
    """Delete the object of a node; raises EngineRefused if it is written again all the time."""
    incarnation = entry.incarnation
    for _try in range(_TRIES):
        if engine.delete(entry):
            return
        found = engine.read("node", entry.name)
        if found is None or not objects.is_of(found, incarnation):
            return
        entry = found
    raise EngineRefused(f"forget node {entry.name}: it is alive, and writes its object again and again")


def take(engine: Engine, incarnation: str, objects_of_all: Sequence[Entry]) -> list[Entry]:
    """Delete the node of an incarnation, and then those objects that are its; return them."""
    for entry in engine.list("node").entries:
        if objects.is_of(entry, incarnation):
            remove_node(engine, entry)
    theirs = [entry for entry in objects_of_all if objects.is_of(entry, incarnation)]
    return [entry for entry in theirs if engine.delete(entry)]


def left_behind(name: str, everything: Iterable[Entry], nodes: Iterable[Entry]) -> set[str]:
    """Return the incarnations that bore a name and have left the cluster, but not what they held."""
    joined = {entry.incarnation for entry in nodes}
    theirs = (e for e in everything if e.fields.get("node") == name and not objects.is_declined(e))
    return {entry.incarnation for entry in theirs} - joined - {""}
