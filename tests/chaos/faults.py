"""What goes wrong, one thing at a time: how it begins, whom it excuses, how it is made good."""

import contextlib
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from tests.chaos.field import EMPTY, Field, Slot
from tests.chaos.networks import NETS, UPLINKS

YEAR_S = 365 * 86400
Excused = Callable[[Slot], bool]
# Yields whose calls may fail meanwhile; the body runs while it is wrong.
Fault = Callable[[Field, random.Random], AbstractContextManager[Excused]]


def nobody(_slot: Slot) -> bool:
    return False


def everybody(_slot: Slot) -> bool:
    return True


def _those_on(names: set[str]) -> Excused:
    return lambda slot: slot.net is not None and slot.net.name in names


@contextmanager
def nothing(_field: Field, _dice: random.Random) -> Iterator[Excused]:
    yield nobody


@contextmanager
def agent_killed(field: Field, _dice: random.Random) -> Iterator[Excused]:
    field.kill_agent()
    yield everybody
    field.start_agent()


@contextmanager
def agent_restarted(field: Field, _dice: random.Random) -> Iterator[Excused]:
    """Nothing may fail: the successor listens before the one before it stops."""
    field.start_agent()
    yield nobody


@contextmanager
def uplink_flaps(field: Field, dice: random.Random) -> Iterator[Excused]:
    uplink = dice.choice(UPLINKS)
    for _ in range(dice.randrange(1, 4)):
        field.host.ip("link", "set", uplink, "down")
        time.sleep(dice.uniform(0, 0.1))
        field.host.ip("link", "set", uplink, "up")
    yield _those_on({net.name for net in NETS if net.chain[0] == uplink})


@contextmanager
def parent_removed(field: Field, dice: random.Random) -> Iterator[Excused]:
    """An operator removes a link of ours, and with it the interfaces of the pods on it."""
    there = sorted({name for slot in field.slots if slot.net for name in slot.net.made})
    victim = dice.choice(there) if there else ""
    if victim:
        field.host.run("ip", "link", "delete", victim, check=False)
    hit = {net.name for net in NETS if victim in net.made}
    yield _those_on(hit)
    for slot in filter(_those_on(hit), field.slots):
        slot.broken = True


@contextmanager
def name_taken(field: Field, dice: random.Random) -> Iterator[Excused]:
    """Somebody else's link has a name that we would give."""
    busy = {name for slot in field.slots if slot.state != EMPTY and slot.net for name in slot.net.made}
    free = sorted({net.chain[-1] for net in NETS if net.made} - busy)
    name = dice.choice(free) if free else ""
    made = name and not field.host.run("ip", "link", "add", name, "type", "dummy", check=False).returncode
    if made:
        field.squat(name)
    yield _those_on({net.name for net in NETS if name in net.made})
    if made:
        field.leave(name)


@contextmanager
def disk_full(field: Field, _dice: random.Random) -> Iterator[Excused]:
    filler = field.path("/var/lib/cni/filler")
    descriptor = os.open(filler, os.O_CREAT | os.O_WRONLY)
    with contextlib.suppress(OSError):
        while True:
            os.write(descriptor, bytes(65536))
    yield everybody
    os.close(descriptor)
    filler.unlink()


@contextmanager
def namespace_vanishes(field: Field, dice: random.Random) -> Iterator[Excused]:
    pod = dice.choice(field.slots).pod
    field.host.run("ip", "netns", "delete", pod.name)
    yield lambda slot: slot.pod == pod
    field.host.namespace(pod.name)
    for slot in field.slots:
        slot.broken = slot.broken or slot.pod == pod


@contextmanager
def clock_jumps(_field: Field, dice: random.Random) -> Iterator[Excused]:
    """The node is a virtual machine: its clock is its own."""
    time.clock_settime(time.CLOCK_REALTIME, time.time() + dice.choice((-1, 1)) * dice.uniform(1, YEAR_S))
    yield nobody


FAULTS: dict[str, Fault] = {
    "agent killed": agent_killed,
    "agent restarted": agent_restarted,
    "uplink flaps": uplink_flaps,
    "parent removed": parent_removed,
    "name taken": name_taken,
    "disk full": disk_full,
    "namespace vanishes": namespace_vanishes,
    "clock jumps": clock_jumps,
}
