"""A lease: the attachment, its addresses and the time; and its text form (docs/lease-store.md)."""

import time
from typing import NamedTuple

from cni_core.call import AttachmentKey, PodId
from cni_ipam.addresses import parse_address

FORMAT = "cni-ipam lease 1"


class Tenant(NamedTuple):
    """The attachment that addresses are for.

    `owner` is the name under which an address is kept in a cluster, for `keep_s` seconds after its release;
    "" if any address will do.
    """

    key: AttachmentKey
    network: str
    pod: PodId = PodId()
    owner: str = ""
    keep_s: int = 0


class Lease(NamedTuple):
    """The addresses of an attachment, in CIDR form; `since` in UTC."""

    key: AttachmentKey
    network: str
    addresses: tuple[str, ...]
    pod: PodId = PodId()
    since: str = ""

    @property
    def owner(self) -> str:
        """The name of the attachment in messages."""
        pod = f"pod {self.pod.label}, " if self.pod.label else ""
        return f"{pod}container {self.key.container_id} {self.key.ifname}"

    @property
    def is_whole(self) -> bool:
        """Whether the text is undamaged: it has addresses, and every one is valid."""
        return bool(self.addresses) and all(map(_is_address, self.addresses))


def _is_address(text: str) -> bool:
    try:
        parse_address(text)
    except (OSError, ValueError):
        return False
    return text.partition("/")[2].isdecimal()


def timestamp(seconds: float | None = None) -> str:
    """Return a time in seconds since the epoch, or the current time, in the form of a lease, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def render(lease: Lease, boot: str) -> str:
    """Return the text of a lease."""
    lines = (
        ("container", lease.key.container_id),
        ("interface", lease.key.ifname),
        ("network", lease.network),
        *(("address", address) for address in lease.addresses),
        ("pod", f"{lease.pod.label} {lease.pod.uid}".strip() if lease.pod.name else ""),
        ("boot", boot),
        ("since", lease.since),
    )
    return "\n".join([FORMAT, *(f"{key} {_one_line(value)}" for key, value in lines if value), ""])


def _one_line(value: str) -> str:
    """Return a value that cannot end its line and begin another: a pod's name comes from CNI_ARGS."""
    return value if value.isprintable() else "".join(c if c.isprintable() else "?" for c in value)


def parse(text: str) -> Lease:
    """Return the lease in a text; missing fields are empty."""
    fields: dict[str, list[str]] = {}
    for line in text.split("\n")[1:]:
        key, _space, value = line.partition(" ")
        fields.setdefault(key, []).append(value)

    def one(key: str) -> str:
        return fields.get(key, [""])[0]

    label, _space, uid = one("pod").partition(" ")
    return Lease(
        AttachmentKey(one("container"), one("interface")),
        one("network"),
        tuple(fields.get("address", ())),
        PodId.parse(label, uid),
        one("since"),
    )
