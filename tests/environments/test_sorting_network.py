"""Sorting networks: what sorts is found out exactly, and a variation is close to what it varies."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selfloop.environments import find_environment
from selfloop.environments.sorting_network import LONGEST, read, sorts, spelt

NETWORKS = find_environment("sorting-network")
FOUR = "01,23,02,13,12"
"""Five comparators sort four wires, which is as few as can be."""


def comparators(wires: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    pairs = [(a, b) for b in range(wires) for a in range(b)]
    return st.lists(st.sampled_from(pairs), max_size=LONGEST)


@given(network=comparators(4))
def test_what_sorts_zeros_and_ones_sorts_everything(network: list[tuple[int, int]]) -> None:
    grade = NETWORKS.check(NETWORKS.variation("", 3, "t"), spelt(network))
    assert grade.ok == all(sorts(network, each) for each in permutations(range(4)))
    assert grade.ok == (grade.score == 1)


def test_the_score_is_the_share_of_zeros_and_ones_that_it_sorts() -> None:
    task = NETWORKS.variation("", 3, "t")
    assert NETWORKS.check(task, FOUR) == (True, 1.0, "sorts everything")
    assert NETWORKS.check(task, "") == (False, 5 / 16, "leaves inputs unsorted")
    scores = [NETWORKS.check(task, ",".join(FOUR.split(",")[:number])).score for number in range(6)]
    assert scores == sorted(scores)


@pytest.mark.parametrize(
    ("text", "why"),
    [("0", "not a network"), ("01,", "not a network"), ("10", "not its wires"), ("04", "not its wires")],
)
def test_what_is_no_network_of_these_wires_is_said(text: str, why: str) -> None:
    assert NETWORKS.check(NETWORKS.variation("", 3, "t"), text) == (False, 0.0, why)


def test_a_network_that_is_too_long_is_refused() -> None:
    assert NETWORKS.check(NETWORKS.variation("", 3, "t"), ",".join(["01"] * (LONGEST + 1))).reason == "too long"


@given(network=comparators(4), name=st.text(max_size=5))
def test_a_variation_differs_by_one_comparator(network: list[tuple[int, int]], name: str) -> None:
    task = NETWORKS.variation(spelt(network), 3, name)
    made = read(NETWORKS.demonstration(task), 4)
    assert abs(len(made) - len(network)) <= 1
    rest = [list(made[:n] + made[n + 1 :]) for n in range(len(made))]
    near = [network[:n] + network[n + 1 :] for n in range(len(network))]
    assert network in rest or made in near or any(each in near for each in rest)


def test_an_item_is_a_permutation_that_its_id_draws() -> None:
    items = NETWORKS.held_out(3, 60, 5)
    assert all(NETWORKS.applied(FOUR, item).ok for item in items)
    unsorted = [item for item in items if not NETWORKS.applied("", item).ok]
    assert len(unsorted) > 45
