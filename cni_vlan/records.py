"""The records of a node's attachments and parents, as values; and their form as JSON documents. Pure.

A document is read by the names of its fields, each with a default, so that every release can read the
documents of every other. Fields are added, never renamed; `version` counts the additions:

    1   network, parent, mac, pod of an attachment; link, uplink, claim of a parent
    2   the sandbox, configuration and result of an attachment; the VLAN or isolated network of a parent
    3   the shim through which the host reaches an attachment
    4   the table and the prefixes that the fabric learns
"""

import ipaddress
from collections.abc import Mapping
from typing import Any, NamedTuple

from cni_core.call import AttachmentKey, PodId
from cni_core.document import section
from cni_vlan.attachment import Claim

VERSION = 4
CREATING, OURS, FOUND = "creating", "ours", "found"
Document = Mapping[str, Any]


class AttachmentRecord(NamedTuple):
    """One interface of one pod.

    `mac` is the requested MAC address, "" for none. `conf` is the configuration of the ADD, without the keys
    that only an ADD reads; `result` is the result of the ADD, in the latest CNI version. Both are empty in a
    record of version 1; `result` is empty until the ADD is over. `shim` is the name of the shim, "" without
    host access. `prefixes` are exported in the routing table `table`, 0 for none.
    """

    key: AttachmentKey
    network: str
    parent: str
    mac: str = ""
    pod: PodId = PodId()
    sandbox: str = ""
    conf: Document = {}  # noqa: RUF012 - never changed
    result: Document = {}  # noqa: RUF012 - never changed
    shim: str = ""
    table: int = 0
    prefixes: tuple[str, ...] = ()

    @property
    def addresses(self) -> tuple[str, ...]:
        """The pod's addresses on this interface, which is the last of the result, in CIDR form."""
        items, interfaces = self.result.get("ips"), self.result.get("interfaces")
        given = items if isinstance(items, list) else []
        last = len(interfaces) - 1 if isinstance(interfaces, list) else 0
        own = (item for item in given if section(item, "interface") in {None, last})
        return tuple(text for item in own if _is_address(text := str(section(item, "address"))))

    @property
    def child_mac(self) -> str:
        """The MAC address of the pod's interface, "" if unknown."""
        items = self.result.get("interfaces")
        given = items if isinstance(items, list) else []
        return next((str(section(item, "mac")) for item in reversed(given) if section(item, "mac")), "")


class ParentRecord(NamedTuple):
    """The origin of a parent's link (CREATING until it is marked as ours), and the use of the parent.

    `vlan_id` and `protocol` are those of a VLAN on `uplink`, `network` is that of an isolated parent. They
    are empty in a record of version 1, and for an existing interface.
    """

    name: str
    link: str
    uplink: str = ""
    claim: Claim | None = None
    vlan_id: int = 0
    protocol: str = ""
    network: str = ""


def attachment_document(record: AttachmentRecord, boot: str) -> dict[str, Any]:
    """Return the document of an attachment."""
    return {
        "version": VERSION,
        "boot": boot,
        "key": record.key.text,
        "network": record.network,
        "parent": record.parent,
        "mac": record.mac,
        "pod": record.pod.label,
        "podUid": record.pod.uid,
        "sandbox": record.sandbox,
        "conf": record.conf,
        "result": record.result,
        "shim": record.shim,
        "table": record.table,
        "prefixes": list(record.prefixes),
    }


def parse_attachment(document: Document, boot: str) -> AttachmentRecord | None:
    """Return the attachment in a document, None if it is damaged or from an earlier boot."""
    texts = {
        name: document.get(name, "")
        for name in ("key", "network", "parent", "mac", "pod", "podUid", "sandbox", "shim")
    }
    needed = all(isinstance(text, str) for text in texts.values()) and all(
        texts[n] for n in ("key", "network", "parent")
    )
    if not needed or document.get("boot") != boot:
        return None
    return AttachmentRecord(
        AttachmentKey.parse(texts["key"]),
        texts["network"],
        texts["parent"],
        texts["mac"],
        PodId.parse(texts["pod"], texts["podUid"]),
        texts["sandbox"],
        _object(document.get("conf")),
        _object(document.get("result")),
        texts["shim"],
        _number(document.get("table")),
        _prefixes(document.get("prefixes")),
    )


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _prefixes(value: object) -> tuple[str, ...]:
    items = value if isinstance(value, list) else []
    return tuple(item for item in items if isinstance(item, str) and _is_prefix(item))


def _is_prefix(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def _is_address(text: str) -> bool:
    """Return whether a text is an address in CIDR form; a damaged record may have another."""
    try:
        ipaddress.ip_interface(text)
    except ValueError:
        return False
    return True


def _object(value: object) -> Document:
    return value if isinstance(value, dict) else {}


def parent_document(record: ParentRecord, boot: str) -> dict[str, Any]:
    """Return the document of a parent, without its name, which is that of its directory."""
    fields = record._asdict()
    del fields["name"]
    return {"version": VERSION, "boot": boot, **fields}


def parse_parent_record(name: str, document: Document, boot: str) -> ParentRecord | None:
    """Return the parent in a document, None if it is damaged or from an earlier boot."""
    link, uplink, vlan_id = document.get("link"), document.get("uplink", ""), document.get("vlan_id", 0)
    protocol, network = document.get("protocol", ""), document.get("network", "")
    if document.get("boot") != boot or not all(isinstance(t, str) for t in (link, uplink, protocol, network)):
        return None
    claim = _claim(document.get("claim"))
    return ParentRecord(
        name, str(link), uplink, claim, vlan_id if isinstance(vlan_id, int) else 0, protocol, network
    )


def _claim(value: object) -> Claim | None:
    """Return a claim; a later version may have more words than the three that this one knows."""
    known = len(Claim._fields)
    if (
        isinstance(value, list)
        and len(value) >= known
        and all(isinstance(word, str) for word in value[:known])
    ):
        return Claim(*value[:known])
    return None


def lasting_conf(conf: Document) -> dict[str, Any]:
    """Return a configuration without the keys that only an ADD reads or that only one call is given.

    The DEL of an IPAM plugin needs its section, but that of cni-ipam needs only the place of the lease: a
    list of 75,000 exclusions is not copied for each pod.
    """
    once = ("prevResult", "runtimeConfig", "args")
    kept = {key: value for key, value in conf.items() if key not in once and "/" not in key}
    ipam = kept.get("ipam")
    if isinstance(ipam, dict) and ipam.get("type") == "cni-ipam":
        kept["ipam"] = {key: ipam[key] for key in ("type", "pool", "dataDir") if key in ipam}
    return kept
