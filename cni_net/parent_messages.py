"""The messages that create a parent, through pyroute2's codecs; cni_net.link_messages has those of a pod.

A VLAN or a dummy is created once for many pods, so the cost of the codecs does not matter here.
"""

from typing import Any

from cni_net.codecs import ifinfmsg
from cni_net.operations import VLAN_PROTOCOLS, CreateDummy, CreateVlan
from cni_net.rtsocket import CREATE, EXCL, HEADER_BYTES, Request

_RTM_NEWLINK = 16


def create(operation: CreateVlan | CreateDummy) -> Request:
    """Return the request that creates a parent."""
    match operation:
        case CreateVlan(name, uplink, vlan_id, protocol):
            data: list[tuple[str, Any]] = [
                ("IFLA_VLAN_ID", vlan_id),
                ("IFLA_VLAN_PROTOCOL", VLAN_PROTOCOLS[protocol]),
            ]
            info = [("IFLA_INFO_KIND", "vlan"), ("IFLA_INFO_DATA", {"attrs": data})]
            return _create(name, [("IFLA_LINK", uplink.ifindex)], info)
        case CreateDummy(name, mtu):
            return _create(name, [("IFLA_MTU", mtu)] if mtu else [], [("IFLA_INFO_KIND", "dummy")])


def _create(name: str, attributes: list[tuple[str, Any]], info: list[tuple[str, Any]]) -> Request:
    message = ifinfmsg()
    message["attrs"] = [("IFLA_IFNAME", name), *attributes, ("IFLA_LINKINFO", {"attrs": info})]
    message.encode()
    return Request(_RTM_NEWLINK, CREATE | EXCL, bytes(message.data[HEADER_BYTES:]))
