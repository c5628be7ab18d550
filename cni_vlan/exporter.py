"""Keeping the routes that the fabric learns as the records of the attachments want them.

One process of the node changes them at a time, under a lock of their own, which is taken last.
"""

from collections.abc import Iterator

from cni_core import run_directory
from cni_core.lock import locked
from cni_net.operations import EXPORT_PROTOCOL
from cni_net.rtnl import Rtnl
from cni_vlan import exports
from cni_vlan.attachment import EXPORT_TABLE
from cni_vlan.exports import Exports, Guarded, Routed
from cni_vlan.ledger import Ledger
from cni_vlan.records import AttachmentRecord


def publish(rtnl: Rtnl, record: AttachmentRecord) -> None:
    """Add the routes of an attachment that is recorded, before its ADD answers."""
    with locked(run_directory.EXPORT_LOCK):
        rtnl.add_missing(exports.additions(exports.wanted([record])))


def withdraw(rtnl: Rtnl, ledger: Ledger, record: AttachmentRecord) -> None:
    """Remove the routes that only one attachment wanted, before its addresses are released."""
    with locked(run_directory.EXPORT_LOCK):
        others = exports.wanted(other for other in recorded(ledger) if other.key != record.key)
        rtnl.remove(exports.removals(exports.wanted([record]).without(others)))


def reconcile(rtnl: Rtnl, ledger: Ledger) -> bool:
    """Add what is missing and remove what is too much; return whether anything is exported.

    A route of another protocol in the table is somebody else's.
    """
    with locked(run_directory.EXPORT_LOCK):
        wanted = exports.wanted(recorded(ledger))
        present = observed(rtnl, {EXPORT_TABLE, *(route.table for route in wanted.routes)})
        rtnl.add_missing(exports.additions(wanted.without(present)))
        rtnl.remove(exports.removals(present.without(wanted)))
    return bool(wanted.routes)


def withdraw_all(rtnl: Rtnl, ledger: Ledger) -> None:
    """Remove every route and rule of ours."""
    with locked(run_directory.EXPORT_LOCK):
        tables = {record.table for record in recorded(ledger) if record.table}
        rtnl.remove(exports.removals(observed(rtnl, {EXPORT_TABLE, *tables})))


def recorded(ledger: Ledger) -> Iterator[AttachmentRecord]:
    """Yield the record of every attachment of this node."""
    for parent in ledger.parents():
        yield from ledger.attachments(parent)


def observed(rtnl: Rtnl, tables: set[int]) -> Exports:
    """Return the routes and rules of ours in some tables."""
    routes = [route for table in sorted(tables) for route in rtnl.table(table)]
    rules = [rule for rule in rtnl.rules() if rule.protocol == EXPORT_PROTOCOL]
    return Exports(
        frozenset(Routed(r.prefix, r.table) for r in routes if r.protocol == EXPORT_PROTOCOL),
        frozenset(Guarded(rule.family, rule.parent, rule.table) for rule in rules),
    )
