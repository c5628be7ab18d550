"""The error tree, and the CNI code of each class (CNI spec 1.1.0, section 5, "Error").

CniError                    999  anything that has no class of its own
├── IncompatibleVersion       1
├── UnsupportedField          2
├── InvalidEnvironment        4
├── IoFailure                 5
├── DecodingFailure           6
├── InvalidConfig             7
├── InvalidNetns              8
├── TryAgainLater            11
├── NotAvailable             50  STATUS only
├── LimitedConnectivity      51  STATUS only
├── LinkFailure             100
├── InterfaceExists         101
├── ParentConflict          102
├── UplinkMissing           103
├── UplinkDown              104
├── PoolExhausted           110
├── AddressUnavailable      111
├── DuplicateAttachment     112
├── CheckFailed             120
└── DelegateFailed          130

A message names the action, its object and the reason for the failure: lower case, no full stop.
"""

from collections.abc import Sequence
from typing import Any, ClassVar, Self


class CniError(Exception):
    """A failure that is reported to the runtime."""

    code: ClassVar[int] = 999

    def __init__(self, msg: str, details: str = "") -> None:
        super().__init__(msg)
        self.msg = msg
        self.details = details

    def to_json(self, cni_version: str) -> dict[str, Any]:
        """Return the error document of the CNI spec."""
        document: dict[str, Any] = {"cniVersion": cni_version, "code": self.code, "msg": self.msg}
        if self.details:
            document["details"] = self.details
        return document


class IncompatibleVersion(CniError):
    """The configuration's cniVersion is not one of ours, or does not know the verb."""

    code = 1


class UnsupportedField(CniError):
    """A configuration key has a value that cannot work; the message holds both."""

    code = 2


class InvalidEnvironment(CniError):
    """A CNI_* variable is missing or malformed; the message names every one."""

    code = 4


class IoFailure(CniError):
    """Standard input or the state on disk could not be read or written."""

    code = 5


class DecodingFailure(CniError):
    """An input that should be JSON is not."""

    code = 6


class InvalidConfig(CniError):
    """The network configuration is wrong; the message holds every problem found."""

    code = 7

    def __init__(self, msg: str, details: str = "", problems: tuple[str, ...] = ()) -> None:
        super().__init__(msg, details)
        self.problems = problems or (msg,)

    @classmethod
    def of(cls, problems: Sequence[str]) -> Self:
        """Return the error for all problems of a configuration."""
        return cls("invalid network configuration: " + "; ".join(problems), problems=tuple(problems))


class InvalidNetns(CniError):
    """CNI_NETNS is absent, is not a network namespace, or is the host's own."""

    code = 8


class TryAgainLater(CniError):
    """A lock's deadline passed or the kernel was busy: the same call may work later."""

    code = 11


class NotAvailable(CniError):
    """STATUS: an ADD would fail now."""

    code = 50


class LimitedConnectivity(CniError):
    """STATUS: an ADD would fail now, and existing pods may be cut off too."""

    code = 51


class LinkFailure(CniError):
    """The kernel refused to show or to change a link, an address or a route."""

    code = 100


class InterfaceExists(CniError):
    """The interface name is taken in the sandbox."""

    code = 101


class ParentConflict(CniError):
    """The parent is in use in a way that this attachment cannot share."""

    code = 102


class UplinkMissing(CniError):
    """The interface that a parent needs does not exist."""

    code = 103


class UplinkDown(CniError):
    """The interface that a parent needs is down, and is not ours to bring up."""

    code = 104


class PoolExhausted(CniError):
    """No address is left in a range set."""

    code = 110


class AddressUnavailable(CniError):
    """A requested address is taken, reserved, or not ours to give."""

    code = 111


class DuplicateAttachment(CniError):
    """The container's interface already holds a lease."""

    code = 112


class CheckFailed(CniError):
    """CHECK found differences; details name every one."""

    code = 120


class DelegateFailed(CniError):
    """An IPAM plugin was not found, crashed, hung, or printed no JSON."""

    code = 130


class DelegateError(CniError):
    """The error that an IPAM plugin printed, passed on with its own code."""

    def __init__(self, code: int, msg: str, details: str = "") -> None:
        super().__init__(msg, details)
        self.own_code = code

    def to_json(self, cni_version: str) -> dict[str, Any]:  # type: ignore[explicit-override] # typing.override is of 3.12
        """Return the delegate's error unchanged."""
        return super().to_json(cni_version) | {"code": self.own_code}
