"""The routes that this node exports: the prefixes of its L3 networks, in one table. Pure.

The table is the contract with BIRD, FRR or any other routing daemon. Its routes are of type blackhole and of
one protocol number. No rule leads ordinary traffic to the table: the ipvlan driver takes a pod's packets
before the host routes them. What it leaves, a packet to an address that no pod has, would go back to the
router by the default route, and round: so a rule for the parent looks it up here, and it is dropped.
"""

from collections.abc import Iterable
from typing import NamedTuple

from cni_core.family import Family
from cni_core.result import Result
from cni_net.operations import AddBlackhole, AddRule, DeleteBlackhole, DeleteRule, Operation
from cni_vlan.attachment import Export
from cni_vlan.records import AttachmentRecord

RULE_PRIORITY = 177  # before the main table


class Routed(NamedTuple):
    """A prefix in a routing table."""

    prefix: str
    table: int


class Guarded(NamedTuple):
    """A parent whose packets are looked up in a routing table first."""

    family: Family
    parent: str
    table: int


class Exports(NamedTuple):
    """The routes and rules of this node."""

    routes: frozenset[Routed] = frozenset()
    rules: frozenset[Guarded] = frozenset()

    def without(self, others: "Exports") -> "Exports":
        """Return the routes and rules that are not among others."""
        return Exports(self.routes - others.routes, self.rules - others.rules)


def prefixes(export: Export, result: Result) -> tuple[str, ...]:
    """Return the prefixes to export for the addresses of a pod.

    An IPAM plugin that names none may have leased the neighbouring addresses to other nodes: then it is the
    address alone.
    """
    found: list[str] = []
    for ip in result.ips:
        alone = f"{ip.address.partition('/')[0]}/{ip.family.bits}"
        found += [alone] if export.each_pod else ip.prefixes or [alone]
    return tuple(dict.fromkeys(found))


def exported(record: AttachmentRecord, export: Export, result: Result) -> AttachmentRecord:
    """Return the record of a pod that the fabric is to learn of."""
    return record._replace(table=export.table, prefixes=prefixes(export, result))


def wanted(records: Iterable[AttachmentRecord]) -> Exports:
    """Return the routes and rules for some attachments."""
    routes, rules = set(), set()
    for record in records:
        if record.table:
            routes |= {Routed(prefix, record.table) for prefix in record.prefixes}
            families = {Family.of(prefix) for prefix in record.prefixes}
            rules |= {Guarded(family, record.parent, record.table) for family in families}
    return Exports(frozenset(routes), frozenset(rules))


def additions(exports: Exports) -> list[Operation]:
    """Return the operations that add routes and rules."""
    routes = [AddBlackhole(prefix, table) for prefix, table in sorted(exports.routes)]
    return [*routes, *(AddRule(*rule, RULE_PRIORITY) for rule in sorted(exports.rules, key=str))]


def removals(exports: Exports) -> list[DeleteBlackhole | DeleteRule]:
    """Return the operations that remove routes and rules."""
    routes = [DeleteBlackhole(prefix, table) for prefix, table in sorted(exports.routes)]
    return [*routes, *(DeleteRule(*rule, RULE_PRIORITY) for rule in sorted(exports.rules, key=str))]
