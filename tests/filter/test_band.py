"""The frontier: which tasks ``band_tasks`` keeps, and what it makes of the attempts at them."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kfp.dsl import Dataset
from selfloop.environments.addition import Addition
from selfloop.errors import UserError
from selfloop.filter import BandParams, band_tasks
from selfloop.filter.selectors.verdicts import Rate
from selfloop.records import BATCH_ROWS, Rollout, Task, Verdict, rows
from selfloop.stages import stages

from ..conftest import sealed_table
from .conftest import Keep, group, judged

Attempt = tuple[str, bool]
"""What was said, and whether the policy ended it. What is the answer ``right`` is what the verifier calls good."""


class Worded(Addition):
    """Addition in words: the answer is what stands behind the last colon."""

    def extract_answer(self, completion: str) -> str:
        return completion.rpartition(":")[2].strip()


@pytest.fixture(autouse=True)
def _worded(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "worded", sys.modules[__name__])


class Banded:
    """What the stage made of groups of attempts at tasks of some levels."""

    def __init__(self, place: Path, groups: Sequence[tuple[int, Sequence[Attempt]]], **params: Any) -> None:
        tasks, rollouts, verdicts = [], [], []
        for number, (level, attempts) in enumerate(groups):
            asked = Task(f"t{number}", level, "", f"{number}?", "right", metadata=json.dumps({"own": number}))
            tasks.append(asked)
            for attempt, (said, finished) in enumerate(attempts):
                rollouts.append(Rollout(asked.id, level, attempt, asked.prompt, said, finished, 1))
                verdicts.append(Verdict(asked.id, level, attempt, finished and said == "right", 0.0, ""))
        self.tasks, band = tasks, Dataset(uri=str(place / "band"))
        band_tasks.into(
            band_tasks.out(band=band),
            BandParams(**params),
            tasks=sealed_table(place / "tasks", Task, tasks),
            rollouts=sealed_table(place / "rollouts", Rollout, rollouts),
            verdicts=sealed_table(place / "verdicts", Verdict, verdicts),
        )
        self.kept = list(rows(band.path, Task))
        self.ids = [task.id for task in self.kept]
        self.labels = [(about["label"], about["rate"]) for about in (json.loads(task.metadata) for task in self.kept)]
        self.told = json.loads(json.dumps(band.metadata["band"]))
        self.files = sorted(path.name for path in Path(band.path).iterdir())


def votes(said: str) -> list[Attempt]:
    """Attempts of a letter each; a capital was not ended, and a space is ended without an answer."""
    return [(letter.strip().lower(), not letter.isupper()) for letter in said]


def test_tasks_of_the_band_are_kept_with_the_majority_s_answer_as_their_label(tmp_path: Path) -> None:
    made = Banded(tmp_path, [(1, votes("xxxx")), (1, votes("xxyz")), (2, votes("uvwxyz")), (2, votes("yyyx"))])
    assert made.ids == ["t1", "t3"]
    assert made.labels == [("x", 0.5), ("y", 0.75)]
    assert [json.loads(task.metadata)["own"] for task in made.kept] == [1, 3]
    assert [task._replace(metadata="") for task in made.kept] == [
        made.tasks[number]._replace(metadata="") for number in (1, 3)
    ]
    assert {task.answer for task in made.kept} == {"right"}
    assert made.told == {
        "tasks": 4,
        "kept": 2,
        "below": 1,
        "above": 1,
        "unanswered": 0,
        "capped": 0,
        "mean_rate": pytest.approx((1 + 0.5 + 1 / 6 + 0.75) / 4),
        "mean_level": 1.5,
        "histogram": [0, 1, 0, 0, 0, 1, 0, 1, 0, 1],
        "levels": {
            "1": {"tasks": 2, "kept": 1, "below": 0, "above": 1, "unanswered": 0, "capped": 0, "mean_rate": 0.75},
            "2": {
                "tasks": 2,
                "kept": 1,
                "below": 1,
                "above": 0,
                "unanswered": 0,
                "capped": 0,
                "mean_rate": pytest.approx((1 / 6 + 0.75) / 2),
            },
        },
    }
    assert not [name for name in made.files if name.startswith("tmp")]


def test_what_has_no_answer_counts_only_where_all_attempts_are_the_denominator(tmp_path: Path) -> None:
    given = [(1, votes("xxyX ")), (1, votes("XX "))]
    for votes_of, rate in (("all", 2 / 5), ("parsable", 2 / 3)):
        made = Banded(tmp_path / votes_of, given, votes=votes_of)
        assert made.labels == [("x", rate)]
        assert (made.told["unanswered"], made.told["mean_rate"]) == (1, pytest.approx(rate / 2))


def test_votes_are_counted_on_answers_and_the_first_of_those_that_are_level_wins(tmp_path: Path) -> None:
    said = ["so: 4", "I think: 3", "surely: 4", "well:3"]
    made = Banded(tmp_path, [(1, [(each, True) for each in said])], environment="worded:Worded")
    assert made.labels == [("4", 0.5)]


def test_both_ends_belong_to_the_band_as_to_the_selector_s(tmp_path: Path, keep: Keep) -> None:
    sizes = [2, 3, 8, 9]
    made = Banded(tmp_path / "band", [(1, [("right", True)] * n + [("wrong", True)] * (10 - n)) for n in sizes],
                  rate="correct")  # fmt: skip
    assert [rate for _, rate in made.labels] == [0.3, 0.8]
    given = [each for n in sizes for each in group(f"{n}", *[(f"{k}", k < n) for k in range(10)])]
    assert {example.task for example in keep(given, "rate").examples} == {"3", "8"}
    assert (BandParams().min_rate, BandParams().max_rate) == (Rate().min_rate, Rate().max_rate)


def test_the_rate_of_what_is_correct_goes_by_verdicts_and_the_label_by_votes(tmp_path: Path) -> None:
    attempts = [("right", True)] * 2 + [("wrong", True)] * 3 + [("other", True)]
    made = Banded(tmp_path, [(1, attempts)], rate="correct")
    assert made.labels == [("wrong", 2 / 6)]


def test_of_too_many_some_are_kept_evenly_from_the_whole_table(tmp_path: Path) -> None:
    made = Banded(tmp_path, [(number // 50, votes("xy")) for number in range(100)], number=10)
    assert made.ids == [f"t{number}" for number in range(9, 100, 10)]
    assert (made.told["kept"], made.told["capped"]) == (10, 90)
    assert {level: counts["kept"] for level, counts in made.told["levels"].items()} == {"0": 5, "1": 5}


def test_a_table_of_many_batches_is_read_as_a_small_one_is(tmp_path: Path) -> None:
    size = BATCH_ROWS // 3 + 1_000
    made = Banded(tmp_path, [(1, votes(("xxy", "xxx")[number % 2])) for number in range(size)], number=1_000_000)
    assert len(made.ids) == size - size // 2
    assert (made.told["above"], made.ids[-1]) == (size // 2, f"t{size - 1 - (size + 1) % 2}")


@pytest.mark.parametrize(
    ("attempts", "said"),
    [
        ([], "No task lies in the band from 0.3 to 0.8: there were no attempts"),
        (
            [votes("xxxx"), votes("xyzuv"), votes("xxx"), votes("X")],
            "No task lies in the band from 0.3 to 0.8: of 4 tasks 1 were below it, 2 above it, 1 had no answer that "
            "can be read",
        ),
    ],
)
def test_an_empty_band_stops_the_round_with_a_sentence_or_lets_it_continue(
    tmp_path: Path, attempts: list[list[Attempt]], said: str
) -> None:
    with pytest.raises(UserError) as stopped:
        Banded(tmp_path / "stop", [(1, each) for each in attempts])
    remedy = "widen 'min_rate' and 'max_rate', propose other tasks, or set 'when_empty' to 'continue'."
    assert str(stopped.value) == f"{said}: {remedy}"
    assert not (tmp_path / "stop" / "band" / "manifest.json").exists()
    made = Banded(tmp_path / "continue", [(1, each) for each in attempts], when_empty="continue")
    assert (made.kept, made.told["empty"]) == ([], said)


groups = st.lists(
    st.tuples(st.integers(1, 3), st.lists(st.sampled_from("xyzX "), min_size=1, max_size=6).map("".join)), max_size=8
)


@given(groups, st.sampled_from(["all", "parsable"]), st.floats(0, 0.5), st.floats(0.5, 1), st.integers(1, 6))
@settings(max_examples=60, deadline=None)
def test_what_is_kept_agrees_with_a_plain_reading_and_the_counts_add_up(
    tmp_path_factory: pytest.TempPathFactory,
    groups: list[tuple[int, str]],
    votes_of: str,
    lowest: float,
    greatest: float,
    number: int,
) -> None:
    made = Banded(
        tmp_path_factory.mktemp("band"),
        [(level, votes(said)) for level, said in groups],
        votes=votes_of,
        min_rate=lowest,
        max_rate=greatest,
        number=number,
        when_empty="continue",
    )
    within = []
    for place, (_, said) in enumerate(groups):
        heard = [letter for letter in said if letter in "xyz"]
        if heard:
            label, most = Counter(heard).most_common(1)[0]  # of those that are level the first
            rate = most / len(heard if votes_of == "parsable" else said)
            if lowest <= rate <= greatest:
                within.append((f"t{place}", label, rate))
    found = [(id, *label) for id, label in zip(made.ids, made.labels, strict=True)]
    assert len(found) == min(number, len(within))
    assert [each for each in within if each in found] == found
    if len(within) <= number:
        assert found == within
    told = made.told
    assert sum(told["histogram"]) == told["tasks"] == len(groups)
    for counts in (told, *told["levels"].values()):
        fates = ("kept", "below", "above", "unanswered", "capped")
        assert sum(counts[name] for name in fates) == counts["tasks"]
    for name in ("tasks", "kept", "below", "above", "unanswered", "capped"):
        assert sum(counts[name] for counts in told["levels"].values()) == told[name]


def test_a_band_upside_down_is_refused() -> None:
    with pytest.raises(UserError, match=r"No rate is at least 0\.9 and at most 0\.8: let 'min_rate'"):
        BandParams(min_rate=0.9)


@pytest.mark.parametrize("metadata", ["{", "[]", "3"])
def test_metadata_that_are_no_object_are_refused(tmp_path: Path, metadata: str) -> None:
    given = [judged("t", 1, attempt, said, True) for attempt, said in enumerate("xxy")]
    with pytest.raises(UserError, match="The metadata of the task 't' are no JSON object"):
        band_tasks.into(
            band_tasks.out(band=Dataset(uri=str(tmp_path / "band"))),
            BandParams(),
            tasks=sealed_table(tmp_path / "tasks", Task, [Task("t", 1, "", "?", "x", metadata=metadata)]),
            rollouts=sealed_table(tmp_path / "rollouts", Rollout, [each.rollout for each in given]),
            verdicts=sealed_table(tmp_path / "verdicts", Verdict, [each.verdict for each in given]),
        )


def test_verdicts_of_other_rollouts_are_refused(tmp_path: Path) -> None:
    a, b = judged("a", 1, 0, "x", True), judged("b", 1, 0, "x", True)
    with pytest.raises(UserError, match="are of other rollouts: verify these rollouts again"):
        band_tasks.into(
            band_tasks.out(band=Dataset(uri=str(tmp_path / "band"))),
            BandParams(),
            tasks=sealed_table(tmp_path / "tasks", Task, [Task("a", 1, "", "?", "x")]),
            rollouts=sealed_table(tmp_path / "rollouts", Rollout, [a.rollout]),
            verdicts=sealed_table(tmp_path / "verdicts", Verdict, [b.verdict]),
        )


def test_the_stage_is_known_by_its_name() -> None:
    assert stages()["band_tasks"] is band_tasks
