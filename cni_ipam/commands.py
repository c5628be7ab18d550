"""The verbs of cni-ipam: a configuration in, a result out; the work is done in cni_ipam.leasing."""

from typing import TYPE_CHECKING

from cni_core import waiting
from cni_core.call import Call, valid_attachments
from cni_core.context import Context
from cni_core.errors import CheckFailed, CniError, InvalidConfig, NotAvailable, TryAgainLater
from cni_core.result import DNS, IPConfig, Result, Route
from cni_core.result_json import parse_result
from cni_ipam import leasing
from cni_ipam.lease import Tenant
from cni_ipam.lease_store import LeaseStore
from cni_ipam.place import place_of
from cni_ipam.stores import open_store

_STATUS_S = 1.0  # for the pool's lock: a runtime asks for STATUS every few seconds

if TYPE_CHECKING:
    from cni_ipam.config import AllocationRequest


def add(call: Call, context: Context) -> Result:
    """Lease one address from each range set, or none at all."""
    from cni_ipam import config

    request = config.parse(call, context.warn)
    dns = _dns(request)
    tenant = Tenant(call.key, call.network, call.pod, request.owner, request.keep_s if request.owner else 0)
    store = open_store(request.place, request.cluster, context.warn)
    granted = store.transaction(lambda pool: leasing.lease(pool, tenant, request))
    for text in granted.warnings:
        context.warn(text)
    is_exported = bool(call.conf.get("export"))  # of the network: few need prefixes
    ips = tuple(
        IPConfig(choice.cidr, choice.range.gateway, prefixes=store.prefixes(choice) if is_exported else ())
        for choice in granted.choices
    )
    routes = request.routes + (_implied_defaults(ips) if request.implied_default else ())
    return Result((), ips, routes, dns)


def _dns(request: "AllocationRequest") -> DNS:
    if not request.resolv_conf:
        return request.dns
    from cni_ipam.resolvconf import read_resolv_conf

    return read_resolv_conf(request.resolv_conf)


def _implied_defaults(ips: tuple[IPConfig, ...]) -> tuple[Route, ...]:
    return tuple(Route(ip.family.default, ip.gateway, implied=True) for ip in ips if ip.gateway)


def _used_store(call: Call) -> LeaseStore | None:
    """Return the store that an unvalidated configuration names, None if nothing was ever leased from it."""
    place = place_of(call.conf, call.network)
    store = open_store(place) if place is not None else None
    return store if store is not None and store.exists() else None


def delete(call: Call, _context: Context) -> None:
    """Release the attachment's lease, if it has one."""
    store = _used_store(call)
    if store is not None:
        store.transaction(lambda pool: leasing.release(pool, call.key, _networks(call, store)))


def _networks(call: Call, store: LeaseStore) -> set[str]:
    """Return the networks whose leases the call concerns.

    A damaged lease does not name its network: it is this one's if the pool is this network's own.
    """
    return {call.network, ""} if store.place.pool == call.network else {call.network}


def check(call: Call, context: Context) -> None:
    """Raise CheckFailed unless the attachment holds every address of ours in prevResult."""
    from cni_ipam import config

    request = config.parse(call, context.warn)
    document = call.conf.get("prevResult")
    if document is None:
        raise InvalidConfig("required prevResult missing")
    expected = parse_result(document, call.cni_version)
    store = open_store(request.place)
    held = store.lease_of(call.key)
    if held is None:
        raise CheckFailed(f"check lease of {call.key.text}: it holds no address in {request.place.pool}")
    promised = {ip.address for ip in expected.ips}
    found = [f"address {a} is leased but not in prevResult" for a in held.addresses if a not in promised]
    found += [f"lease of {a} is missing" for a in held.addresses if not store.holds(held, a)]
    if found:
        raise CheckFailed(f"check lease of {call.key.text}: {'; '.join(found)}")


def status(call: Call, context: Context) -> None:
    """Raise NotAvailable if this node cannot lease addresses until somebody acts; warn if none is free."""
    from cni_ipam import config

    request = config.parse(call, context.warn)
    try:
        store = open_store(request.place, request.cluster, context.warn)
        with waiting.briefly(_STATUS_S):
            room = store.transaction(lambda pool: leasing.room(pool, call.network, request))
        warnings = room.warnings
        if room.full and not store.can_grow(request.range_sets) and not request.may_be_full:
            raise room.full[0]
    except TryAgainLater as error:  # somebody is leasing from it
        warnings = (f"pool {request.place.pool}: {error.msg}",)
    except CniError as error:
        raise NotAvailable(f"pool {request.place.pool}: {error.msg}", error.details) from error
    for text in warnings:
        context.warn(text)


def gc(call: Call, _context: Context) -> None:
    """Release the leases of this network's attachments that are not valid; without a list, none."""
    valid = valid_attachments(call.conf)
    store = _used_store(call)
    if valid is None or store is None:
        return
    store.transaction(lambda pool: leasing.collect(pool, _networks(call, store), valid))
