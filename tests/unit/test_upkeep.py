"""Which blocks are claimed ahead of need and which are given back, as a table of cases."""

import pytest

from cni_ipam.blocks import Block
from cni_ipam.holdings import HeldBlock, State
from cni_ipam.upkeep import Demand, Plan, Use, plan

POOL = Demand(4, [(0, 255)])
A, B, C = (Block(4, start, 16) for start in (0, 16, 32))


def use(block: Block, used: int, state: State = State.HELD, foreign: int = 0) -> Use:
    return Use(HeldBlock(block, "1", state), used, foreign)


LONG = {A, B, C}

CASES = [
    ("no block yet", [], set(), False, Plan(claim=(POOL,))),
    ("room enough", [use(A, 12)], set(), False, Plan()),
    ("below the low-water mark", [use(A, 13)], set(), False, Plan(claim=(POOL,))),
    ("what others have pinned is no room", [use(A, 1, foreign=15)], set(), False, Plan(claim=(POOL,))),
    ("another node starves: none is claimed ahead", [use(A, 13)], set(), True, Plan()),
    ("an empty spare, not for long", [use(A, 3), use(B, 0)], set(), False, Plan()),
    ("an empty spare, for long", [use(A, 3), use(B, 0)], LONG, False, Plan(give_back=(B,))),
    ("an empty one that is needed", [use(A, 14), use(B, 0)], LONG, False, Plan()),
    ("the last block stays", [use(A, 0)], LONG, False, Plan()),
    ("two empty ones: one stays", [use(A, 0), use(B, 0)], LONG, False, Plan(give_back=(A,))),
    ("wanted: at once", [use(A, 14), use(B, 0)], set(), True, Plan(give_back=(B,))),
    ("wanted: not the last room", [use(A, 16), use(B, 0)], set(), True, Plan()),
    ("wanted: an idle node gives its last one", [use(A, 0)], set(), True, Plan(give_back=(A,))),
    ("wanted: one at a time", [use(A, 1), use(B, 0), use(C, 0)], set(), True, Plan(give_back=(B,))),
    ("wanted: one with room", [use(A, 1), use(B, 0, foreign=16), use(C, 0)], set(), True,
     Plan(give_back=(C,))),
    ("wanted: the one with most room", [use(A, 1), use(B, 0, foreign=8), use(C, 0)], set(), True,
     Plan(give_back=(C,))),
    ("wanted: none without room", [use(A, 1), use(B, 0, foreign=16)], set(), True, Plan()),
    ("drained and empty", [use(A, 1), use(B, 0, State.DRAINING)], set(), False, Plan(give_back=(B,))),
    ("drained, with a pod", [use(A, 1), use(B, 1, State.DRAINING)], set(), False, Plan()),
    ("an interrupted release", [use(A, 1), use(B, 0, State.RELEASING)], set(), False, Plan(give_back=(B,))),
    ("lost, with a pod", [use(A, 1), use(B, 1, State.LOST)], set(), False, Plan()),
    ("lost and empty", [use(A, 1), use(B, 0, State.LOST)], set(), False, Plan(forget=(B,))),
    ("room in a lost block is none", [use(A, 0, State.LOST)], set(), False, Plan(claim=(POOL,), forget=(A,))),
]  # fmt: skip


@pytest.mark.parametrize(
    ("uses", "empty", "wanted", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_what_to_do(uses: list[Use], empty: set[Block], wanted: object, expected: Plan) -> None:
    assert plan(uses, [POOL], empty, size=16, wanted={4} if wanted else ()) == expected


def test_only_a_block_of_the_family_that_is_wanted_is_given() -> None:
    assert plan([use(A, 0)], [POOL], set(), size=16, wanted={6}) == Plan()
    assert plan([use(A, 0)], [POOL], set(), size=16, wanted={4, 6}) == Plan(give_back=(A,))


def test_of_single_addresses_none_is_claimed_ahead() -> None:
    assert plan([], [POOL], set(), size=1) == Plan()


def test_each_family_counts_alone() -> None:
    other = Demand(6, [(0, 255)])

    assert plan([use(A, 3)], [POOL, other], set(), size=16).claim == (other,)
