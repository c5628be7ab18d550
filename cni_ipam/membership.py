"""Agreeing with the engine on what this node holds: after a boot, and when that may have changed."""

import os
import time
from collections.abc import Collection, Mapping, Sequence

from cni_core.boot import boot_id
from cni_core.call import AttachmentKey
from cni_core.errors import TryAgainLater
from cni_ipam import agreement, blocks, objects
from cni_ipam.agreement import Agreement
from cni_ipam.claims import Claims
from cni_ipam.cluster import AUTO
from cni_ipam.disk_store import DiskStore
from cni_ipam.engine import Engine, EngineRefused, Entry, Fields, Kind, Snapshot
from cni_ipam.holdings import HeldPin, Holdings
from cni_ipam.identity import Identity
from cni_ipam.lease import Tenant, timestamp
from cni_ipam.overlaps import overlaps
from cni_ipam.poolfile import PoolFile
from cni_ipam.ranges import Network

_TRIES = 16  # other processes of this node change its object too
_RESTORED_S = 90.0  # for every node to claim its blocks again: three questions of an idle one


def leave(claims: Claims, *, is_last: bool) -> None:
    """Leave the pool, in which nothing is held any more; and the cluster with the last one.

    A node whose other pools have blocks stays: without its object they would be a dead node's.
    """
    me, pool = claims.me(), claims.place.pool
    claims.want_no_more()
    entry = claims.engine.read("node", me.node)
    if entry is not None and objects.is_of(entry, me.incarnation):
        if is_last:
            claims.engine.delete(entry)
        else:
            used = {name: n for name, n in objects.used_of(entry).items() if blocks.pool_of(name) != pool}
            left = [other for other in objects.pools_of(entry) or () if other != pool]
            claims.engine.replace(entry, {**entry.fields, "used": used, "pools": left})
    claims.change(lambda now: Holdings(incarnation=me.incarnation, engine=now.engine, revision=now.revision))
    claims.file.forget_cluster()


def publish(engine: Engine, node: Entry, used: Mapping[str, int], pools: Collection[str]) -> bool:
    """Tell the other nodes how full this node's blocks of some pools are; False if it did not take.

    `node` is this node's object.
    """
    known = objects.used_of(node)
    rest = {name: n for name, n in known.items() if blocks.pool_of(name) not in pools}
    merged = rest | dict(used)
    return merged == known or engine.replace(node, {**node.fields, "used": merged}) is not None


def confirm(claims: Claims) -> bool:
    """Agree with the engine unless that was done in this boot; return whether it was necessary."""
    known = claims.file.read()
    is_own = known.incarnation == claims.me().incarnation
    if known.confirmed == boot_id() and is_own and not claims.is_unsure():
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
    is_agreed = known.confirmed == boot_id() and not known.is_contested and not claims.is_unsure()
    return is_agreed and is_same and is_later


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
    found = agreement.agree(
        before, snapshot, pins, me.incarnation, was_known=was_known, is_unsure=claims.is_unsure()
    )
    for entry in found.surplus:
        claims.engine.delete(entry)
        claims.warn(f"pool {claims.place.pool}: {entry.name} is given back: a backup had it as this node's")
    if not before.is_of_this_boot:
        leases = DiskStore(claims.place)
        kept = agreement.void(found.pins, _now(), lambda key: leases.lease_of(key) is not None)
        found = found._replace(pins=kept, missing_pins=())
    for held in found.missing:
        found = found.resolved(held, claims.create(held.block))
    found = _pins_again(claims, me, found)
    if found.missing:  # another node may have pinned an address in them meanwhile
        pins = claims.engine.list("pin", claims.place.pool)
    for text in found.warnings:
        claims.warn(f"pool {claims.place.pool}: {text}")
    pool = _pool(claims, before, snapshot.cluster)
    has_no_id = not snapshot.cluster  # so the nodes that join now cannot see that it was restored
    if pool is not None and found.is_restored and has_no_id:
        claims.engine.replace(pool, objects.restored_fields(pool))
    earlier = before.claim_after if before.is_of_this_boot else 0.0
    # A node that agrees again and again, as about a block that it lost, waits once.
    is_unknown = not before.engine and not earlier
    is_news = pool is not None and is_unknown and objects.is_of_another_engine(pool, snapshot.cluster)
    foreign = tuple(sorted(agreement.foreign(pins, me.incarnation, found.usable)))
    after = claims.change(
        lambda now: found.merged(now, before)._replace(
            confirmed=boot_id(),
            incarnation=me.incarnation,
            size=objects.block_size(pool) if pool is not None else 0,
            foreign=foreign,
            engine=snapshot.cluster,
            revision=max(snapshot.revision, pins.revision),
            claim_after=_now() + _RESTORED_S if found.is_restored or is_news else earlier,
        )
    )
    claims.forget_mark()
    return after


