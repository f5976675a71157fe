"""Archives: which entries become parents, what is kept of their variations, and how two archives are compared."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kfp.dsl import Artifact, Dataset
from selfloop.archive import Archive, Entry
from selfloop.errors import UserError
from selfloop.evaluate import CompareParams, compare_archives
from selfloop.evaluate.archives import ComparedArchives
from selfloop.filter import ExtendParams, extend_archive
from selfloop.filter.archiving import ExtendedArchive
from selfloop.propose import ArchiveParams, ParentsParams, choose_parents, init_archive
from selfloop.propose.archive import Best, NewArchive, ParentChoice, Parents, ScoreAndNovelty, drawn_parents
from selfloop.records import ItemResult, Rollout, Task, Verdict, rows

from ..conftest import sealed_table, sealed_value

SCORES = st.lists(st.floats(0, 1), min_size=1, max_size=8)


@given(scores=SCORES)
def test_a_parent_is_likelier_by_score_and_less_likely_by_children(scores: list[float]) -> None:
    choice = ScoreAndNovelty()
    weights = choice(scores, [0] * len(scores))
    assert weights == pytest.approx([1 / (1 + math.exp(-10 * (score - 0.5))) for score in scores])
    assert ScoreAndNovelty(steepness=1e6)([0.0, 1.0], [0, 0]) == [0.0, 1.0]
    assert choice(scores, [3] * len(scores)) == [weight / 4 for weight in weights]


def test_the_best_alone_has_children_where_that_is_chosen() -> None:
    entries = [Entry(text=str(n), level=3, score=score, round=0) for n, score in enumerate((0.2, 0.9, 0.4))]
    assert set(drawn_parents(Archive(entries=tuple(entries)), 3, Best(), 20, 1)) == {1}


def test_weights_that_are_none_are_refused() -> None:
    class Odd(ParentChoice):
        def __call__(self, scores: object, children: object) -> list[float]:
            return [float("nan")]

    archive = Archive(entries=(Entry(text="", level=3, score=1.0, round=0),))
    with pytest.raises(UserError, match="gave entry 0 the weight nan: return finite ones, from 0"):
        drawn_parents(archive, 3, Odd(), 1, 1)


def test_an_archive_grows_by_what_scores_and_is_new_and_is_compared_by_its_best(tmp_path: Path) -> None:
    begun = Artifact(uri=str(tmp_path / "begun"))
    init_archive.into(NewArchive(begun), ArchiveParams())
    assert Archive.of(begun).entries == (Entry(text="", level=3, score=5 / 16, round=0),)
    tasks = Dataset(uri=str(tmp_path / "tasks"))
    choose_parents.into(Parents(tasks), ParentsParams(number=1, attempts=4, round=1), begun)
    [task] = rows(tasks.path, Task)
    assert (task.prompt, task.attempts, json.loads(task.metadata)) == ("4:>", 4, {"parent": 0})
    texts = {"01": 0.5, "01,23,02,13,12": 1.0, "x": 0.0}
    attempts = [*texts.items(), ("01", 0.5)]
    rollouts = [Rollout(task.id, 3, n, task.prompt, text, True, 1) for n, (text, _) in enumerate(attempts)]
    verdicts = [Verdict(task.id, 3, n, score == 1, score, "so") for n, (_, score) in enumerate(attempts)]
    grown = Artifact(uri=str(tmp_path / "grown"))
    extend_archive.into(
        ExtendedArchive(grown),
        ExtendParams(round=1),
        begun,
        tasks,
        sealed_table(tmp_path / "rollouts", Rollout, rollouts),
        sealed_table(tmp_path / "verdicts", Verdict, verdicts),
    )
    assert [(entry.text, entry.parent, entry.round) for entry in Archive.of(grown).entries] == [
        ("", None, 0),
        ("01", 0, 1),
        ("01,23,02,13,12", 0, 1),
    ]
    items = sealed_table(tmp_path / "eval_items", Task, [Task(f"i{n}", 3, "target", "", "") for n in range(30)])
    results = Dataset(uri=str(tmp_path / "results"))
    compare_archives.into(ComparedArchives(results), CompareParams(), grown, begun, items)
    answered = list(rows(results.path, ItemResult))
    assert all(item.ok for item in answered if item.policy == "candidate")
    assert not all(item.ok for item in answered if item.policy == "champion")


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no archive: continue from a version that has one"):
        Archive.of(sealed_value(tmp_path / "other", {"arms": []}))
