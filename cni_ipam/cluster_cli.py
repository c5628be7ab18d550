"""The commands of cni-ipam for pools that many nodes share: blocks, join, drain, forget."""

import contextlib
import ipaddress
import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TextIO

import click

from cni_core import libcni
from cni_core.call import Call
from cni_core.errors import DecodingFailure
from cni_ipam import config, estate, joining, membership, objects
from cni_ipam.block_store import BlockStore
from cni_ipam.cli import data_dir_option, failures, json_option, table, tool, with_ipam
from cni_ipam.engine import Engine, Entry
from cni_ipam.holdings import HoldingsFile, State
from cni_ipam.place import Place
from cni_ipam.poolfile import pools
from cni_ipam.whereabouts import allocations


class Shown(NamedTuple):
    """One row: a block, a pinned address or a want, as the engine has it."""

    pool: str
    kind: str
    address: str
    node: str
    used: str
    owner: str
    since: str
    here: str

    @property
    def order(self) -> tuple[str, int, int, int]:
        """The sort key: by pool and address."""
        if not self.address:
            return self.pool, 9, 0, 0
        network = ipaddress.ip_interface(self.address)
        return self.pool, network.version, int(network.ip), len(self.kind)


def _stores(data_dir: str, wanted: str | None) -> Iterator[BlockStore]:
    """Yield the store of each shared pool of this node, or of one."""
    found = False
    for name in pools(data_dir):
        place = Place(name, data_dir)
        cluster = HoldingsFile(place).cluster()
        if cluster is not None and wanted in {None, name}:
            found = True
            yield BlockStore(place, cluster, lambda text: click.echo(f"warning: {text}", err=True))
    if not found:
        named = f"pool {wanted} is not" if wanted else "no pool of this node is"
        raise click.ClickException(f"{named} shared with other nodes: ipam.cluster was never used here")


@tool.command("blocks")
@click.argument("pool", required=False)
@json_option
@data_dir_option
def blocks_command(pool: str | None, *, as_json: bool, data_dir: str) -> None:
    """Show which node holds which block and pinned address, and which addresses are declined.

    Nobody leases a declined address: OWNER answers for it on the wire. A node that is gone has left its
    blocks behind, which are taken from it.

    USED is what the node last reported. HERE is the state of a block of this node.
    """
    with failures():
        rows = sorted(
            (row for store in _stores(data_dir, pool) for row in _rows(store)), key=lambda r: r.order
        )
    if as_json:
        click.echo(json.dumps([row._asdict() for row in rows], indent=2))
        return
    header = ("POOL", "KIND", "ADDRESS", "NODE", "USED", "OWNER", "SINCE", "HERE")
    table(header, [[cell or "-" for cell in row] for row in rows])


def _rows(store: BlockStore) -> Iterator[Shown]:
    engine, pool = store.claims().engine, store.place.pool
    holdings = store.holdings.read()
    here = {held.block: held.state.value for held in holdings.blocks}
    nodes = engine.list("node").entries
    used = {name: count for node in nodes for name, count in objects.used_of(node).items()}
    joined = {node.fields.get("incarnation") for node in nodes}
    for entry in engine.list("block", pool).entries:
        block = objects.block_of(entry)
        if block is not None:
            count = used.get(entry.name)
            shown = "-" if count is None else f"{count}/{block.size}"
            row = _row(entry, "block", block.prefix, shown, here.get(block, ""))
            is_left = entry.fields.get("incarnation") not in joined
            yield row._replace(node=f"{row.node} (gone)") if is_left else row
    for entry in engine.list("pin", pool).entries:
        if objects.pinned(entry) is not None:
            kind = "declined" if objects.is_declined(entry) else "pin"
            yield _row(entry, kind, str(entry.fields["address"]))
    for entry in engine.list("want", pool).entries:
        yield _row(entry, "want", "")


def _row(entry: Entry, kind: str, address: str, used: str = "", here: str = "") -> Shown:
    def text(name: str) -> str:
        return str(entry.fields.get(name) or "")

    owner = text("owner") or text("container")[:13]
    if kind == "pin" and not text("container"):
        owner = f"{owner} (kept)"
    return Shown(
        text("pool"), kind, address, text("node"), used, owner, text("since") or text("released"), here
    )


@tool.command("join")
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option(
    "--whereabouts",
    type=click.File(),
    help="IPPools of whereabouts to take over: the output of kubectl get ippools -o json.",
)
def join_command(file: str, whereabouts: TextIO | None) -> None:
    """Keep the addresses of running pods when a network joins a cluster.

    Run it on every node before the network's new configuration is installed on any: each address is kept for
    its pod, and no node leases it to another. With --whereabouts, this node takes over the leases of its own
    containers.
    """
    with failures():
        conf = with_ipam(file)
        request = config.parse(Call("ADD", conf), lambda text: click.echo(f"warning: {text}", err=True))
        if request.cluster is None:
            raise click.ClickException(f"{file}: the network has no ipam.cluster")
        store = BlockStore(request.place, request.cluster)
        given = allocations(_document(whereabouts)) if whereabouts is not None else []
        with _as_before_on_failure(HoldingsFile(request.place)) as holdings:
            holdings.record_cluster(request.cluster)
            found = joining.lease_allocations(
                store,
                conf["name"],
                given,
                request.range_sets,
                lambda key: libcni.sandbox_of(conf["name"], *key) is not None,
            )
            pinned = joining.pin_leases(store, request.range_sets)
    for text in (*found.conflicts, *pinned.conflicts):
        click.echo(f"conflict: {text}", err=True)
    click.echo(
        f"pinned {len(pinned.pinned)} addresses; {len(pinned.present)} were this node's already,"
        f" {len(found.elsewhere)} are of other nodes"
    )
    if found.conflicts or pinned.conflicts:
        raise click.ClickException(f"{len(found.conflicts) + len(pinned.conflicts)} conflicts")


