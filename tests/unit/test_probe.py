"""Frames that ask who has an address, and what an answer is: bytes as the RFCs have them."""

import ipaddress

import pytest

from cni_net.probe import claims, probe_frame

MAC = bytes.fromhex("020000000001")
V4 = ipaddress.ip_address("10.0.0.7").packed
V6 = ipaddress.ip_address("2001:db8::1:2:3").packed


def test_an_arp_probe_names_no_sender() -> None:
    """RFC 5227 section 2.1.1."""
    ethernet = "ffffffffffff 020000000001 0806"
    arp_request = "0001 0800 06 04 0001 020000000001 00000000 000000000000 0a000007"

    assert probe_frame(MAC, V4) == bytes.fromhex(ethernet + arp_request)


def test_a_solicitation_comes_from_nowhere() -> None:
    """RFC 4862 section 5.4.2: from ::, to the solicited-node address, without a link-layer address."""
    ethernet = "3333ff020003 020000000001 86dd"
    group = "ff02 0000 0000 0000 0000 0001 ff02 0003"
    ipv6 = "60000000 0018 3a ff" + "0000" * 8 + group
    frame = probe_frame(MAC, V6)

    assert frame[:54] == bytes.fromhex(ethernet + ipv6)
    assert frame[54:56] + frame[58:] == bytes.fromhex("8700 00000000") + V6
    words = bytes(16) + bytes.fromhex(group) + bytes.fromhex("00000018 0000003a") + frame[54:]
    total = sum(int.from_bytes(words[at : at + 2]) for at in range(0, len(words), 2))
    assert total % 0xFFFF == 0  # RFC 1071: with its own checksum


def arp(operation: int, sender: bytes) -> bytes:
    frame = bytearray(probe_frame(MAC, V4))
    frame[20:22] = operation.to_bytes(2)
    frame[28:32] = sender
    return bytes(frame)


@pytest.mark.parametrize(
    ("frame", "claimed"),
    [
        (arp(2, V4), [(V4, MAC)]),
        (arp(1, V4), [(V4, MAC)]),  # an announcement, or any question of its owner
        (arp(1, bytes(4)), []),  # somebody else's probe
        (arp(2, V4)[:40], []),
        (probe_frame(MAC, V6), []),
        (b"", []),
    ],
)
def test_what_counts_as_an_answer(frame: bytes, claimed: list[tuple[bytes, bytes]]) -> None:
    assert list(claims(frame)) == claimed


def test_an_advertisement_is_an_answer() -> None:
    frame = bytearray(probe_frame(MAC, V6))
    frame[54] = 136

    assert list(claims(bytes(frame))) == [(V6, MAC)]
