"""Excluded addresses cost the first ADD of a process, and no later one: counted in lines of Python."""

import ipaddress
import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from cni_core.plugin import ProcessIO, run
from cni_ipam import commands
from cni_ipam.ranges import Range, RangeSet, after, merge
from tests.store.ipam import Ipam

MANY = 4000
FIRST = int(ipaddress.ip_address("10.0.0.8"))
SCATTERED = [FIRST + 4 * number for number in range(MANY)]


def lines(work: Callable[[], object]) -> int:
    """Return how many lines of Python a function runs; each turn of a loop counts."""
    count = 0

    def trace(_frame: FrameType, event: str, _argument: object) -> Any:  # noqa: ANN401 - as sys.settrace has it
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def lines_of_a_warm_add(executable: Path, directory: Path, *excluded: str) -> int:
    ipam = Ipam(executable, directory, {"subnet": "10.0.0.0/8", "exclude": [*excluded]})
    for container in ("c1", "c2"):  # the second one reads what the first wrote about the pool
        assert ipam.warm("ADD", container).status == 0
    body = json.dumps(ipam.conf).encode()
    answers: list[str] = []
    io = ProcessIO(
        ipam.environment("ADD", "c3"), lambda: body, lambda _status, text: answers.append(text), print
    )

    count = lines(lambda: run("cni-ipam", lambda: commands, io, {}))

    assert '"address": "10.0.0.4/8"' in answers[0]
    return count


def test_a_warm_add_works_no_more_with_exclusions_than_without(executable: Path, tmp_path: Path) -> None:
    texts = [str(ipaddress.ip_address(number)) for number in SCATTERED]
    without = lines_of_a_warm_add(executable, tmp_path / "none")

    found = lines_of_a_warm_add(executable, tmp_path / "many", *texts)

    assert without > 100
    assert found <= without * 1.1


def test_the_address_given_last_is_found_among_many_exclusions_at_once() -> None:
    subnet = ipaddress.ip_network("10.0.0.0/8")
    reserved = tuple(merge((number, number) for number in SCATTERED))
    parts = (Range(subnet, FIRST + 8000, FIRST + 16000), Range(subnet, FIRST, FIRST + 7999))  # not in order
    range_set = RangeSet([part._replace(reserved=reserved) for part in parts])
    intervals = range_set.intervals
    assert len(intervals) == MANY
    next(after(intervals, 0))  # what is derived once

    for first, last in intervals[::500]:
        assert next(after(intervals, first)) == (first + 1, last)
        assert lines(partial(next, after(intervals, first))) < 100
