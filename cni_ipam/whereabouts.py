"""Reading the leases of whereabouts: its IPPool objects, as `kubectl get ippools -o json` prints them. Pure.

An allocation is keyed by the offset of its address from the address in `spec.range`; it has the container,
the interface and the pod (k8snetworkplumbingwg/whereabouts, pkg/storage/kubernetes).
"""

import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from cni_core.call import AttachmentKey
from cni_core.document import NAME
from cni_core.errors import DecodingFailure
from cni_core.ifname import ifname_problem

_FIRST_IFNAME = "eth0"  # earlier releases did not record it


class Allocation(NamedTuple):
    """One address that whereabouts has given out; `pod` is `namespace/name`, "" if unknown."""

    address: str
    key: AttachmentKey
    pod: str


def allocations(document: object) -> list[Allocation]:
    """Return the allocations of an IPPool or a list of them; raises DecodingFailure."""
    if not isinstance(document, dict):
        raise DecodingFailure("read IPPools: not a JSON object")
    items = document.get("items", [document])
    if not isinstance(items, list):
        raise DecodingFailure("read IPPools: its items are not a list")
    return [found for item in items for found in _of_pool(item)]


def _of_pool(pool: Any) -> Iterator[Allocation]:  # noqa: ANN401 - JSON
    try:
        spec = pool["spec"]
        first = ipaddress.ip_interface(spec["range"]).ip
        given: Mapping[str, Any] = spec.get("allocations") or {}
        for offset, entry in given.items():
            yield _allocation(str(first + int(offset)), entry)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DecodingFailure(f"read IPPools: {type(error).__name__}: {error}") from error


def _allocation(address: str, entry: Mapping[str, Any]) -> Allocation:
    container = str(entry["id"])
    if not NAME.fullmatch(container):
        raise ValueError(f"{address}: container {container!r}")
    ifname = str(entry.get("ifname") or _FIRST_IFNAME)
    if ifname_problem(ifname):
        raise ValueError(f"{address}: interface {ifname!r}")
    key = AttachmentKey(container, ifname)
    return Allocation(address, key, str(entry.get("podref") or ""))