def _pins_again(claims: Claims, me: Identity, found: Agreement) -> Agreement:
    """Pin the addresses again that the engine has lost: of this node's pods, and those kept for an owner."""
    for pin in found.missing_pins:
        is_kept = pin.key is not None or pin.until > _now()
        if not is_kept or claims.file.read().pin(*pin.at) is None:  # a DEL was faster
            continue
        fields = _fields_of(claims, me, pin)
        made = claims.engine.create("pin", blocks.object_name(claims.place.pool, *pin.at), fields)
        found = found.pinned_again(pin, made.revision if made is not None else "")
    return found


def _fields_of(claims: Claims, me: Identity, pin: HeldPin) -> Fields:
    """Return the fields of the object of a pin that this node has."""
    tenant = Tenant(pin.key or AttachmentKey("", ""), "", owner=pin.owner, keep_s=pin.keep_s)
    fields = objects.pin_fields(claims.place.pool, *pin.at, me, tenant)
    return fields if pin.key is not None else {**fields, "released": timestamp()}


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _own_renewed(claims: Claims, kind: Kind, me: Identity, *, anew: bool) -> Snapshot:
    """Return the blocks or pins of the pool; this node's own bear its present name.

    A node that joins `anew` may have been taken for dead. Then its objects are written again, so that whoever
    is about to delete them, at the revisions that it has read, fails.
    """
    snapshot = claims.engine.list(kind, claims.place.pool)
    ours = [entry for entry in snapshot.entries if objects.is_of(entry, me.incarnation)]
    stale = [entry for entry in ours if anew or entry.fields.get("node") != me.node]
    for entry in stale:
        claims.engine.replace(entry, {**entry.fields, "node": me.node, "joined": os.urandom(4).hex()})
    return claims.engine.list(kind, claims.place.pool) if stale else snapshot


def _pool(claims: Claims, before: Holdings, engine: str) -> Entry | None:
    """Return the pool's object, None if nobody has decided on a size; a lost one is made again."""
    pool, wanted = claims.place.pool, claims.cluster.block_size
    known = claims.engine.list("pool").entries
    for text in overlaps(claims.engine, claims.place, known):
        claims.warn(text)
    entry = next((each for each in known if each.name == pool), None)
    subnets = PoolFile(claims.place).subnets()
    if entry is None and before.size:
        fields = objects.pool_fields(pool, before.size, engine, subnets)
        entry = claims.engine.create("pool", pool, fields) or claims.engine.read("pool", pool)
    if entry is not None:
        _name_subnets(claims, entry, subnets)
    if entry is not None and wanted not in {AUTO, objects.block_size(entry)}:
        size = objects.block_size(entry)
        claims.warn(f"pool {pool}: its blocks have {size} addresses, and are never cut again")
    return entry


def _name_subnets(claims: Claims, pool: Entry, subnets: Sequence[Network]) -> None:
    """Have the pool's object name all of its subnets, so that other pools are told of an overlap."""
    named = set(objects.subnets_of(pool))
    if not named.issuperset(subnets):
        texts = [str(each) for each in (*named, *subnets)]
        claims.engine.replace(pool, {**pool.fields, "subnets": sorted(set(texts))})


def _register(claims: Claims, me: Identity) -> bool:
    """Make this node's object in the engine, or find it; return whether it was there, with this pool."""
    pool = claims.place.pool
    fields = {"node": me.node, "incarnation": me.incarnation, "boot": boot_id(), "machine": me.machine}
    for _try in range(_TRIES):
        entry = claims.engine.read("node", me.node)
        if entry is None:
            if claims.engine.create("node", me.node, {**fields, "pools": [pool]}) is not None:
                _drop_other_names(claims, me)
                return False
            continue
        if not objects.is_of(entry, me.incarnation):
            raise _taken(me, entry)
        is_of_boot = entry.fields.get("boot") == boot_id()
        if not is_of_boot:
            _check_alone(claims, me)
        pools = objects.pools_of(entry)
        is_known = pools is None or pool in pools
        if is_of_boot and is_known:
            return True
        now = {**entry.fields, **fields, "pools": sorted({*(pools or ()), pool})}
        if claims.engine.replace(entry, now) is not None:
            return is_known
    raise TryAgainLater(f"join the cluster as node {me.node}: its object changes too fast")


def _taken(me: Identity, entry: Entry) -> EngineRefused:
    """Return the error for a name that another incarnation has."""
    is_here = me.is_of_machine(str(entry.fields.get("machine"))) and entry.fields.get("boot") == boot_id()
    if is_here:
        return EngineRefused(
            f"join the cluster as node {me.node}: this machine has joined with another dataDir",
            f"the networks of a node that share pools have one dataDir; not {me.directory} beside another;"
            f" if the file .node in it was lost: cni-ipam forget {me.node}",
        )
    return EngineRefused(
        f"join the cluster as node {me.node}: another machine has this name",
        f"set ipam.cluster.node; if this machine replaces that one: cni-ipam forget {me.node}",
    )


def _drop_other_names(claims: Claims, me: Identity) -> None:
    """Remove the objects of former names of this node, now that it has joined under its present one."""
    for entry in claims.engine.list("node").entries:
        if objects.is_of(entry, me.incarnation) and entry.name != me.node:
            claims.engine.delete(entry)


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
