"""Blocks of a pool: how it is cut, who tries which first, and what a node may lease."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_ipam.blocks import Block, Cut, auto_size, leasable, low_water, object_name, usable, want_name
from cni_ipam.ranges import Interval, RangeSet, count
from cni_ipam.subnets import range_sets


def ip(text: str) -> int:
    return int(ipaddress.ip_address(text))


def sets(subnet: str, **keys: object) -> RangeSet:
    problems: list[str] = []
    found = range_sets([], [{"subnet": subnet, **keys}], problems)  # type: ignore[typeddict-item] # keys of the test
    assert problems == []
    return found[0]


def cut(subnet: str, size: int, pinned: tuple[Interval, ...] = (), **keys: object) -> Cut:
    range_set = sets(subnet, **keys)
    return Cut(range_set.version, usable(range_set.ordered, pinned), size)


@pytest.mark.parametrize(
    ("subnet", "size", "total"),
    [
        ("10.0.0.0/24", 16, 16),
        ("10.0.0.0/24", 256, 1),
        ("10.0.0.0/24", 1, 253),  # without network, gateway and broadcast
        ("10.0.0.0/28", 16, 1),
        ("10.0.0.0/30", 16, 1),  # a block may reach beyond the subnet, and leases nothing there
        ("2001:db8::/64", 16, 1 << 60),
    ],
)
def test_a_pool_is_cut_into_aligned_blocks(subnet: str, size: int, total: int) -> None:
    assert cut(subnet, size).total == total


def test_a_range_has_the_blocks_that_it_touches() -> None:
    part = cut("10.0.0.0/24", 16, ipRange="10.0.0.128/25")

    assert part.total == 8
    assert {block.address for block in part.candidates("n", ())} == {
        f"10.0.0.{start}" for start in range(128, 256, 16)
    }


def test_pinned_addresses_are_in_no_block() -> None:
    band = (ip("10.0.0.128"), ip("10.0.0.255"))

    assert {b.start for b in cut("10.0.0.0/24", 16, (band,)).candidates("n", ())} == {
        ip(f"10.0.0.{start}") for start in range(0, 128, 16)
    }


@given(st.text("abc", min_size=1), st.sets(st.integers(0, 15)))
def test_every_block_that_is_not_taken_is_tried_once(node: str, numbers: set[int]) -> None:
    taken = {ip("10.0.0.0") + 16 * number for number in numbers}
    tried = [block.start for block in cut("10.0.0.0/24", 16).candidates(node, taken)]

    assert len(tried) == len(set(tried)) == 16 - len(taken)
    assert not taken & set(tried)


def test_nodes_begin_at_different_blocks() -> None:
    firsts = {next(cut("10.0.0.0/16", 16).candidates(f"n{n}", ())).start for n in range(40)}

    assert len(firsts) > 35


def test_a_huge_pool_is_cut_at_once() -> None:
    pool = cut("2001:db8::/64", 16)

    assert next(pool.candidates("n", ())).version == 6


@pytest.mark.parametrize(
    ("block", "prefix"),
    [
        (Block(4, ip("10.0.0.16"), 16), "10.0.0.16/28"),
        (Block(4, ip("10.0.0.5"), 1), "10.0.0.5/32"),
        (Block(4, ip("10.0.1.0"), 256), "10.0.1.0/24"),
        (Block(6, ip("2001:db8::10"), 16), "2001:db8::10/124"),
    ],
)
def test_a_block_is_a_prefix(block: Block, prefix: str) -> None:
    assert block.prefix == prefix
    assert Block.parse(block.address, block.size) == block


@pytest.mark.parametrize(("address", "size"), [("10.0.0.8", 16), ("10.0.0.0", 12), ("10.0.0.0", 0), ("x", 1)])
def test_what_is_no_block_is_refused(address: str, size: int) -> None:
    with pytest.raises(ValueError, match=r"."):
        Block.parse(address, size)


def test_objects_have_names_that_never_change() -> None:
    """Nodes of two releases share an engine: the same block has to have the same name in both."""
    assert Block(4, ip("192.168.50.16"), 16).name("lan.50") == "lan.50.c0a83210"
    assert object_name("lan", 6, ip("2001:db8::10")) == "lan.20010db8000000000000000000000010"
    assert want_name("lan", "n1.example") == "lan.301dd5035e71"


@pytest.mark.parametrize(
    ("addresses", "nodes", "size"),
    [(253, 1, 8), (253, 20, 4), (13, 20, 1), (65533, 100, 16), (0, 1, 1), (1 << 64, 1000, 16)],
)
def test_auto_gives_each_node_two_blocks(addresses: int, nodes: int, size: int) -> None:
    assert auto_size(addresses, nodes) == size


@pytest.mark.parametrize(("size", "free"), [(1, 0), (2, 1), (4, 2), (8, 2), (16, 4), (256, 64)])
def test_the_low_water_mark(size: int, free: int) -> None:
    assert low_water(size) == free


def test_a_node_leases_from_its_blocks_alone() -> None:
    held = leasable([Block(4, ip("10.0.0.0"), 16), Block(6, 0, 16)], 4, [(ip("10.0.0.5"), ip("10.0.0.6"))])
    whole = sets("10.0.0.0/24")
    here = RangeSet(whole.ranges, held)

    assert count(here.intervals) == 16 - 2 - 2  # network and gateway; two that others keep
    assert here.identity != whole.identity
    assert RangeSet(whole.ranges, []).intervals == []
