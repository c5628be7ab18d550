"""The two families of IP addresses."""

from enum import Enum
from typing import Self


class Family(Enum):
    """An IP version; its value is the version number."""

    IPV4 = 4
    IPV6 = 6

    @classmethod
    def of(cls, address: str) -> Self:
        """Return the family of an address, interface or network, as text."""
        return cls.IPV6 if ":" in address else cls.IPV4

    @property
    def bits(self) -> int:
        """The length of an address."""
        return 32 if self is Family.IPV4 else 128

    @property
    def default(self) -> str:
        """The destination of a default route."""
        return "0.0.0.0/0" if self is Family.IPV4 else "::/0"
