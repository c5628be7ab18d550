"""The pods of this node, as the tasks of shared pools see them: from their records."""

import ipaddress
from collections.abc import Mapping

from cni_agent.strangers import At
from cni_ipam.place import place_of
from cni_vlan.ledger import Ledger
from cni_vlan.records import AttachmentRecord


def on_layer2(pool: str) -> Mapping[str, set[At]]:
    """Return the parents on whose layer 2 a pool's pods are, with the addresses of all pods there."""
    ledger = Ledger()
    found = {}
    for parent in ledger.parents():
        records = [record for record in ledger.attachments(parent) if not _is_routed(record)]
        if any(_is_of(record, pool) for record in records):
            found[parent] = {at for record in records for at in _addresses(record)}
    return found


def _is_of(record: AttachmentRecord, pool: str) -> bool:
    place = place_of(record.conf, record.network)
    return place is not None and place.pool == pool


def _is_routed(record: AttachmentRecord) -> bool:
    return str(record.conf.get("mode") or record.conf.get("ipvlan_mode") or "").startswith("l3")


def _addresses(record: AttachmentRecord) -> set[At]:
    found = map(ipaddress.ip_interface, record.addresses)
    return {(each.version, int(each.ip)) for each in found}
