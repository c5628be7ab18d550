"""Ranges and the allocator against a naive model over a set of addresses."""

import ipaddress
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_core.errors import AddressUnavailable
from cni_ipam.allocator import Choice, assign, choose, exhausted, search
from cni_ipam.place import Place
from cni_ipam.ranges import Range, RangeSet, after, clip, count, edges, first_usable, gaps, merge
from tests.store.memory import MemoryStore


def memory_of(taken: Iterable[int] = ()) -> MemoryStore:
    return MemoryStore(Place("lan"), taken=taken)


def find(range_set: RangeSet, memory: MemoryStore, cursor: int | None) -> Choice | None:
    """Search as a verb does: what turns out to be full is marked."""
    found = search(range_set, memory, cursor)
    memory.mark_full(range_set, found.full)
    return found.choice


def number(text: str) -> int:
    return int(ipaddress.ip_address(text))


def range_of(subnet: str, first: str = "", last: str = "", gateway: str = "", reserved: str = "") -> Range:
    net = ipaddress.ip_network(subnet)
    holes = [(n, n) for n in edges(net)] + [(number(text), number(text)) for text in reserved.split()]
    if gateway:
        holes.append((number(gateway), number(gateway)))
    low = number(first) if first else int(net[0])
    high = number(last) if last else int(net[-1])
    return Range(net, low, high, gateway, tuple(merge(holes)))


def give(range_set: RangeSet, memory: MemoryStore, count_: int, cursor: int | None = None) -> list[str]:
    found = []
    for _ in range(count_):
        choice = find(range_set, memory, cursor)
        assert choice is not None
        cursor = choice.number
        memory.taken_by_hand.add(cursor)
        found.append(choice.cidr)
    return found


def test_addresses_go_upwards_from_the_start_of_the_range() -> None:
    only = RangeSet((range_of("192.168.32.0/24", "192.168.32.128", "192.168.32.255", "192.168.32.254"),))

    found = give(only, memory_of(), 126)

    assert found[0] == "192.168.32.128/24"  # a range's own first address is usable
    assert found[-1] == "192.168.32.253/24"  # gateway and broadcast never are
    full = memory_of(range(number("192.168.32.128"), number("192.168.32.255")))
    assert find(only, full, None) is None
    assert "192.168.32.128-192.168.32.254" in exhausted(only, "lan").msg


def test_a_released_address_is_not_given_again_at_once() -> None:
    only = RangeSet((range_of("10.0.0.0/29", gateway="10.0.0.1"),))
    memory = memory_of()
    give(only, memory, 3)
    memory.taken_by_hand.remove(number("10.0.0.3"))

    assert give(only, memory, 3, number("10.0.0.4")) == ["10.0.0.5/29", "10.0.0.6/29", "10.0.0.3/29"]


@pytest.mark.parametrize(
    ("subnet", "expected"),
    [
        ("10.0.0.0/31", ["10.0.0.0/31", "10.0.0.1/31"]),
        ("10.0.0.7/32", ["10.0.0.7/32"]),
        ("10.0.0.0/30", ["10.0.0.1/30", "10.0.0.2/30"]),
        ("2001:db8::/127", ["2001:db8::/127", "2001:db8::1/127"]),
        ("2001:db8::/126", ["2001:db8::1/126", "2001:db8::2/126", "2001:db8::3/126"]),
    ],
)
def test_small_subnets(subnet: str, expected: list[str]) -> None:
    only = RangeSet((range_of(subnet),))

    assert give(only, memory_of(), len(expected)) == expected


def test_the_next_subnet_follows_when_one_is_full() -> None:
    both = RangeSet(
        (range_of("10.0.0.0/30", gateway="10.0.0.1"), range_of("10.0.1.0/30", gateway="10.0.1.1"))
    )

    assert give(both, memory_of(), 2) == ["10.0.0.2/30", "10.0.1.2/30"]


@pytest.mark.parametrize(
    ("subnet", "gateway"),
    [
        ("192.168.1.0/24", "192.168.1.1"),
        ("2001:db8::/64", "2001:db8::1"),
        ("10.0.0.0/31", ""),
        ("10.0.0.0/32", ""),
    ],
)
def test_the_gateway_that_is_implied(subnet: str, gateway: str) -> None:
    assert first_usable(ipaddress.ip_network(subnet)) == gateway


def test_a_nearly_full_subnet_is_searched_without_looking_at_full_blocks() -> None:
    net = range_of("10.0.0.0/16", gateway="10.0.0.1")
    free = number("10.0.200.17")
    memory = memory_of(n for n in range(net.first, net.last + 1) if n != free)
    whole = RangeSet((net,))
    memory.mark_full(
        whole, [block for block in range(net.first >> 8, (net.last >> 8) + 1) if block != free >> 8]
    )

    assert find(whole, memory, None) == Choice(free, net)
    assert memory.looked == 1


