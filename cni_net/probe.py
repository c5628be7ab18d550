"""Which addresses answer on a link, as seen from this host: ARP and neighbour discovery.

Before the addresses of a dead node are given to others, nobody may answer for them. Probes are those of
RFC 5227 section 2.1.1 (sender address 0.0.0.0) and RFC 4862 section 5.4.2 (source ::): no neighbour learns
anything from them.
"""

import ipaddress
import select
import socket
import struct
import time
from collections.abc import Iterator, Sequence

from cni_core import waiting
from cni_core.errors import LinkFailure
from cni_net.announce import checksum

ROUNDS = 3  # a probe or its answer may be lost
INTERVAL_S = 0.3
_BATCH = 32  # probes at once: a switch or a socket's buffer may drop more
_BATCH_S = 0.01
_FRAME = 2048
_ETH_P_ALL, _ETH_P_ARP, _ETH_P_IPV6 = 0x0003, 0x0806, 0x86DD
_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, _PACKET_MR_ALLMULTI = 263, 1, 2
_ICMPV6, _SOLICITATION, _ADVERTISEMENT = 58, 135, 136
_ARP_LENGTH, _NA_LENGTH = 42, 78
_NEXT_HEADER, _TYPE = 20, 54  # where they are in a frame with IPv6
_BROADCAST, _NOBODY = b"\xff" * 6, bytes(4)


def answering(
    ifname: str, addresses: Sequence[str], rounds: int = ROUNDS, interval_s: float = INTERVAL_S
) -> dict[str, str]:
    """Return the addresses, IPv4 or IPv6, that somebody answers for on a link, each with the MAC address.

    It takes `rounds` times `interval_s` seconds if one of them is silent. Raises LinkFailure if the link is
    missing or down.
    """
    wanted = {ipaddress.ip_address(address).packed: address for address in addresses}
    found: dict[str, str] = {}
    try:
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC) as opened:
            opened.bind((ifname, _ETH_P_ALL))
            _hear_all_nodes(opened, ifname)
            mac = opened.getsockname()[4]
            for _round in range(rounds):
                silent = [packed for packed, address in wanted.items() if address not in found]
                _ask(opened, mac, silent, wanted, found)
                _listen(opened, interval_s, wanted, found)
                if len(found) == len(wanted):
                    break
    except OSError as error:
        raise LinkFailure(f"probe {len(addresses)} addresses on {ifname}: {error.strerror}") from error
    return found


def _hear_all_nodes(opened: socket.socket, ifname: str) -> None:
    """Receive every multicast frame: an answer to :: is sent to all nodes (RFC 4861 section 7.2.4)."""
    request = struct.pack("iHH8s", socket.if_nametoindex(ifname), _PACKET_MR_ALLMULTI, 0, b"")
    opened.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, request)


def _ask(
    opened: socket.socket,
    mac: bytes,
    silent: Sequence[bytes],
    wanted: dict[bytes, str],
    found: dict[str, str],
) -> None:
    for at in range(0, len(silent), _BATCH):
        for packed in silent[at : at + _BATCH]:
            opened.send(probe_frame(mac, packed))
        _listen(opened, _BATCH_S, wanted, found)


def _listen(opened: socket.socket, seconds: float, wanted: dict[bytes, str], found: dict[str, str]) -> None:
    """Note the answers that come within some seconds, or until all are there."""
    until = time.monotonic() + seconds
    poll = select.poll()
    poll.register(opened, select.POLLIN)
    while (left := until - time.monotonic()) > 0 and len(found) < len(wanted):
        with waiting.aside():
            arrived = poll.poll(left * 1000)
        if arrived:
            frame, sender = opened.recvfrom(_FRAME)
            if sender[2] != socket.PACKET_OUTGOING:
                for packed, mac in claims(frame):
                    if packed in wanted:
                        found[wanted[packed]] = mac.hex(":")


def probe_frame(mac: bytes, packed: bytes) -> bytes:
    """Return the Ethernet frame that asks who has an address."""
    return _arp_probe(mac, packed) if len(packed) == len(_NOBODY) else _solicitation(mac, packed)


def _arp_probe(mac: bytes, address: bytes) -> bytes:
    header = _BROADCAST + mac + struct.pack("!H", _ETH_P_ARP)
    return header + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac + _NOBODY + bytes(6) + address


def _solicitation(mac: bytes, address: bytes) -> bytes:
    group = ipaddress.IPv6Address("ff02::1:ff00:0").packed[:13] + address[13:]
    body = struct.pack("!BBHI", _SOLICITATION, 0, 0, 0) + address
    pseudo = bytes(16) + group + struct.pack("!II", len(body), _ICMPV6)
    message = body[:2] + struct.pack("!H", checksum(pseudo + body)) + body[4:]
    ipv6 = struct.pack("!IHBB", 6 << 28, len(message), _ICMPV6, 255) + bytes(16) + group
    return b"\x33\x33" + group[12:] + mac + struct.pack("!H", _ETH_P_IPV6) + ipv6 + message


def claims(frame: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the addresses that the sender of a frame says to have, with its MAC address.

    A probe of somebody else has no sender, and claims nothing: switches send such to find their hosts.
    """
    kind = int.from_bytes(frame[12:14])
    if kind == _ETH_P_ARP and len(frame) >= _ARP_LENGTH and frame[28:32] != _NOBODY:
        yield frame[28:32], frame[22:28]
    is_icmp = kind == _ETH_P_IPV6 and len(frame) >= _NA_LENGTH and frame[_NEXT_HEADER] == _ICMPV6
    if is_icmp and frame[_TYPE] == _ADVERTISEMENT:
        yield frame[62:78], frame[6:12]
