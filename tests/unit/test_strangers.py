"""The answers of strangers for addresses that a pod may get next."""

import pytest

from cni_agent.strangers import At, confirmed, controls, next_ones, room, routers, share, silences

OTHER, HOST = "02:00:00:00:00:02", "02:00:00:00:00:09"


def four(*numbers: int) -> list[At]:
    return [(4, number) for number in numbers]


def six(*numbers: int) -> list[At]:
    return [(6, number) for number in numbers]


@pytest.mark.parametrize(
    ("leased", "versions", "found"),
    [
        (four(9, 3, 5), [4], four(3, 5, 9)),
        (four(*range(12)), [4], four(0, 3, 6, 9)),
        (four(*range(5)), [4], four(0, 2, 4)),
        ([*four(9), *six(7)], [6, 4], [*four(9), *six(7)]),
        (four(9), [6], []),
        ([], [4], []),
        (four(9), [], []),
    ],
)
def test_controls_are_addresses_of_pods_far_from_one_another(
    leased: list[At], versions: list[int], found: list[At]
) -> None:
    assert controls(leased, versions) == found


@pytest.mark.parametrize(
    ("asked", "heard", "found"),
    [
        (four(1, 4), dict.fromkeys(four(1, 4), HOST), {HOST}),
        (four(1, 4), {(4, 1): HOST}, set()),  # one address in use twice
        (four(1, 4), {(4, 1): HOST, (4, 4): OTHER}, set()),
        (four(1), {(4, 1): HOST}, {HOST}),
        ([*four(1, 4), *six(1)], {(6, 1): HOST}, {HOST}),
        (four(1, 4), {}, set()),
        ([], {}, set()),
    ],
)
def test_a_router_answers_for_all_controls(asked: list[At], heard: dict[At, str], found: set[str]) -> None:
    assert routers(asked, heard) == found


@pytest.mark.parametrize(
    ("held", "declined", "found"),
    [(16, 0, 4), (16, 5, 3), (16, 8, 0), (16, 9, 0), (1, 0, 1), (1, 1, 0), (0, 0, 0)],
)
def test_half_of_the_addresses_stay(held: int, declined: int, found: int) -> None:
    assert room(held, declined) == found


@pytest.mark.parametrize(("nodes", "found"), [(0, 16), (1, 16), (100, 16), (200, 8), (1000, 1), (5000, 1)])
def test_the_wire_is_shared_by_all_nodes(nodes: int, found: int) -> None:
    assert share(nodes) == found


def test_each_free_address_is_asked_for_in_its_turn() -> None:
    free = [*four(5, 1, 3), *six(2)]
    looks = []
    last = None
    for _look in range(3):
        asked = next_ones(free, last, 3)
        looks.append(asked)
        last = asked[-1]

    assert looks == [four(1, 3, 5), [*six(2), *four(1, 3)], [(4, 5), (6, 2), (4, 1)]]


@pytest.mark.parametrize(
    ("heard", "before", "found"),
    [
        ({(4, 1): HOST}, {}, {}),
        ({(4, 1): HOST}, {(4, 1): OTHER}, {}),
        ({(4, 1): HOST}, {(4, 1): HOST}, {(4, 1): HOST}),
        ({(4, 9): HOST}, {(4, 9): HOST}, {}),  # leased meanwhile
        (dict.fromkeys(four(2, 1), HOST), dict.fromkeys(four(1, 2), HOST), dict.fromkeys(four(1, 2), HOST)),
    ],
)
def test_an_answer_counts_when_it_comes_twice(
    heard: dict[At, str], before: dict[At, str], found: dict[At, str]
) -> None:
    assert confirmed(heard, before, four(1, 2, 3)) == found


def test_a_silence_begins_with_the_first_look_that_hears_nobody() -> None:
    (one, two, three) = four(1, 2, 3)

    assert silences({one: 5.0, two: 6.0}, [one, two, three], [two], 9.0) == {one: 5.0, three: 9.0}
