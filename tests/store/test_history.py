"""Many processes at once, some killed: what they saw has an order in which one after the other sees the same.

The check is that of Wing and Gong, done call by call: after each answer, only those states of a naive pool
are kept which some order of the calls under way leads to. A killed call may have had its effect or not.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.store.ipam import Ipam

ROOT = Path(__file__).parents[2]
WORKERS, CALLS = 6, 100
ROOM = [f"10.0.0.{number}/28" for number in range(2, 8)]  # for 12 pods: often it is full


class Call(NamedTuple):
    start: int
    end: int
    verb: str
    pod: str
    code: int | None  # None: killed before it answered
    address: str | None


class Pool(NamedTuple):
    """A naive pool."""

    held: frozenset[tuple[str, str]] = frozenset()
    last: str | None = None

    def expected(self) -> str | None:
        taken = {address for _pod, address in self.held}
        at = ROOM.index(self.last) + 1 if self.last else 0
        return next((address for address in ROOM[at:] + ROOM[:at] if address not in taken), None)

    def after(self, call: Call) -> Iterator["Pool"]:
        """Yield the states in which a call may leave the pool; none if it cannot have been answered so."""
        mine = {item for item in self.held if item[0] == call.pod}
        given = self.expected()
        if call.code is None:
            yield self
        if call.verb == "ADD":
            if call.code == 110 and given is None:
                yield self
            if given and call.code in {None, 0} and not mine and call.address in {None, "", given}:
                held = self.held | {(call.pod, given)}
                yield Pool(held, given)
                if call.code is None:
                    yield Pool(held, self.last)  # killed before the cursor moved
        elif call.verb == "DEL":
            yield Pool(self.held - mine, self.last)
        elif call.code is not None and (call.code == 0) == (mine == {(call.pod, call.address)}):
            yield self


class Possible(NamedTuple):
    """One way things may have gone: the pool's state, and which of the calls under way have had effect."""

    pool: Pool
    done: frozenset[Call] = frozenset()


def impossible(history: Iterable[Call]) -> Call | None:
    """Return the first call whose answer no order explains, None if there is none."""
    moments = sorted(
        moment
        for call in history
        for moment in ((call.start, 0, call), (call.end, 1, call))
    )  # fmt: skip
    ways, under_way = {Possible(Pool())}, set[Call]()
    for _time, ended, call in moments:
        if not ended:
            under_way.add(call)
            continue
        ways = set(explained(ways, under_way, call))
        under_way.discard(call)
        if not ways:
            return call
    return None


def explained(ways: set[Possible], under_way: set[Call], call: Call) -> Iterator[Possible]:
    """Yield the ways in which a call that ended has had its effect."""
    seen, stack = set(ways), list(ways)
    while stack:
        way = stack.pop()
        if call in way.done:
            yield Possible(way.pool, way.done - {call})
            continue
        for other in under_way - way.done:
            for pool in way.pool.after(other):
                further = Possible(pool, way.done | {other})
                if further not in seen:
                    seen.add(further)
                    stack.append(further)


def record(ipam: Ipam) -> list[Call]:
    workers = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.store.worker", name, str(CALLS), json.dumps(ipam.conf)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in "abcdef"[:WORKERS]
    ]
    printed = [worker.communicate(timeout=300)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * WORKERS
    return [Call(**json.loads(line)) for text in printed for line in text.splitlines()]


def test_a_wrong_history_is_found_out() -> None:
    one = Call(0, 10, "ADD", "a", 0, ROOM[0])
    assert impossible([one, Call(5, 15, "ADD", "b", 0, ROOM[1])]) is None
    assert impossible([one, Call(20, 30, "ADD", "b", 0, ROOM[0])]) is not None
    assert impossible([one, Call(20, 30, "CHECK", "a", 120, ROOM[0])]) is not None
    assert impossible([one, Call(20, 30, "ADD", "b", 110, None)]) is not None


def test_every_answer_is_explained_by_some_order(executable: Path, tmp_path: Path) -> None:
    ipam = Ipam(executable, tmp_path / "leases", {"subnet": "10.0.0.0/28", "ipRange": "10.0.0.0/29"})

    history = record(ipam)

    assert len(history) >= WORKERS * CALLS
    codes = {(call.verb, call.code) for call in history}
    assert codes >= {("ADD", 0), ("ADD", None), ("ADD", 110), ("DEL", 0), ("DEL", None), ("CHECK", 0)}
    assert impossible(history) is None
