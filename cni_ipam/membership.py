"""Agreeing with the engine on what this node holds: after a boot, and when that may have changed."""

import os
import time
from collections.abc import Mapping

from cni_core.boot import boot_id
from cni_ipam import agreement, blocks
from cni_ipam.agreement import Agreement
from cni_ipam.claims import Claims
from cni_ipam.cluster import AUTO
from cni_ipam.engine import EngineRefused, Kind, Snapshot
from cni_ipam.holdings import Holdings
from cni_ipam.identity import Identity
from cni_ipam.lease import Tenant

_RESTORED_S = 90.0  # for every node to claim its blocks again: three questions of an idle one


def leave(claims: Claims, *, is_last: bool) -> None:
    """Leave the pool, in which nothing is held any more; and the cluster with the last one.

    A node whose other pools have blocks stays: without its object they would be a dead node's.
    """
    me = claims.me()
    claims.want_no_more()
    entry = claims.engine.read("node", me.node) if is_last else None
    if entry is not None and entry.fields.get("incarnation") == me.incarnation:
        claims.engine.delete(entry)
    claims.change(lambda _holdings: Holdings())
    claims.file.forget_cluster()


def publish(claims: Claims, used: Mapping[str, int]) -> bool:
    """Tell the other nodes how full this pool's blocks of this node are; False if it did not take."""
    entry = claims.engine.read("node", claims.me().node)
    if entry is None:
        return False
    known = entry.fields.get("used")
    others = known.items() if isinstance(known, dict) else ()
    rest = {name: n for name, n in others if blocks.pool_of(name) != claims.place.pool}
    merged = rest | dict(used)
    return merged == known or claims.engine.replace(entry, {**entry.fields, "used": merged}) is not None


def confirm(claims: Claims) -> bool:
    """Agree with the engine unless that was done in this boot; return whether it was necessary."""
    if claims.file.read().confirmed == boot_id():
        return False
    settle(claims)
    return True


def is_current(claims: Claims, nodes: Snapshot) -> bool:
    """Return whether nothing of this node's has changed since it and the engine agreed.

    Whoever takes a block from a node removes the node's own object first. So the objects of the nodes
    tell, and an idle node asks for nothing else.
    """
    me = claims.me()
    now, known = nodes, claims.file.read()
    fields = next((entry.fields for entry in nodes.entries if entry.name == me.node), {})
    is_same = (fields.get("incarnation"), fields.get("boot")) == (me.incarnation, boot_id())
    is_later = now.cluster == known.engine and now.revision >= known.revision
    return known.confirmed == boot_id() and is_same and is_later


def settle(claims: Claims) -> Holdings:
    """Agree with the engine on the holdings of this node: after a boot, and when it may have changed.

    Raises EngineRefused if another machine uses this node's name.
    """
    me = claims.me()
    was_known = _register(claims, me)
    before = claims.file.read()
    if before.incarnation not in {"", me.incarnation}:
        claims.warn(f"pool {claims.place.pool}: its blocks on this disk are another machine's, a clone's")
        before = claims.change(lambda _holdings: Holdings())
    snapshot = _own_renewed(claims, "block", me, anew=not was_known)
    pins = _own_renewed(claims, "pin", me, anew=not was_known)
    found = agreement.agree(before, snapshot, pins, me.incarnation, was_known=was_known)
    if not before.is_of_this_boot:
        found = found._replace(pins=agreement.void(found.pins, _now()), missing_pins=())
    for held in found.missing:
        found = found.resolved(held, claims.create(held.block))
    found = _pins_again(claims, me, found)
    if found.missing:  # another node may have pinned an address in them meanwhile
        pins = claims.engine.list("pin", claims.place.pool)
    for text in found.warnings:
        claims.warn(f"pool {claims.place.pool}: {text}")
    size = _size(claims, before)
    is_restored = agreement.is_restored(before, snapshot) or (was_known and bool(found.missing))
    earlier = before.claim_after if before.is_of_this_boot else 0.0
    foreign = tuple(sorted(agreement.foreign(pins, me.incarnation, found.usable)))
    return claims.change(
        lambda now: found.merged(now, before)._replace(
            confirmed=boot_id(),
            incarnation=me.incarnation,
            size=size,
            foreign=foreign,
            engine=snapshot.cluster,
            revision=max(snapshot.revision, pins.revision),
            claim_after=_now() + _RESTORED_S if is_restored else earlier,
        )
    )


