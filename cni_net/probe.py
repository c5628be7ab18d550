"""Probing the addresses of a link by ARP and neighbour discovery.

Before the addresses of a dead node are given to others, nobody may answer for them. Probes are those of
RFC 5227 section 2.1.1 (sender address 0.0.0.0) and RFC 4862 section 5.4.2 (source ::): no neighbour learns
anything from them.
"""

import ipaddress
import select
import socket
import struct
import time
from array import array
from collections.abc import Iterator, Sequence

from cni_core import waiting
from cni_core.errors import LinkFailure
from cni_net import frames
from cni_net.rtnl import Rtnl, open_rtnl

ROUNDS = 3  # a probe or its answer may be lost
INTERVAL_S = 0.3
_BATCH = 16  # probes at once, 400 in a second: of more, a switch that limits ARP or a buffer may lose some
_BATCH_S = 0.04
_FRAME_BYTES = 2048
_NOBODY, _NOWHERE = bytes(4), bytes(16)
_SOLICITED_NODE = ipaddress.IPv6Address("ff02::1:ff00:0").packed[:13]
_KIND, _HOPS, _ICMP = 12, 20, 54  # where they are in a frame: EtherType; next header and hop limit; ICMPv6
_ARP_BYTES, _ADVERTISEMENT_BYTES = 42, 78

_ETH_P_ALL = 0x0003
_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, _PACKET_MR_ALLMULTI = 263, 1, 2

# The filter of the socket (linux/filter.h): code, steps to skip if so, if not, operand. The pods' traffic
# would fill the buffer, and an answer be lost. A frame that still has a VLAN tag is of another network than
# the link's; one of VLAN 0 has a priority alone.
_SO_ATTACH_FILTER = 26
_LOAD, _LOAD_16, _LOAD_8, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x28, 0x30, 0x15, 0x45, 0x06
_OF_KERNEL = 0xFFFFF000  # SKF_AD_OFF: the metadata of a frame
_DIRECTION, _TAG, _TAGGED = _OF_KERNEL + 4, _OF_KERNEL + 44, _OF_KERNEL + 48
_VLAN_BITS = 0x0FFF
_FILTER = (
    (_LOAD, 0, 0, _DIRECTION),
    (_EQUAL, 11, 0, socket.PACKET_OUTGOING),
    (_LOAD, 0, 0, _TAGGED),
    (_EQUAL, 2, 0, 0),
    (_LOAD, 0, 0, _TAG),
    (_ANY_BIT, 7, 0, _VLAN_BITS),
    (_LOAD_16, 0, 0, _KIND),
    (_EQUAL, 6, 0, frames.ETH_P_ARP),
    (_EQUAL, 0, 4, frames.ETH_P_IPV6),
    (_LOAD_8, 0, 0, _HOPS),
    (_EQUAL, 0, 2, frames.ICMPV6),
    (_LOAD_8, 0, 0, _ICMP),
    (_EQUAL, 1, 0, frames.NEIGHBOUR_ADVERTISEMENT),
    (_RETURN, 0, 0, 0),
    (_RETURN, 0, 0, _FRAME_BYTES),
)


def answering(
    ifname: str, addresses: Sequence[str], rounds: int = ROUNDS, interval_s: float = INTERVAL_S
) -> dict[str, str]:
    """Return the IPv4 and IPv6 addresses that somebody answers for on a link, each with the MAC address.

    There are at most `rounds` rounds, while any address is silent. A round takes `interval_s` seconds, and
    one second more for every 400 silent addresses. Raises LinkFailure if the link is missing, down or without
    a carrier, or becomes so.
    """
    if not addresses:
        return {}
    what = f"probe {addresses[0]}{'...' if addresses[1:] else ''} on {ifname}"
    search = _Search(addresses)
    try:
        with open_rtnl() as rtnl:
            _require_carrier(rtnl, ifname, what)
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC) as opened:
                _hear_answers(opened, ifname)
                for _round in range(rounds):
                    search.ask(opened)
                    search.listen(opened, interval_s)
                    if not search.silent:
                        break
                    _require_carrier(rtnl, ifname, what)
    except OSError as error:
        raise LinkFailure(f"{what}: {error.strerror}") from error
    return search.found


