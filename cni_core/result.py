"""Results of every CNI version as one set of values (CNI spec 1.1.0, section 5 "Result Types")."""

from typing import NamedTuple

from cni_core.family import Family

SUPPORTED = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
LATEST = SUPPORTED[-1]
ONE_PER_FAMILY = SUPPORTED[:2]  # their results have room for one address of each family


class Interface(NamedTuple):
    """A link of the result; an empty sandbox means the host. MTU in bytes, 0 if unknown."""

    name: str
    mac: str = ""
    sandbox: str = ""
    mtu: int = 0


class IPConfig(NamedTuple):
    """An address in CIDR form, its gateway ("" for none) and the index of its interface.

    `prefixes` are those under which a fabric may reach it, of this node alone. They are not in the JSON form.
    """

    address: str
    gateway: str = ""
    interface: int | None = None
    prefixes: tuple[str, ...] = ()

    @property
    def family(self) -> Family:
        """The family of the address."""
        return Family.of(self.address)


class Route(NamedTuple):
    """A route; None means the kernel's default. MTU and MSS in bytes.

    `implied`: a default route that nobody requested, but that follows from a gateway. It yields to one that
    the sandbox has already. The field is not in the JSON form, since it is decided where the route is made.
    """

    dst: str
    gw: str = ""
    mtu: int | None = None
    advmss: int | None = None
    priority: int | None = None
    table: int | None = None
    scope: int | None = None
    implied: bool = False

    @property
    def family(self) -> Family:
        """The family of its destination."""
        return Family.of(self.dst)

    @property
    def is_default(self) -> bool:
        """Whether it is a default route."""
        prefix = self.dst.rpartition("/")[2]  # "00" is valid too
        return bool(prefix) and not prefix.strip("0")


class DNS(NamedTuple):
    """The name servers that the runtime is to write into the pod."""

    nameservers: tuple[str, ...] = ()
    domain: str = ""
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


class Result(NamedTuple):
    """The success result of ADD."""

    interfaces: tuple[Interface, ...] = ()
    ips: tuple[IPConfig, ...] = ()
    routes: tuple[Route, ...] = ()
    dns: DNS = DNS()
