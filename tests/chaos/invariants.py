"""What holds whenever no call is under way."""

import contextlib
from collections import Counter
from collections.abc import Iterator

from tests.chaos.field import ATTACHED, EMPTY, UNKNOWN, Field, Slot
from tests.lab.waiting import wait_until
from tests.lab.world import Json

_MORE_DESCRIPTORS, _MORE_MIB = 4, 12
_THREADS_MOST = 7  # main, metrics, claims, routes, the announcer, and two workers that stay
_ENDING_S = 5.0  # for the threads of calls that have just been answered


def broken_promises(field: Field) -> Iterator[str]:
    """Yield what should not be, seen from outside."""
    inside = field.pod_links()
    yield from _pods(field, inside)
    yield from _twice(field, inside)
    yield from _records(field)
    yield from _host(field)
    yield from _ways(field)
    yield from _agent(field)


def _pods(field: Field, inside: dict[str, list[Json]]) -> Iterator[str]:
    for slot in field.slots:
        links = {link["ifname"]: link for link in inside[slot.pod.name]}
        there = links.get(slot.ifname)
        if slot.state == EMPTY and there:
            yield f"{slot.label}: there is an interface, though nothing is attached"
        if slot.state == ATTACHED and not slot.broken:
            wanted = {ip["address"] for ip in slot.result.get("ips", ())}
            if not there or wanted - _addresses(there):
                yield f"{slot.label}: {wanted} wanted, there is {there and _addresses(there)}"
    for pod, found in inside.items():
        names = {link["ifname"] for link in found}
        extra = names - {"lo"} - {slot.ifname for slot in field.slots if slot.pod.name == pod}
        if extra and not any(s.pod.name == pod and s.state == UNKNOWN for s in field.slots):
            yield f"{pod}: {extra} were left"


def _addresses(link: Json) -> set[str]:
    return {f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["scope"] == "global"}


def _twice(field: Field, inside: dict[str, list[Json]]) -> Iterator[str]:
    """Subnets of the networks are disjoint: an address is in one pod, whatever became of calls."""
    seen = Counter(text for links in inside.values() for link in links for text in _addresses(link))
    yield from (f"{text} is in {count} interfaces" for text, count in seen.items() if count > 1)
    given = Counter(
        ip["address"] for slot in field.slots if slot.state == ATTACHED for ip in slot.result.get("ips", ())
    )
    yield from (f"{text} was given {count} times" for text, count in given.items() if count > 1)


def _records(field: Field) -> Iterator[str]:
    recorded = field.recorded()
    live: dict[str, Slot] = {slot.key: slot for slot in field.slots if slot.state != EMPTY}
    for key, files in recorded.items():
        if key not in live:
            yield f"{key}: detached, but {files} are left"
    for key, slot in live.items():
        if slot.state == ATTACHED and key not in recorded:
            yield f"{slot.label}: attached, but nothing is recorded"


def _host(field: Field) -> Iterator[str]:
    known = {"lo", *field.foreign, *field.squatters}
    wanted = {name for slot in field.slots if slot.state != EMPTY and slot.net for name in slot.net.made}
    extra = set(field.host.links()) - known - wanted
    if extra and not any(slot.state == UNKNOWN for slot in field.slots):
        yield f"{sorted(extra)}: left on the host"
    yield from (f"{link}: somebody else's link was changed" for link in field.changed())


def _ways(field: Field) -> Iterator[str]:
    """The host has a route to each pod that asked for it, and none to what is gone."""
    near = [slot for slot in field.slots if slot.state != EMPTY and slot.net and slot.net.host_access]
    wanted = {
        ip["address"].partition("/")[0]
        for slot in near
        if slot.state == ATTACHED and not slot.broken
        for ip in slot.result.get("ips", ())
    }
    shims = [name for name in field.host.links() if name.startswith("host-")]
    there = {
        route["dst"]
        for name in shims
        for family in ("-4", "-6")
        for route in field.host.ip(family, "route", "show", "dev", name)
        if not route["dst"].startswith("fe80")
    }
    if wanted - there:
        yield f"{sorted(wanted - there)}: the host has no route to them"
    unsure = [slot.net for slot in near if slot.state == UNKNOWN or slot.broken]
    extra = [each for each in there - wanted if not any(net.has(each) for net in unsure if net)]
    if extra:
        yield f"{sorted(extra)}: the host has routes to what is gone"


def _agent(field: Field) -> Iterator[str]:
    """Descriptors and memory do not grow from the first step on; no thread stays but the known ones."""
    with contextlib.suppress(AssertionError):
        wait_until(lambda: field.weight().threads <= _THREADS_MOST, _ENDING_S)
    now = field.weight()
    first = field.lightest = field.lightest or now
    if now.descriptors > first.descriptors + _MORE_DESCRIPTORS:
        yield f"agent: {now.descriptors} descriptors, {first.descriptors} at first"
    if now.threads > _THREADS_MOST:
        yield f"agent: {now.threads} threads, {_THREADS_MOST} are known"
    if now.resident_mib > first.resident_mib + _MORE_MIB:
        yield f"agent: {now.resident_mib:.1f} MiB, {first.resident_mib:.1f} at first"
