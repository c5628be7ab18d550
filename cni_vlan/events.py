"""What the verbs of cni-vlan tell those who subscribe."""

from typing import NamedTuple

from cni_core.call import AttachmentKey


class Attached(NamedTuple):
    """A pod has an interface. Addresses in CIDR form, each to be announced `announce` times."""

    key: AttachmentKey
    network: str
    mac: str
    addresses: tuple[str, ...]
    announce: int


class Detached(NamedTuple):
    """A pod's interface is gone, or was never there."""

    key: AttachmentKey
    network: str
