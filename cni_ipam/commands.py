"""The verbs of cni-ipam: the imperative shell around config, allocator and store."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cni_core.call import Call, section, valid_attachments
from cni_core.context import Context
from cni_core.errors import (
    CheckFailed,
    CniError,
    DuplicateAttachment,
    InvalidConfig,
    NotAvailable,
)
from cni_core.result import DNS, IPConfig, Result, Route, parse_result
from cni_ipam import allocator, defaults, poolfile
from cni_ipam.allocator import Choice
from cni_ipam.owner import Owner, timestamp
from cni_ipam.ranges import RangeSet
from cni_ipam.store import DATA_DIR, Store

if TYPE_CHECKING:
    from cni_ipam.config import Request


def add(call: Call, context: Context) -> Result:
    """Lease one address from each range set, or none at all."""
    from cni_ipam import config

    request = config.parse(call, context.warn)
    dns = _dns(request)
    store = Store(request.data_dir, request.pool)
    with store.locked():
        range_sets = _range_sets(call, context, request)
        held = store.owner(call.key.text)
        with _worded_as_by_host_local(request):
            wanted = allocator.assign(range_sets, request.requested)
        with _worded_as_by_host_local(request, 0):
            if held is not None:
                first, *_others = held.addresses or ("?",)
                raise DuplicateAttachment(
                    f"{first.partition('/')[0]} has been allocated to {call.container_id},"
                    " duplicate allocation is not allowed"
                )
        choices = []
        for at, (range_set, address) in enumerate(zip(range_sets, wanted, strict=True)):
            with _worded_as_by_host_local(request, at):
                cursor = store.cursor(range_set.identity)
                choices.append(allocator.choose(range_set, address, store, cursor))
        store.write(_owner(call, choices))
        for range_set, address, choice in zip(range_sets, wanted, choices, strict=True):
            if address is None:
                store.move_cursor(range_set.identity, choice.cidr)
    ips = tuple(IPConfig(choice.cidr, choice.range.gateway) for choice in choices)
    routes = request.routes + (_implied_defaults(ips) if request.implied_default else ())
    return Result((), ips, routes, dns)


@contextlib.contextmanager
def _worded_as_by_host_local(request: "Request", range_set: int | None = None) -> Iterator[None]:
    """Put an error of the block into host-local's words where its schema is used: people match them."""
    try:
        yield
    except CniError as error:
        if request.host_local:
            error.msg = (
                error.msg if range_set is None else f"failed to allocate for range {range_set}: {error.msg}"
            )
            error.details = ""
        raise


def _range_sets(call: Call, context: Context, request: "Request") -> tuple[RangeSet, ...]:
    """Return the range sets of a network, under its pool's lock, and record its subnets."""
    if not request.range_sets:
        return defaults.default_range_sets(request.data_dir, request.pool, call.network, ipv6=request.ipv6)
    if poolfile.record(request.data_dir, request.pool, call.network, request.range_sets):
        for text in poolfile.overlaps(request.data_dir, request.pool, request.range_sets):
            context.warn(f"{text}: give both networks the same pool")
    return request.range_sets


def _dns(request: "Request") -> DNS:
    if not request.resolv_conf:
        return request.dns
    from cni_ipam.resolvconf import read_resolv_conf

    return read_resolv_conf(request.resolv_conf)


def _owner(call: Call, choices: list[Choice]) -> Owner:
    pod = f"{call.pod.label} {call.pod.uid}".strip()
    addresses = tuple(choice.cidr for choice in choices)
    return Owner(call.container_id, call.ifname, call.network, addresses, pod, timestamp())


def _implied_defaults(ips: tuple[IPConfig, ...]) -> tuple[Route, ...]:
    return tuple(Route(ip.family.default, ip.gateway, implied=True) for ip in ips if ip.gateway)


def _store(call: Call) -> Store | None:
    """Return the store of a network from its bare JSON: DEL and GC must not fail on the rest.

    None if its pool or directory is none in which anything could ever have been leased.
    """
    from cni_ipam import names

    data_dir = section(call.conf, "ipam", "dataDir") or DATA_DIR
    pool = section(call.conf, "ipam", "pool") or call.network
    if names.pool_problem(pool) or names.data_dir_problem(data_dir):
        return None
    return Store(data_dir, pool)


def delete(call: Call, _context: Context) -> None:
    """Release what the attachment holds; fine if that is nothing."""
    store = _store(call)
    if store is None or not store.exists():
        return
    with store.locked():
        held = store.owner(call.key.text)
        if held is not None:
            store.remove(held)


def check(call: Call, context: Context) -> None:
    """Raise CheckFailed unless the attachment holds every address of ours in prevResult."""
    from cni_ipam import config

    request = config.parse(call, context.warn)
    document = call.conf.get("prevResult")
    if document is None:
        raise InvalidConfig("required prevResult missing")
    expected = parse_result(document, call.cni_version)
    store = Store(request.data_dir, request.pool)
    held = store.owner(call.key.text)
    if held is None:
        raise CheckFailed(f"check lease of {call.key.text}: it holds no address in {request.pool}")
    promised = {ip.address for ip in expected.ips}
    found = [f"address {a} is leased but not in prevResult" for a in held.addresses if a not in promised]
    found += [f"lease of {a} is missing" for a in held.addresses if not store.holds(held, a)]
    if found:
        raise CheckFailed(f"check lease of {call.key.text}: {'; '.join(found)}")


def status(call: Call, context: Context) -> None:
    """Raise NotAvailable if no address could be leased."""
    from cni_ipam import config

    request = config.parse(call, context.warn)
    store = Store(request.data_dir, request.pool)
    try:
        with store.locked():
            store.check_writable()
            for range_set in _range_sets(call, context, request):
                allocator.allocate(range_set, store, store.cursor(range_set.identity))
        for text in poolfile.overlaps(request.data_dir, request.pool, request.range_sets):
            context.warn(f"{text}: give both networks the same pool")
    except CniError as error:
        raise NotAvailable(f"pool {request.pool}: {error.msg}", error.details) from error


def gc(call: Call, _context: Context) -> None:
    """Release what attachments of this network hold that are not valid; no list is no information."""
    keys = valid_attachments(call.conf)
    valid = None if keys is None else {key.text for key in keys}
    store = _store(call)
    if valid is None or store is None or not store.exists():
        return
    # Whose a damaged lease is, only the pool can tell, if it is this network's own.
    ours = {call.network, ""} if store.pool == call.network else {call.network}
    with store.locked():
        for owner in list(store.owners()):
            if owner.network in ours and owner.key not in valid:
                store.remove(owner)
