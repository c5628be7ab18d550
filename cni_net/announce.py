"""Gratuitous ARP and unsolicited neighbour advertisements, so that neighbours forget an address's last owner.

Frames are sent through packet sockets: RFC 5227 section 2.3 (ARP announcement) and RFC 4861 section 7.2.6
(unsolicited neighbour advertisement). They leave after the reply: a pod does not wait for them.
"""

import ipaddress
import os
import socket
import struct
import time
from collections.abc import Sequence

from cni_net.frames import NEIGHBOUR_ADVERTISEMENT, arp_request, icmpv6_multicast
from cni_net.netns import Sandbox

INTERVAL_S = 0.2
_ALL_NODES = ipaddress.IPv6Address("ff02::1").packed
_OVERRIDE = 0x20000000
_TARGET_LINK_LAYER = 2


class Announcement:
    """The announcement of a link's addresses; it holds a descriptor of the sandbox, or a socket."""

    def __init__(self, sandbox: Sandbox, ifname: str, frames: Sequence[bytes], count: int) -> None:
        self._sandbox = Sandbox(os.dup(sandbox.fd), sandbox.path)
        self._ifname = ifname
        self._frames = frames
        self._left = count
        self._socket: socket.socket | None = None

    def send(self) -> bool:
        """Send it once; return whether to send it again, INTERVAL_S later.

        The pod may be gone already, and an announcement is only a courtesy: it does not fail.
        """
        try:
            sender = self._socket or self._open()
            for frame in self._frames:
                sender.send(frame)
        except OSError:
            self._left = 0
        else:
            self._left -= 1
        if self._left <= 0:
            self.close()
        return self._left > 0

    def send_all(self) -> None:
        """Send it the remaining number of times."""
        while self.send():
            time.sleep(INTERVAL_S)

    def _open(self) -> socket.socket:
        with self._sandbox.entered():
            opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        self.close()
        self._socket = opened
        opened.bind((self._ifname, 0))
        return opened

    def close(self) -> None:
        """Close the socket, or the descriptor of the sandbox."""
        if self._socket is None:
            os.close(self._sandbox.fd)
        else:
            self._socket.close()


def announcement(
    sandbox: Sandbox, ifname: str, mac: str, addresses: Sequence[str], count: int
) -> Announcement | None:
    """Return the announcement of each address, in CIDR form, `count` times; None without addresses."""
    hardware = bytes.fromhex(mac.replace(":", ""))
    frames = [_frame(hardware, address.partition("/")[0]) for address in addresses]
    if not frames or count == 0:
        return None
    return Announcement(sandbox, ifname, frames, count)


def _frame(mac: bytes, address: str) -> bytes:
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv4Address):
        return arp_announcement(mac, parsed.packed)
    return neighbour_advertisement(mac, parsed.packed)


def arp_announcement(mac: bytes, address: bytes) -> bytes:
    """Return the Ethernet frame of an ARP announcement."""
    return arp_request(mac, address, address)


def neighbour_advertisement(mac: bytes, address: bytes) -> bytes:
    """Return the Ethernet frame of an unsolicited neighbour advertisement."""
    option = struct.pack("!BB", _TARGET_LINK_LAYER, 1) + mac
    message = struct.pack("!BBHI", NEIGHBOUR_ADVERTISEMENT, 0, 0, _OVERRIDE) + address + option
    return icmpv6_multicast(mac, address, _ALL_NODES, message)