def test_a_block_found_full_is_marked() -> None:
    net = range_of("10.0.0.0/22", gateway="10.0.0.1")
    memory = memory_of(range(net.first, net.first + 512))

    found = search(RangeSet((net,)), memory, None)

    assert found.choice is not None
    assert found.choice.cidr == "10.0.2.0/22"
    assert found.full == (net.first >> 8, (net.first >> 8) + 1)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ("10.0.0.1", "is subnet's gateway"),
        ("10.0.0.0", "network or broadcast"),
        ("10.0.0.255", "network or broadcast"),
        ("10.0.0.9", "is excluded"),
        ("10.0.0.5", "is not available in range set"),
    ],
)
def test_a_requested_address_that_cannot_be(request_: str, words: str) -> None:
    only = RangeSet((range_of("10.0.0.0/24", gateway="10.0.0.1", reserved="10.0.0.9"),))

    with pytest.raises(AddressUnavailable, match=words):
        choose(only, ipaddress.ip_address(request_), memory_of([number("10.0.0.5")]), None)


def test_a_requested_address_may_be_outside_the_range() -> None:
    only = RangeSet((range_of("10.0.0.0/24", "10.0.0.100", "10.0.0.200"),))

    found = choose(only, ipaddress.ip_address("10.0.0.5"), memory_of(), None).choice

    assert found is not None
    assert found.cidr == "10.0.0.5/24"


def test_requests_go_to_the_sets_that_hold_them() -> None:
    sets = [RangeSet((range_of("10.0.0.0/24"),)), RangeSet((range_of("2001:db8::/64"),))]

    assert list(map(str, assign(sets, ["2001:db8::5"]))) == ["None", "2001:db8::5"]
    with pytest.raises(AddressUnavailable, match=r"failed to allocate all requested IPs: 10.9.9.9"):
        assign(sets, ["10.9.9.9"])
    with pytest.raises(AddressUnavailable, match=r"IPs: 10\.0\.0\.6"):
        assign(sets, ["10.0.0.5", "10.0.0.6"])


spans = st.tuples(st.integers(0, 2000), st.integers(0, 300)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(spans, st.lists(spans))
def test_gaps_are_the_set_difference(whole: tuple[int, int], holes: list[tuple[int, int]]) -> None:
    left = list(gaps(*whole, merge(holes)))

    expected = set(range(whole[0], whole[1] + 1)) - {n for a, b in holes for n in range(a, b + 1)}
    assert [n for a, b in left for n in range(a, b + 1)] == sorted(expected)
    assert count(left) == len(expected)


@given(spans, st.lists(spans), spans)
def test_clip_is_intersection(
    whole: tuple[int, int], holes: list[tuple[int, int]], part: tuple[int, int]
) -> None:
    intervals = list(gaps(*whole, merge(holes)))

    clipped = {n for a, b in clip(intervals, *part) for n in range(a, b + 1)}

    assert clipped == {n for a, b in intervals for n in range(a, b + 1)} & set(range(part[0], part[1] + 1))


@given(spans, st.lists(spans), st.none() | st.integers(0, 2500))
def test_after_goes_round_once(
    whole: tuple[int, int], holes: list[tuple[int, int]], cursor: int | None
) -> None:
    intervals = list(gaps(*whole, merge(holes)))
    flat = [n for a, b in intervals for n in range(a, b + 1)]

    found = [n for a, b in after(intervals, cursor) for n in range(a, b + 1)]

    at = flat.index(cursor) + 1 if cursor in flat else 0
    assert found == flat[at:] + flat[:at]


@given(
    st.integers(0, 600),
    st.integers(1, 600),
    st.sets(st.integers(0, 1300)),
    st.sets(st.integers(0, 1300), max_size=20),
    st.none() | st.integers(0, 1300),
)
def test_allocate_agrees_with_the_naive_search(
    offset: int, size: int, taken: set[int], reserved: set[int], cursor: int | None
) -> None:
    base = number("10.0.0.0")
    net = ipaddress.ip_network("10.0.0.0/16")
    item = Range(
        net, base + offset, base + offset + size, "", tuple(sorted((base + n, base + n) for n in reserved))
    )
    memory = memory_of(base + n for n in taken)
    allowed = [n for n in range(offset, offset + size + 1) if n not in reserved]
    at = allowed.index(cursor) + 1 if cursor in allowed else 0
    expected = next((n for n in allowed[at:] + allowed[:at] if n not in taken), None)

    start = None if cursor is None else base + cursor
    found = find(RangeSet((item,)), memory, start)
    assert (found.number if found else None) == (None if expected is None else base + expected)


def test_a_search_reads_each_block_once_however_many_parts_are_held() -> None:
    """A node's blocks are small parts of a pool: the search of one pod must not read them one by one."""
    whole = range_of("10.64.0.0/16")
    near = [(number(f"10.64.1.{n}"), number(f"10.64.1.{n}")) for n in range(0, 64, 2)]
    far = [(number(f"10.64.{n}.16"), number(f"10.64.{n}.31")) for n in range(2, 40)]
    held = RangeSet((whole,), near + far)
    memory = memory_of(n for low, high in near + far for n in range(low, high + 1))
    memory.mark_full(held, [low >> 8 for low, _high in far])

    assert find(held, memory, cursor=number("10.64.9.31")) is None

    assert memory.looked == 1  # the block of the near ones, which no mark tells to be full