def _pins_again(claims: Claims, me: Identity, found: Agreement) -> Agreement:
    """Pin the addresses of this node's pods again that the engine has lost."""
    for pin in found.missing_pins:
        if pin.key is None:
            continue
        tenant = Tenant(pin.key, "", keep_s=pin.keep_s)
        fields = agreement.pin_fields(claims.place.pool, pin.version, pin.number, me, tenant)
        name = blocks.object_name(claims.place.pool, pin.version, pin.number)
        made = claims.engine.create("pin", name, fields)
        found = found.pinned_again(pin, made.revision if made is not None else "")
    return found


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _own_renewed(claims: Claims, kind: Kind, me: Identity, *, anew: bool) -> Snapshot:
    """Return the blocks or pins of the pool; this node's own bear its present name.

    A node that joins `anew` may have been taken for dead. Then its objects are written again, so that whoever
    is about to delete them, at the revisions that it has read, fails.
    """
    snapshot = claims.engine.list(kind, claims.place.pool)
    ours = [entry for entry in snapshot.entries if entry.fields.get("incarnation") == me.incarnation]
    stale = [entry for entry in ours if anew or entry.fields.get("node") != me.node]
    for entry in stale:
        claims.engine.replace(entry, {**entry.fields, "node": me.node, "joined": os.urandom(4).hex()})
    return claims.engine.list(kind, claims.place.pool) if stale else snapshot


def _size(claims: Claims, before: Holdings) -> int:
    """Return the size of the pool's blocks, 0 if nobody has decided on it; a lost object is made again."""
    pool, wanted = claims.place.pool, claims.cluster.block_size
    entry = claims.engine.read("pool", pool)
    if entry is None and before.size:
        claims.engine.create("pool", pool, {"pool": pool, "blockSize": before.size})
        return before.size
    size = agreement.block_size(entry) if entry is not None else 0
    if size and wanted not in {AUTO, size}:
        claims.warn(f"pool {pool}: its blocks have {size} addresses, and are never cut again")
    return size


def _register(claims: Claims, me: Identity) -> bool:
    """Make this node's object in the engine, or find it; return whether it was there."""
    fields = {"node": me.node, "incarnation": me.incarnation, "boot": boot_id(), "machine": me.machine}
    entry = claims.engine.read("node", me.node)
    was_known = entry is not None
    if entry is None:
        entry = claims.engine.create("node", me.node, fields) or claims.engine.read("node", me.node)
    if entry is not None and entry.fields.get("incarnation") != me.incarnation:
        raise EngineRefused(
            f"join the cluster as node {me.node}: another machine has this name",
            f"set ipam.cluster.node; if this machine replaces that one: cni-ipam forget {me.node}",
        )
    if entry is not None and entry.fields.get("boot") != boot_id():
        _check_alone(claims, me)
        claims.engine.replace(entry, {**entry.fields, **fields})
    return was_known


def _check_alone(claims: Claims, me: Identity) -> None:
    """Raise EngineRefused if this node had registered in this boot: another machine has done so since.

    A cloned virtual machine can have the ids of the first. Neither can tell which of them is the copy:
    the one that came first notices, and leases no more.
    """
    contested = f"contested in {boot_id()}"
    if claims.file.read().is_of_this_boot:
        claims.change(lambda now: now._replace(confirmed=contested))
        raise EngineRefused(
            f"hold the blocks of node {me.node}: another machine has the same identity",
            f"one is a copy of the other: remove {claims.place.data_dir}/.node on it, and restart it",
        )
