"""Addresses with a prefix, beside those of the standard library."""

import ipaddress

import pytest

from cni_core.cidr import Cidr
from cni_core.family import Family

TEXTS = (
    "0.0.0.0/0", "10.0.0.2/24", "10.255.255.255/8", "192.0.2.1/31", "192.0.2.1/32", "255.255.255.255/1",
    "::/0", "::1/128", "2001:db8::ffff/127", "fe80::1/10", "2001:db8:1:2:3:4:5:6/64", "::ffff:192.0.2.1/96",
)  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_as_the_standard_library_reads_it(text: str) -> None:
    wanted = ipaddress.ip_interface(text)
    cidr = Cidr.parse(text)

    assert (cidr.family, cidr.prefix) == (Family(wanted.version), wanted.network.prefixlen)
    assert cidr.packed == wanted.ip.packed
    assert cidr.first.packed == wanted.network.network_address.packed
    assert cidr.last.packed == wanted.network.broadcast_address.packed


@pytest.mark.parametrize("one", TEXTS)
@pytest.mark.parametrize("other", TEXTS)
def test_a_network_covers_its_addresses(one: str, other: str) -> None:
    inside = ipaddress.ip_interface(other).ip in ipaddress.ip_interface(one).network

    assert Cidr.parse(one).covers(Cidr.parse(other)) == inside


def test_an_address_without_a_prefix_is_a_single_one() -> None:
    assert Cidr.parse("10.0.0.2") == Cidr.parse("10.0.0.2/32")
    assert Cidr.parse("2001:db8::2") == Cidr.parse("2001:db8::2/128")


@pytest.mark.parametrize("text", ["", "10.0.0", "10.0.0.2%1", "10.0.0.256/8", "::g/64", "::/x"])
def test_other_text_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Cidr.parse(text)