def _document(file: TextIO) -> object:
    try:
        return json.load(file)
    except (ValueError, RecursionError) as error:
        raise DecodingFailure(f"read {file.name}: not JSON: {error}") from error


@contextlib.contextmanager
def _as_before_on_failure(file: HoldingsFile) -> Iterator[HoldingsFile]:
    """Leave the pool this node's own if nothing of it was pinned: its pods shall come and go as before."""
    was_shared = file.cluster() is not None
    try:
        yield file
    except BaseException:
        if not was_shared and not file.read().pins:
            file.forget_cluster()
        raise


@tool.command("drain")
@click.argument("pool", required=False)
@data_dir_option
def drain_command(pool: str | None, data_dir: str) -> None:
    """Give the blocks of this node back.

    Empty ones now, the others when their last pod has gone.

    When all of a pool is given back, this node leaves the cluster, until its next pod comes.
    """
    with failures():
        for store in _stores(data_dir, pool):
            for line in _drain(store):
                click.echo(line)


def _drain(store: BlockStore) -> Iterator[str]:
    claims, pool = store.claims(), store.place.pool
    with claims.alone():
        membership.settle(claims)  # it may be the last time that this node looks
        claims.drain()
        blocks = store.holdings.read().blocks
        for held in blocks:
            if held.state is State.LOST and not store.used(held.block):
                claims.forget(held.block)
    for block in claims.give_back([held.block for held in blocks], store.is_empty):
        yield f"{pool}: gave {block.prefix} back"
    with claims.alone():
        rest = store.holdings.read()
        if not rest.blocks and not rest.pins:
            membership.leave(claims, is_last=not _other_pools(store.place))
            yield f"{pool}: this node has left it"
    for held in rest.blocks:
        count = store.used(held.block)
        leases = "1 lease" if count == 1 else f"{count} leases"
        yield f"{pool}: {held.block.prefix} has {leases}, and is given back after the last"
    for pin in rest.pins:
        yield f"{pool}: a pinned address is kept for {pin.key.text if pin.key else 'its owner'}"


def _other_pools(place: Place) -> list[str]:
    """Return the other pools in which this node may hold something."""
    others = (place._replace(pool=name) for name in pools(place.data_dir) if name != place.pool)
    return [other.pool for other in others if HoldingsFile(other).cluster() is not None]


@tool.command("forget")
@click.argument("node")
@click.option("--pool", help="Pool by whose store the cluster is reached [default: any of this node].")
@click.option(
    "--now",
    is_flag=True,
    help="Free its blocks at once, without probing their addresses. The node has to be switched off.",
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@data_dir_option
def forget_command(node: str, pool: str | None, *, now: bool, yes: bool, data_dir: str) -> None:
    """Declare NODE dead, so that other nodes may take its blocks.

    They do so after ten minutes, and only if no address of a block answers on the wire. A node that is
    merely cut off, and comes back before that, joins again and keeps its blocks. With the name of this node,
    earlier machines of that name are meant.
    """
    with failures():
        store = next(_stores(data_dir, pool))
        claims = store.claims()
        engine = claims.engine
        entry = engine.read("node", node)
        is_here = entry is not None and objects.is_of(entry, claims.me().incarnation)
        nodes = engine.list("node").entries
        left = estate.left_behind(node, estate.held(engine), nodes)
        if is_here and not left:
            raise click.ClickException(f"{node} is this node: cni-ipam drain gives its blocks back")
        if entry is None and not left:
            raise click.ClickException(f"{node} is not a node of the cluster: {_nodes(nodes)}")
        if not yes:
            what = f"Is every earlier machine {node}" if is_here else f"Is {node}"
            click.confirm(f"{what} switched off for good?", abort=True)
        if entry is not None and not is_here:
            left.add(str(entry.fields.get("incarnation")))
            estate.remove_node(engine, entry)
        taken = _take(engine, left) if now else []
    if now:
        click.echo(f"{node} is forgotten, and {len(taken)} blocks and pinned addresses are free")
    else:
        click.echo(
            f"{node} is forgotten: its blocks are free in ten minutes, if no address of them answers;"
            " with --now, at once"
        )


def _take(engine: Engine, incarnations: set[str]) -> list[Entry]:
    everything = estate.held(engine)
    found = [entry for each in sorted(incarnations) for entry in estate.take(engine, each, everything)]
    return [entry for entry in found if entry.kind != "want"]


def _nodes(entries: Sequence[Entry]) -> str:
    return (
        "the nodes are " + ", ".join(sorted(entry.name for entry in entries)) if entries else "there are none"
    )
