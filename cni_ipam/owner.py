"""The text of a lease: whose it is, and since when. docs/lease-store.md describes it."""

import ipaddress
import time
from typing import NamedTuple

FORMAT = "cni-ipam lease 1"


class Owner(NamedTuple):
    """Whose addresses these are. Addresses in CIDR form; `since` in UTC."""

    container_id: str
    ifname: str
    network: str
    addresses: tuple[str, ...]
    pod: str = ""
    since: str = ""

    @property
    def key(self) -> str:
        """The attachment's key."""
        return f"{self.container_id}:{self.ifname}"

    @property
    def is_whole(self) -> bool:
        """Whether the text was read as it was written: every address is one."""
        return bool(self.addresses) and all(map(_is_address, self.addresses))


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_interface(text)
    except ValueError:
        return False
    return True


def timestamp(seconds: float | None = None) -> str:
    """Return a time since the epoch, or the present, in UTC, as it is written into a lease."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def render(owner: Owner, boot: str) -> str:
    """Return the text of an owner's leases."""
    lines = (
        ("container", owner.container_id),
        ("interface", owner.ifname),
        ("network", owner.network),
        *(("address", address) for address in owner.addresses),
        ("pod", owner.pod),
        ("boot", boot),
        ("since", owner.since),
    )
    return "\n".join([FORMAT, *(f"{key} {_one_line(value)}" for key, value in lines if value), ""])


def _one_line(value: str) -> str:
    """Return a value that cannot end its line and begin another: a pod's name comes from CNI_ARGS."""
    return "".join(c if c.isprintable() else "?" for c in value)


def parse(text: str) -> Owner:
    """Return the owner that a text names; what is missing is ""."""
    fields: dict[str, list[str]] = {}
    for line in text.split("\n")[1:]:
        key, _space, value = line.partition(" ")
        fields.setdefault(key, []).append(value)

    def one(key: str) -> str:
        return fields.get(key, [""])[0]

    addresses = tuple(fields.get("address", ()))
    return Owner(one("container"), one("interface"), one("network"), addresses, one("pod"), one("since"))
