"""Ethernet frames of ARP and neighbour discovery (RFC 826, RFC 4861), as announcements and probes send them.

Addresses of every kind are bytes, as in a frame.
"""

import struct

ETH_P_ARP, ETH_P_IPV6 = 0x0806, 0x86DD
ARP_HEADER = struct.pack("!HHBB", 1, 0x0800, 6, 4)  # an IPv4 address on Ethernet
ARP_REQUEST, ARP_REPLY = 1, 2
ICMPV6 = 58
NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT = 135, 136
HOP_LIMIT = 255  # of neighbour discovery: no router has passed it on
_BROADCAST = b"\xff" * 6


def arp_request(mac: bytes, sender: bytes, target: bytes) -> bytes:
    """Return the frame that asks everybody for the owner of an IPv4 address."""
    arp = ARP_HEADER + struct.pack("!H", ARP_REQUEST) + mac + sender + bytes(6) + target
    return _ethernet(_BROADCAST, mac, ETH_P_ARP, arp)


def icmpv6_multicast(mac: bytes, source: bytes, group: bytes, message: bytes) -> bytes:
    """Return the frame of an ICMPv6 message to a multicast group; its checksum, zero so far, is filled in."""
    pseudo = source + group + struct.pack("!II", len(message), ICMPV6)
    whole = message[:2] + struct.pack("!H", checksum(pseudo + message)) + message[4:]
    header = struct.pack("!IHBB", 6 << 28, len(whole), ICMPV6, HOP_LIMIT) + source + group
    return _ethernet(b"\x33\x33" + group[12:], mac, ETH_P_IPV6, header + whole)


def _ethernet(destination: bytes, source: bytes, protocol: int, payload: bytes) -> bytes:
    return destination + source + struct.pack("!H", protocol) + payload


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
