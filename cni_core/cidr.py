"""Addresses with a prefix length as numbers. Pure.

For text that was checked before: "01.2.3.4" and "::1/200" are not refused. An ADD reads each address several
times, and `ipaddress` needs ten times as long for one of IPv4.
"""

import ipaddress
from typing import NamedTuple, Self

from cni_core.family import Family


class Cidr(NamedTuple):
    """An address and the length of its prefix; bits after the prefix may be set."""

    family: Family
    number: int
    prefix: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an address with a prefix length; without one, it is that of a single address.

        Raises ValueError for a text without the form of an address.
        """
        address, _slash, prefix = text.partition("/")
        if ":" in address:
            family, number = Family.IPV6, int(ipaddress.IPv6Address(address))
        else:
            first, second, third, fourth = map(int, address.split("."))
            family, number = Family.IPV4, int.from_bytes((first, second, third, fourth))
        return cls(family, number, int(prefix) if prefix else family.bits)

    @property
    def packed(self) -> bytes:
        """The address in network byte order."""
        return self.number.to_bytes(self.family.bits // 8)

    @property
    def first(self) -> "Cidr":
        """The address of the network: all bits after the prefix are zero."""
        return self._replace(number=self.number & ~self._host_mask)

    @property
    def last(self) -> "Cidr":
        """The last address of the network, which is the broadcast address of IPv4."""
        return self._replace(number=self.number | self._host_mask)

    @property
    def _host_mask(self) -> int:
        return (1 << (self.family.bits - self.prefix)) - 1

    def covers(self, other: "Cidr") -> bool:
        """Return whether an address is in the network."""
        return self.family is other.family and (self.number ^ other.number) <= self._host_mask
