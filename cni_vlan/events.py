"""The events that the verbs of cni-vlan emit."""

from typing import NamedTuple

from cni_core.call import AttachmentKey


class Attached(NamedTuple):
    """A pod has got its interface. Addresses are in CIDR form; each is announced `announce` times."""

    key: AttachmentKey
    network: str
    mac: str
    addresses: tuple[str, ...]
    announce: int


class Detached(NamedTuple):
    """A pod's interface is gone, or never existed."""

    key: AttachmentKey
    network: str
