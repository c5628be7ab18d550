"""The attachments of a gone container that an operator may release, and the DEL call that does it."""

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
    """An attachment in a network's index; `record` is None if it was damaged."""

    network: str
    key: AttachmentKey
    record: AttachmentRecord | None

    @property
    def sandbox(self) -> str:
        """The path of the container's network namespace, "" if unknown."""
        recorded = self.record.sandbox if self.record else ""
        return recorded or libcni.sandbox_of(self.network, *self.key) or ""

    @property
    def is_alive(self) -> bool:
        """Whether that namespace still exists."""
        return bool(self.sandbox) and os.path.exists(self.sandbox)

    @property
    def label(self) -> str:
        """The name of the attachment in messages."""
        pod = self.record.pod.label if self.record else ""
        name = f"pod {pod}" if pod else f"container {self.key.container_id}"
        return f"{name} {self.key.ifname} on {self.network}"


# Runs a DEL, given the directories of the IPAM plugins; returns the reason for a failure, "" on success.
Detach = Callable[[Held, str], str]


def find(ledger: Ledger, container: str, ifname: str | None) -> list[Held]:
    """Return the attachments of the containers whose id begins with the given text."""
    found = list(_find(ledger, container, ifname))
    exact = [held for held in found if held.key.container_id == container]
    return exact or found


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
    """Return the configuration of the DEL: the one that ADD recorded, else the name and our own IPAM."""
    recorded: dict[str, Any] = dict(held.record.conf) if held.record else {}
    conf = recorded or {"cniVersion": LATEST, "ipam": {"type": "cni-ipam"}}
    return json.dumps({**conf, "name": held.network, "type": "cni-vlan"})
