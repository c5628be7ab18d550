"""Frames of announcements and probes, byte for byte as the RFCs have them, and what is not an answer."""

import pytest

from cni_net.announce import arp_announcement, neighbour_advertisement
from cni_net.frames import checksum
from cni_net.probe import claims, probe_frame

MAC = bytes.fromhex("020000000001")
V4 = bytes.fromhex("0a000007")
V6 = bytes.fromhex("20010db8 0000 0000 0000 0001 0002 0003")

# RFC 826: hardware and protocol, their lengths, the operation; sender's MAC and address, target's.
ARP = "020000000001 0806  0001 0800 06 04"
ANNOUNCEMENT = f"ffffffffffff {ARP} 0001  020000000001 0a000007 000000000000 0a000007"
PROBE = f"ffffffffffff {ARP} 0001  020000000001 00000000 000000000000 0a000007"
ANSWER = f"020000000009 {ARP} 0002  020000000001 0a000007 020000000009 00000000"

# RFC 8200: version, payload's length, next header 58, hop limit 255; source and destination. RFC 4861
# sections 4.3 and 4.4: type, code, checksum; flags (the advertisement's: override); target; option 2, one
# unit of eight bytes long, the MAC.
SOLICITATION = (
    "3333ff020003 020000000001 86dd  60000000 0018 3a ff"
    "0000 0000 0000 0000 0000 0000 0000 0000  ff02 0000 0000 0000 0000 0001 ff02 0003"
    "87 00 4ce4  00000000  2001 0db8 0000 0000 0000 0001 0002 0003"
)
ADVERTISEMENT = (
    "333300000001 020000000001 86dd  60000000 0020 3a ff"
    "2001 0db8 0000 0000 0000 0001 0002 0003  ff02 0000 0000 0000 0000 0000 0000 0001"
    "88 00 f920  20000000  2001 0db8 0000 0000 0000 0001 0002 0003  02 01 020000000001"
)


def test_an_arp_announcement() -> None:
    """RFC 5227 section 2.3: sender and target are the same."""
    assert arp_announcement(MAC, V4) == bytes.fromhex(ANNOUNCEMENT)


def test_an_arp_probe() -> None:
    """RFC 5227 section 2.1.1: it names no sender."""
    assert probe_frame(MAC, V4) == bytes.fromhex(PROBE)


def test_an_unsolicited_advertisement() -> None:
    """RFC 4861 section 7.2.6: to all nodes, with the MAC."""
    assert neighbour_advertisement(MAC, V6) == bytes.fromhex(ADVERTISEMENT)


def test_a_solicitation_from_nowhere() -> None:
    """RFC 4862 section 5.4.2: to the solicited-node group, without a MAC."""
    assert probe_frame(MAC, V6) == bytes.fromhex(SOLICITATION)


def test_a_checksum() -> None:
    """The example of RFC 1071 section 3: the sum is ddf2."""
    assert checksum(bytes.fromhex("0001 f203 f4f5 f6f7")) == 0xFFFF - 0xDDF2


@pytest.mark.parametrize("total", ["ffff ffff", "8000 7fff"], ids=["carried", "full"])
def test_a_checksum_of_all_ones_is_zero(total: str) -> None:
    assert checksum(bytes.fromhex(total)) == 0


def changed(frame: str, at: int, value: str) -> bytes:
    """A frame with other bytes at an offset."""
    whole, other = bytes.fromhex(frame), bytes.fromhex(value)
    return whole[:at] + other + whole[at + len(other) :]


@pytest.mark.parametrize(
    ("frame", "claimed"),
    [
        pytest.param(bytes.fromhex(ANSWER), [(V4, MAC)], id="arp"),
        pytest.param(changed(ANSWER, 14, "0006"), [], id="not-ethernet"),
        pytest.param(changed(ANSWER, 16, "86dd"), [], id="not-ipv4"),
        pytest.param(changed(ANSWER, 18, "08"), [], id="long-mac"),
        pytest.param(changed(ANSWER, 20, "0008"), [], id="inverse-arp"),
        pytest.param(bytes.fromhex(ANSWER)[:41], [], id="short-arp"),
        pytest.param(bytes.fromhex(PROBE), [], id="probe"),
        pytest.param(bytes.fromhex(ADVERTISEMENT), [(V6, MAC)], id="advertisement"),
        pytest.param(changed(ADVERTISEMENT, 20, "11"), [], id="udp"),
        pytest.param(changed(ADVERTISEMENT, 21, "fe"), [], id="routed"),
        pytest.param(bytes.fromhex(ADVERTISEMENT)[:77], [], id="short-advertisement"),
        pytest.param(bytes.fromhex(SOLICITATION), [], id="solicitation"),
    ],
)
def test_what_counts_as_an_answer(frame: bytes, claimed: list[tuple[bytes, bytes]]) -> None:
    assert list(claims(frame)) == claimed
