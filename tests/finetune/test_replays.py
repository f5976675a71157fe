"""Which examples of the replay pool a training draws from: by their age, and by the policy's gradients."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from selfloop.environments import find_environment
from selfloop.errors import UserError
from selfloop.finetune import FinetuneParams
from selfloop.finetune.offline.encoding import IGNORED, Encoded
from selfloop.finetune.offline.gradients import clustered, errors, shared, telling
from selfloop.finetune.offline.replays import Pool, Replay
from selfloop.finetune.offline.replays.clusters import Clusters
from selfloop.finetune.offline.replays.rested import Rested
from selfloop.policy import Policy, fresh
from selfloop.records import Example

from ..conftest import sealed_table
from .conftest import tried


def nobody() -> Policy:
    raise AssertionError("a policy was asked")


def pool_of(place: Path, examples: list[Example], round: int) -> Pool:
    return Pool(sealed_table(place, Example, examples).path, round, nobody, 3)


def test_these_replays_come_with_selfloop() -> None:
    assert [str(kind()) for kind in Replay.members().values()] == ["clusters", "even", "rested"]
    assert str(FinetuneParams.model_validate({"replay": "rested,interval=3"}).replay) == "rested,interval=3"
    with pytest.raises(UserError, match="interval"):
        Replay.parse("rested,interval=0")


@given(st.lists(st.integers(0, 8), max_size=20), st.integers(1, 4))
def test_each_example_comes_again_once_in_each_interval(
    tmp_path_factory: pytest.TempPathFactory, made: list[int], interval: int
) -> None:
    place = tmp_path_factory.mktemp("rested")
    examples = [Example(f"t{number}", 1, "1+1=", "2", round) for number, round in enumerate(made)]
    seen = Counter[int]()
    for round in range(9, 9 + interval):
        pool = pool_of(place / str(round), examples, round)
        rows = Rested(interval=interval)(pool, np.arange(len(made)))
        assert all((round - made[row]) % interval == 0 for row in rows)
        seen.update(rows.tolist())
    assert seen == dict.fromkeys(range(len(made)), 1)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8), st.integers(1, 100))
def test_a_budget_is_shared_evenly_and_none_of_it_is_left(sizes: list[int], budget: int) -> None:
    given = shared(sizes, budget)
    assert sum(given) == min(budget, sum(sizes))
    assert all(part == size or max(given) - 1 <= part < size for part, size in zip(given, sizes, strict=True))


def test_the_score_that_tells_a_cluster_apart_is_taken() -> None:
    flat, steep = np.array([5.0, 5.1, 5.2]), np.array([0.1, 1.0, 3.0])
    assert telling(flat, steep) is steep


def test_losses_and_errors_are_those_of_the_texts(trained: Path) -> None:
    policy, texts = fresh(trained), tried()[:7]
    found = errors(policy, texts, 0)
    batch = Encoded(policy, texts, range(7)).batch(np.arange(7))
    labels = batch.pop("labels")[:, 1:]
    with torch.no_grad():
        told = policy.model(**batch).logits[:, :-1]
    for row in range(7):
        here = labels[row] != IGNORED
        logits, right = told[row][here], labels[row][here]
        loss = torch.nn.functional.cross_entropy(logits, right)
        norm = (logits.softmax(-1) - torch.nn.functional.one_hot(right, logits.shape[-1])).norm(dim=-1).mean()
        assert found.losses[row] == pytest.approx(float(loss), rel=1e-4)
        assert found.norms[row] == pytest.approx(float(norm), rel=1e-4)
    assert np.linalg.norm(found.gradients, axis=1) == pytest.approx(1)


def test_points_far_apart_are_in_clusters_of_their_own() -> None:
    points = np.repeat(np.eye(3), 5, axis=0) + np.random.default_rng(0).normal(0, 0.01, (15, 3))
    found = clustered(points, 3, 0)
    assert len({tuple(found[first : first + 5]) for first in (0, 5, 10)}) == 3
    assert all(len(set(found[first : first + 5])) == 1 for first in (0, 5, 10))


def test_a_rare_skill_has_as_much_of_the_budget_as_a_frequent_one(trained: Path, tmp_path: Path) -> None:
    sums = [Example(t.id, 2, t.prompt, t.answer, 0) for t in find_environment("addition").tasks(2, 90, 0)]
    rare = [Example(f"rare{n}", 1, "11+22=", "9" * 12, 0) for n in range(6)]
    pool = Pool(sealed_table(tmp_path / "pool", Example, sums + rare).path, 1, lambda: fresh(trained), 3)
    rows = Clusters(number=2, budget=12)(pool, np.arange(96))
    assert len(rows) == 12
    assert sorted(rows.tolist()) == rows.tolist()
    assert sum(row >= 90 for row in rows) == 6