def _require_carrier(rtnl: Rtnl, ifname: str, what: str) -> None:
    """Raise LinkFailure if no frame can leave a link or arrive: the silence there proves nothing."""
    link = rtnl.find_link(name=ifname)
    if link is None:
        raise LinkFailure(f"{what}: it does not exist")
    if not link.up:
        raise LinkFailure(f"{what}: it is down")
    if not link.carrier:
        raise LinkFailure(f"{what}: it has no carrier")


def _hear_answers(opened: socket.socket, ifname: str) -> None:
    """Let a socket receive answers only; one to :: is sent to all nodes (RFC 4861 section 7.2.4).

    It is bound last, when the filter is in place. A socket for every protocol sees a frame before a bridge,
    macvlan or ipvlan on the link takes it.
    """
    program = array("B", b"".join(struct.pack("HBBI", *step) for step in _FILTER))
    address, _length = program.buffer_info()
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_FILTER), address))
    every_group = struct.pack("iHH8s", socket.if_nametoindex(ifname), _PACKET_MR_ALLMULTI, 0, b"")
    opened.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, every_group)
    opened.bind((ifname, _ETH_P_ALL))


class _Search:
    """The probed addresses, and in `found` the MAC addresses of those that answered so far."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._wanted = {ipaddress.ip_address(address).packed: address for address in addresses}
        self.found: dict[str, str] = {}

    @property
    def silent(self) -> list[bytes]:
        """The addresses that nobody has answered for."""
        return [packed for packed, address in self._wanted.items() if address not in self.found]

    def ask(self, opened: socket.socket) -> None:
        """Send a probe for each silent address, in batches; note the answers meanwhile."""
        mac = opened.getsockname()[4]
        silent = self.silent
        for at in range(0, len(silent), _BATCH):
            for packed in silent[at : at + _BATCH]:
                opened.send(probe_frame(mac, packed))
            self.listen(opened, _BATCH_S)

    def listen(self, opened: socket.socket, seconds: float) -> None:
        """Note the answers that come within some seconds, or until all are there."""
        until = time.monotonic() + seconds
        poll = select.poll()
        poll.register(opened, select.POLLIN)
        while (left := until - time.monotonic()) > 0 and self.silent:
            with waiting.aside():
                arrived = poll.poll(left * 1000)
            if arrived:
                self._note(opened.recv(_FRAME_BYTES))

    def _note(self, frame: bytes) -> None:
        for packed, mac in claims(frame):
            if packed in self._wanted:
                self.found[self._wanted[packed]] = mac.hex(":")


def probe_frame(mac: bytes, packed: bytes) -> bytes:
    """Return the Ethernet frame that asks who has an address."""
    if len(packed) == len(_NOBODY):
        return frames.arp_request(mac, _NOBODY, packed)
    message = struct.pack("!BBHI", frames.NEIGHBOUR_SOLICITATION, 0, 0, 0) + packed
    return frames.icmpv6_multicast(mac, _NOWHERE, _SOLICITED_NODE + packed[13:], message)


def claims(frame: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the addresses that the sender of a frame claims, with its MAC address.

    The probe of another host has no sender address and claims nothing; switches send probes to find hosts.
    """
    kind = int.from_bytes(frame[_KIND : _KIND + 2], "big")
    if kind == frames.ETH_P_ARP and _is_arp_of_ipv4(frame) and frame[28:32] != _NOBODY:
        yield frame[28:32], frame[22:28]
    if kind == frames.ETH_P_IPV6 and _is_advertisement(frame):
        yield frame[62:78], frame[6:12]


def _is_arp_of_ipv4(frame: bytes) -> bool:
    operation = int.from_bytes(frame[20:22], "big")
    is_known = frame[14:20] == frames.ARP_HEADER and operation in {frames.ARP_REQUEST, frames.ARP_REPLY}
    return is_known and len(frame) >= _ARP_BYTES


def _is_advertisement(frame: bytes) -> bool:
    """Return whether an IPv6 frame is a neighbour advertisement from this link, not from a router."""
    from_here = bytes((frames.ICMPV6, frames.HOP_LIMIT))
    is_whole = len(frame) >= _ADVERTISEMENT_BYTES and frame[_HOPS : _HOPS + 2] == from_here
    return is_whole and frame[_ICMP] == frames.NEIGHBOUR_ADVERTISEMENT
