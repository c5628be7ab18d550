"""Pins: addresses that the engine keeps for one attachment or owner, outside of the blocks.

They are requested by name, or belong to an owner that gets the same address again: a pod of a StatefulSet, a
virtual machine. Each is one object, claimed and given back like a block.
"""

import time

from cni_core.errors import AddressUnavailable, PoolExhausted
from cni_ipam import agreement, blocks, membership, objects
from cni_ipam.claims import Claims
from cni_ipam.engine import EngineRefused, Entry, Fields
from cni_ipam.holdings import HeldPin, Holdings
from cni_ipam.lease import Tenant, timestamp
from cni_ipam.ranges import Address, RangeSet


class Pins:
    """The pins of one pool, as this node claims them."""

    def __init__(self, claims: Claims) -> None:
        self._claims = claims
        self._engine = claims.engine
        self._place = claims.place

    def pin(self, range_set: RangeSet, requested: Address | None, tenant: Tenant) -> HeldPin:
        """Keep an address for an attachment alone: the requested one, or the one of its owner.

        Raises AddressUnavailable if another has it, PoolExhausted if no pinned address is free.
        """
        with self._claims.alone():
            if not membership.confirm(self._claims) and self._claims.is_doubtful():
                membership.settle(self._claims)
            self.give_back()  # what was released while the engine was away may be the one that is wanted
            taken = {at: entry for entry in self._pins() if (at := objects.pinned(entry))}
            if requested is None:
                return self._pin_for_owner(range_set, tenant, taken)
            number, version = int(requested), range_set.version
            return self._pin_one(version, number, tenant, taken.get((version, number)))

    def _pins(self) -> tuple[Entry, ...]:
        return self._engine.list("pin", self._place.pool).entries

    def _pin_for_owner(
        self, range_set: RangeSet, tenant: Tenant, taken: dict[tuple[int, int], Entry]
    ) -> HeldPin:
        version = range_set.version
        for (of, number), entry in taken.items():
            is_theirs = entry.fields.get("owner") == tenant.owner and not objects.is_declined(entry)
            if of == version and is_theirs and range_set.range_of(number):
                return self._pin_one(version, number, tenant, entry)
        for first, last in agreement.band(range_set, self._claims.cluster.pinned_of(version)):
            for number in range(first, last + 1):
                if (version, number) not in taken:
                    return self._pin_one(version, number, tenant, None)
        raise PoolExhausted(
            f"keep an address for {tenant.owner}: every pinned address of pool {self._place.pool} is taken"
        )

    def _pin_one(self, version: int, number: int, tenant: Tenant, entry: Entry | None) -> HeldPin:
        name = blocks.object_name(self._place.pool, version, number)
        fields = objects.pin_fields(self._place.pool, version, number, self._claims.me(), tenant)
        if entry is not None and not agreement.may_take(entry, tenant, self._claims.me().incarnation):
            raise AddressUnavailable(*agreement.taken_words(entry, self._place.pool))
        begun = HeldPin(version, number, "", tenant.key, tenant.keep_s, owner=str(fields["owner"]))
        self._claims.change(lambda holdings: holdings.with_pin(begun))  # a DEL after a kill finds it
        try:
            made = self._make(name, fields, entry)
            seen = self._check_block(version, number, made)
        except (AddressUnavailable, EngineRefused):  # but not EngineAway: it may be there
            self._forget(begun)
            raise
        held = begun._replace(revision=made.revision)
        self._claims.change(
            lambda holdings: holdings.with_pin(held)._replace(revision=max(holdings.revision, seen))
        )
        return held

    def _make(self, name: str, fields: Fields, entry: Entry | None) -> Entry:
        """Create the object of a pin, or take it over; raises EngineRefused if another node is faster."""
        if entry is None:
            made = self._engine.create("pin", name, fields)
        else:
            made = self._engine.replace(entry, fields)
        if made is not None:
            return made
        found = self._engine.read("pin", name)
        if found is None or not objects.is_same(found, fields):
            raise EngineRefused(f"pin {fields['address']}: another node was faster")
        return found

    def _check_block(self, version: int, number: int, pin: Entry) -> int:
        """Take a pin back if its address lies in another node's block; return the engine's revision.

        See Claims._take().
        """
        found = self._engine.list("block", self._place.pool)
        for entry in found.entries:
            block = objects.block_of(entry)
            if block is None or block.version != version or not block.start <= number <= block.interval[1]:
                continue
            if not objects.is_of(entry, self._claims.me().incarnation):
                self._engine.delete(pin)
                raise AddressUnavailable(
                    f"requested IP address {pin.fields['address']} is not available",
                    f"pool {self._place.pool}: node {entry.fields.get('node')} holds block {block.prefix}",
                )
        return found.revision

    def give_back(self, now: float | None = None) -> None:
        """Give back the pins that are released and due; raises EngineAway."""
        moment = time.clock_gettime(time.CLOCK_BOOTTIME) if now is None else now
        for pin in self._claims.file.read().pins:
            if pin.key is None and pin.until <= moment:
                self._delete(pin)
                self._forget(pin)
            elif pin.key is None and not pin.is_told:
                self._tell_released(pin)

    def _delete(self, pin: HeldPin) -> None:
        """Delete the object of a pin, unless its owner's next pod has taken it over on another node."""
        if pin.revision and self._engine.delete(Entry("pin", self._name(pin), {}, pin.revision)):
            return
        entry = self._engine.read("pin", self._name(pin))  # the ADD did not learn whether it was made
        is_ours = entry is not None and objects.is_of(entry, self._claims.me().incarnation)
        if entry is not None and is_ours and self._claims.file.read().pin(*pin.at) == pin:
            self._engine.delete(entry)

    def _name(self, pin: HeldPin) -> str:
        return blocks.object_name(self._place.pool, pin.version, pin.number)

    def _forget(self, pin: HeldPin) -> None:
        """Remove a pin from the holdings, unless a call on this node has just taken it over."""

        def change(holdings: Holdings) -> Holdings:
            is_same = holdings.pin(pin.version, pin.number) == pin
            return holdings.without_pin(pin.version, pin.number) if is_same else holdings

        self._claims.change(change)

    def _tell_released(self, pin: HeldPin) -> None:
        """Tell the other nodes that the address is not in use, so that its owner may have it there."""
        entry = self._engine.read("pin", self._name(pin))
        if entry is None or entry.revision != pin.revision:
            self._forget(pin)
            return
        made = self._engine.replace(entry, {**entry.fields, "container": "", "released": timestamp()})
        if made is not None:
            told = pin._replace(revision=made.revision, is_told=True)
            self._claims.change(lambda now: now.with_pin(told) if pin in now.pins else now)
