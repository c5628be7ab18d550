"""What an operator may release of a container that is gone, and how a DEL of it is called."""

import json
import os
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from cni_core import libcni
from cni_core.call import AttachmentKey
from cni_core.result import LATEST
from cni_vlan.ledger import Ledger
from cni_vlan.records import AttachmentRecord


class Held(NamedTuple):
    """An attachment in the index of a network; without a record if that was damaged."""

    network: str
    key: AttachmentKey
    record: AttachmentRecord | None

    @property
    def sandbox(self) -> str:
        """The path of the container's network namespace, "" if it is not known."""
        recorded = self.record.sandbox if self.record else ""
        return recorded or libcni.sandbox_of(self.network, *self.key) or ""

    @property
    def is_alive(self) -> bool:
        """Whether that namespace is there."""
        return bool(self.sandbox) and os.path.exists(self.sandbox)

    @property
    def label(self) -> str:
        """The attachment, as a message names it."""
        pod = self.record.pod.label if self.record else ""
        name = f"pod {pod}" if pod else f"container {self.key.container_id}"
        return f"{name} {self.key.ifname} on {self.network}"


# Performs a DEL, with the directories of IPAM plugins; returns the reason for a failure, "" for success.
Detach = Callable[[Held, str], str]


def find(ledger: Ledger, container: str, ifname: str | None) -> list[Held]:
    """Return the attachments of the containers whose id begins so."""
    return list(_find(ledger, container, ifname))


def _find(ledger: Ledger, container: str, ifname: str | None) -> Iterator[Held]:
    for network in ledger.networks():
        for key in ledger.keys(network):
            if key.container_id.startswith(container) and ifname in {None, key.ifname}:
                entry = ledger.find(network, key)
                yield Held(network, key, entry.record if entry else None)


def environment(held: Held, cni_path: str) -> dict[str, str]:
    """Return the environment of the DEL."""
    return {
        "CNI_COMMAND": "DEL",
        "CNI_CONTAINERID": held.key.container_id,
        "CNI_IFNAME": held.key.ifname,
        "CNI_NETNS": held.sandbox if held.is_alive else "",
        "CNI_PATH": cni_path,
    }


def configuration(held: Held) -> str:
    """Return the configuration of the DEL: what ADD recorded, else the name and our own IPAM."""
    recorded: dict[str, Any] = dict(held.record.conf) if held.record else {}
    conf = recorded or {"cniVersion": LATEST, "ipam": {"type": "cni-ipam"}}
    return json.dumps({**conf, "name": held.network, "type": "cni-vlan"})
