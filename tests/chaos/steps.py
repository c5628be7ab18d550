"""One step: calls for some of the slots at once, a fault in the middle, and what each outcome may be."""

import random
import time
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from tests.chaos.calls import KILLED, NO_ANSWER, Call, Outcome
from tests.chaos.faults import FAULTS, Excused, nothing
from tests.chaos.field import ATTACHED, EMPTY, UNKNOWN, Field, Slot
from tests.chaos.networks import NETS

CALL_S = 60
AT_ONCE = 12
TRY_AGAIN, FULL, SHARED = 11, 110, 102
_CODES = 999
_BEFORE_NEXT_S = 0.03


class Started(NamedTuple):
    """A call, the slot it is for, and the slot's state before it."""

    slot: Slot
    verb: str
    call: Call
    before: str
    cold: bool


class During(NamedTuple):
    """What may be the cause of errors in a step: the fault, how many pods a network was asked for, and how
    many ways to its node a pod."""

    excused: Excused
    crowd: Counter[str]
    agent_lost: bool


def sweep(field: Field, dice: random.Random) -> Iterator[str]:
    """Have a network's GC clean up instead of DELs, and ask for its STATUS; yield what should not be."""
    net = dice.choice(NETS)
    on_it = [slot for slot in field.slots if slot.net == net]
    valid = [
        {"containerID": slot.container, "ifname": slot.ifname} for slot in on_it if slot.state == ATTACHED
    ]
    conf = {**net.conf, "cni.dev/valid-attachments": valid}
    for verb in ("GC", "STATUS"):
        call = Call(field.host, field.host.find("cni-vlan"), verb, conf)
        field.operations[verb] += 1
        outcome = call.end(time.monotonic() + CALL_S)
        if outcome.code:
            yield f"{verb} of {net.name}: {outcome.text}"
    recorded = field.recorded()
    for slot in on_it:
        if slot.state == UNKNOWN and slot.key in recorded:
            yield f"GC of {net.name} left {recorded[slot.key]} of {slot.label}"


def step(field: Field, dice: random.Random, *, calm: bool = False) -> list[str]:
    """Run one step; return what should not be."""
    name = "" if calm else dice.choice([*FAULTS, *[""] * 3])
    fault = FAULTS[name] if name else nothing
    field.faults[name] += bool(name)
    slots = dice.sample(field.slots, AT_ONCE)
    early = [] if calm else slots[: AT_ONCE // 2]
    started = [_start(field, slot, dice) for slot in early]
    with fault(field, dice) as excused:
        for slot in slots[len(early) :]:
            started.append(_start(field, slot, dice))
            time.sleep(dice.uniform(0, _BEFORE_NEXT_S))
        if not calm and dice.random() < 0.5:
            _kill_some(field, started, dice)
        crowd = Counter(slot.net.name for slot in field.slots if slot.net)
        crowd += Counter(slot.pod.name for slot in field.slots if slot.net and slot.net.is_way_to_node)
        during = During(excused, crowd, agent_lost=name == "agent killed")
        wrong = list(_outcomes(field, started, during))
        wrong += [f"{link}: somebody else's link was changed" for link in field.changed()]
    return [f"{text} [fault: {name or 'none'}]" for text in wrong]


def _outcomes(field: Field, started: list[Started], during: During) -> Iterator[str]:
    """Wait for the calls; yield what should not be."""
    deadline = time.monotonic() + CALL_S
    for one in started:
        outcome = one.call.end(deadline)
        field.codes["killed" if outcome.code == KILLED else str(outcome.code)] += 1
        yield from _judge(one, outcome, during)


def _start(field: Field, slot: Slot, dice: random.Random) -> Started:
    """Start what a runtime would call next for a slot."""
    before = slot.state
    if before == EMPTY:
        verb = "ADD"
        other = next(s for s in field.slots if s.pod == slot.pod and s != slot)
        slot.container = other.container if other.state != EMPTY else field.next_container()
        slot.net, slot.broken, slot.result = dice.choice(NETS), False, {}
        slot.state = UNKNOWN
    elif before == UNKNOWN:
        verb = "DEL"
    else:
        verb = dice.choice(("DEL", "DEL", "DEL", "CHECK", "ADD"))
    cold = dice.random() < 0.03
    return Started(slot, verb, start(field, slot, verb, cold=cold), before, cold)


def start(field: Field, slot: Slot, verb: str, *, cold: bool = False) -> Call:
    """Start a call for a slot."""
    assert slot.net is not None
    conf = {**slot.net.conf, "prevResult": slot.result} if verb == "CHECK" else slot.net.conf
    program = str(field.one_shot / "cni-vlan") if cold else field.host.find("cni-vlan")
    field.operations[f"{verb}{', one-shot' if cold else ''}"] += 1
    variables = {"CNI_CONTAINERID": slot.container, "CNI_IFNAME": slot.ifname, "CNI_NETNS": slot.pod.netns}
    return Call(field.host, program, verb, slot.net.conf if verb != "CHECK" else conf, **variables)


def _kill_some(field: Field, started: list[Started], dice: random.Random) -> None:
    for one in dice.sample(started, 2):
        time.sleep(dice.uniform(0, 0.05))
        field.faults["one-shot killed" if one.cold else "launcher killed"] += one.call.kill()


def _judge(one: Started, outcome: Outcome, during: During) -> Iterator[str]:
    """Set the slot's state by an outcome; yield what should not be."""
    slot, code = one.slot, outcome.code
    if code == NO_ANSWER or code >= _CODES:
        yield f"{one.verb} {slot.label}: {outcome.text}"
    lost = code in {KILLED, NO_ANSWER} or (during.agent_lost and code == TRY_AGAIN)
    if code == 0:
        yield from _succeeded(one, outcome)
    elif lost:
        slot.state = slot.state if one.verb == "CHECK" else UNKNOWN
    else:
        if not (during.excused(slot) or _explained(one, code, during.crowd)):
            yield f"{one.verb} {slot.label} failed without a cause: {outcome.text}"
        _failed(one)


def _succeeded(one: Started, outcome: Outcome) -> Iterator[str]:
    slot = one.slot
    if one.verb == "DEL":
        slot.state, slot.net = EMPTY, None
    elif one.verb == "ADD":
        if one.before == ATTACHED and not slot.broken:
            yield f"ADD {slot.label}: a second one succeeded"
        slot.state, slot.result = ATTACHED, outcome.document


def _failed(one: Started) -> None:
    """An ADD that says that it failed has left nothing; one for what is attached already changed nothing."""
    if one.verb == "ADD" and one.before == EMPTY:
        one.slot.state, one.slot.net = EMPTY, None
    elif one.verb == "DEL":
        one.slot.state = UNKNOWN


def _explained(one: Started, code: int, crowd: Counter[str]) -> bool:
    """Tell whether an error is the right answer."""
    net = one.slot.net
    assert net is not None
    if one.verb == "ADD" and one.before == ATTACHED:
        return True
    if one.verb == "CHECK" and one.slot.broken:
        return True
    if one.verb == "ADD" and code == SHARED and net.is_way_to_node and crowd[one.slot.pod.name] > 1:
        return True  # one interface of a pod may have it
    return one.verb == "ADD" and code in {FULL, SHARED} and crowd[net.name] > net.room
