"""The exported routes as operators want to see them. Changes nothing."""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from cni_core.family import Family
from cni_net.observed import HostAddress, Link, TableRoute
from cni_net.operations import EXPORT_PROTOCOL
from cni_net.rtnl import Rtnl
from cni_vlan import daemons
from cni_vlan.node import NodeState
from cni_vlan.records import AttachmentRecord

_GLOBAL = 0  # the scope of an address that others can route to


class ExportedRoute(NamedTuple):
    """A prefix of this node: its pods, whether it is in its table, the next hops, the daemons that have it.

    A router reaches it by an address of the parent, or of another link if the pods have host access.
    """

    prefix: str
    table: int
    parent: str
    pods: int
    is_there: bool
    next_hops: tuple[str, ...]
    by_host: bool
    daemons: tuple[str, ...]


class Foreign(NamedTuple):
    """A route in an export table that is not ours; daemons that read the table announce it too."""

    prefix: str
    table: int


def exported(rtnl: Rtnl, node: NodeState) -> list[ExportedRoute]:
    """Return every prefix that the records want in a table."""
    found: dict[tuple[str, int], list[AttachmentRecord]] = {}
    for record in node.attachments:
        for prefix in record.prefixes if record.table else ():
            found.setdefault((prefix, record.table), []).append(record)
    tables = {table for _prefix, table in found}
    there = {(r.prefix, r.table) for r in _routes(rtnl, tables) if r.protocol == EXPORT_PROTOCOL}
    addresses = rtnl.host_addresses() if found else []
    return [
        _route(key, records, key in there, node.links, addresses) for key, records in sorted(found.items())
    ]


def _routes(rtnl: Rtnl, tables: Iterable[int]) -> Iterator[TableRoute]:
    for table in tables:
        yield from rtnl.table(table)


def _route(
    key: tuple[str, int],
    records: list[AttachmentRecord],
    is_there: bool,  # noqa: FBT001 - as above
    links: Mapping[str, Link],
    addresses: list[HostAddress],
) -> ExportedRoute:
    prefix, table = key
    parent = records[0].parent
    link = links.get(parent)
    own = [a.ip for a in addresses if link is not None and a.ifindex == link.ifindex and a.scope == _GLOBAL]
    hops = tuple(ip for ip in own if Family.of(ip) is Family.of(prefix))
    by_host = any(record.shim for record in records)
    return ExportedRoute(
        prefix, table, parent, len(records), is_there, hops, by_host, tuple(daemons.holders(prefix))
    )


def foreign(rtnl: Rtnl, routes: Iterable[ExportedRoute]) -> list[Foreign]:
    """Return the routes of others in the tables of some exported routes."""
    tables = sorted({route.table for route in routes})
    return [Foreign(r.prefix, r.table) for r in _routes(rtnl, tables) if r.protocol != EXPORT_PROTOCOL]
