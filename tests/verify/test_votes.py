"""Self-certainty and votes."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from selfloop.environments import unified
from selfloop.environments.addition import Addition
from selfloop.errors import UserError
from selfloop.records import Rollout
from selfloop.verify.verifiers.borda import Borda, voted

from .conftest import a_task, attempts, said

pytestmark = pytest.mark.slow


class Worded(Addition):
    """Addition in words: the answer is what stands behind the last colon."""

    def extract_answer(self, completion: str) -> str:
        return completion.rpartition(":")[2].strip()


TASK = a_task("t")


@pytest.fixture(autouse=True)
def _worded(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "worded", sys.modules[__name__])


def sure(*given: tuple[str, float]) -> list[Rollout]:
    """Attempts with how sure the policy was."""
    rollouts = attempts(TASK, *(text for text, _ in given))
    return [rollout._replace(self_certainty=value) for rollout, (_, value) in zip(rollouts, given, strict=True)]


def test_votes_are_counted_on_answers_where_the_environment_tells_them() -> None:
    texts = ["I count: 3", "it is:3", "surely: 30"]
    made = said([TASK], attempts(TASK, *texts), "majority,agreement=0.6", environment="worded:Worded")
    assert [(v.ok, v.score) for v in made] == [(True, 2 / 3), (True, 2 / 3), (False, 1 / 3)]
    plain = said([TASK], attempts(TASK, *texts), "majority,agreement=0.6")
    assert [(v.ok, v.score) for v in plain] == [(False, 1 / 3)] * 3


def of_numbers(place: Path) -> str:
    """An environment whose answers are numbers."""
    (place / "data.jsonl").write_text("".join(f'{{"prompt": "q{n}", "answer": "5"}}\n' for n in range(9)))
    return f"dataset:{place}/data.jsonl?check=number"


@pytest.mark.parametrize("verifier", ["majority", "borda"])
@pytest.mark.parametrize("nothing", ["", " \n", "so \\boxed{}", "I do not know."])
def test_what_gives_no_answer_has_no_vote_and_is_never_good(verifier: str, nothing: str, tmp_path: Path) -> None:
    place = of_numbers(tmp_path)
    none = said([TASK], sure(*[(nothing, 1.0)] * 5), verifier, environment=place)
    assert [(v.ok, v.score) for v in none] == [(False, 0.0)] * 5
    one = said([TASK], sure(*[(nothing, 1.0)] * 4, ("\\boxed{5}", 1.0)), verifier, environment=place)
    assert not any(v.ok for v in one), "a lone answer has no majority"
    some = said([TASK], sure(*[("\\boxed{5}", 1.0)] * 4, (nothing, 9.0)), verifier, environment=place)
    assert [v.ok for v in some] == [True] * 4 + [False]


@pytest.mark.parametrize("verifier", ["majority", "borda", "length"])
def test_empty_completions_are_not_good_where_the_completion_is_the_answer(verifier: str) -> None:
    assert not any(v.ok for v in said([TASK], sure(*[("", 1.0)] * 5), verifier))


def test_one_answer_in_several_spellings_has_all_its_votes(tmp_path: Path) -> None:
    texts = [f"\\boxed{{{each}}}" for each in ("5", "5.0", "\\text{5}", "10/2", "4")]
    made = said([TASK], sure(*((text, 1.0) for text in texts)), "majority", environment=of_numbers(tmp_path))
    assert [(v.ok, v.score) for v in made] == [(True, 0.8)] * 4 + [(False, 0.2)]


class Folded(Addition):
    """Answers are one whatever their case, which only a comparison tells."""

    def agree(self, pairs: Sequence[tuple[str, str]]) -> list[bool]:
        assert all(first != other for first, other in pairs)
        return [first.casefold() == other.casefold() for first, other in pairs]


@given(st.lists(st.lists(st.sampled_from(["", " ", "a", "A", "b", "B", "c"]), max_size=9), max_size=4))
def test_answers_that_say_the_same_are_unified_group_by_group(groups: list[list[str]]) -> None:
    spelt = unified(groups, Folded())
    for group, found in zip(groups, spelt, strict=True):
        assert [each.casefold() for each in found] == [each.strip().casefold() for each in group]
        firsts = {each.casefold(): each for each in reversed(group) if each.strip()}
        assert all(each == firsts[each.casefold()] for each in found if each)


def test_self_certainty_is_a_score_without_an_opinion() -> None:
    made = said([TASK], sure(("3", 7.5), ("4", 0.25)), "self-certainty")
    assert [(v.ok, v.score, v.reason) for v in made] == [(None, 7.5, "self-certainty"), (None, 0.25, "self-certainty")]


@pytest.mark.parametrize("verifier", ["self-certainty", "borda"])
def test_rollouts_without_self_certainty_are_refused(verifier: str) -> None:
    with pytest.raises(UserError, match=r"task 't' carries no self-certainty: set generate\.score=self_certainty"):
        said([TASK], [*sure(("3", 1.0)), *attempts(TASK, "4")], verifier)


def test_the_surest_attempts_weigh_most() -> None:
    group = sure(("4", 3.0), ("3", 2.0), ("3", 1.0))
    strong, weak = (said([TASK], group, Borda(power=power)) for power in (2.0, 0.5))
    assert [(v.ok, v.score) for v in strong] == [(True, 9 / 14), (False, 5 / 14), (False, 5 / 14)]
    assert [v.ok for v in weak] == [False, True, True]


def test_a_tie_a_lone_attempt_and_one_without_an_end_win_nothing() -> None:
    tied = said([TASK], sure(("3", 1.0), ("4", 1.0)), "borda")
    assert [(v.ok, v.score) for v in tied] == [(False, 0.5)] * 2
    [lone] = said([TASK], sure(("3", 1.0)), "borda")
    assert (lone.ok, lone.score) == (False, 1.0)
    group = sure(("3", 1.0), ("3", 2.0))
    made = said([TASK], [group[0]._replace(finished=False), group[1]], "borda")
    assert [v.ok for v in made] == [False, True]


voters = st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 9)), min_size=1, max_size=12)


@given(voters, st.floats(0, 4))
def test_the_votes_are_those_of_the_paper(given: list[tuple[str, float]], power: float) -> None:
    """v(r) = (N - r + 1) ** p (Kang et al., arXiv:2502.18581), where no two are equally sure."""
    number = len(given)
    distinct = [(answer, rank) for rank, (answer, _) in enumerate(given, start=1)]
    found = voted([answer for answer, _ in distinct], [-float(rank) for _, rank in distinct], power)
    votes = Counter[str]()
    for answer, rank in distinct:
        votes[answer] += (number - rank + 1) ** power
    assert found == pytest.approx({answer: vote / votes.total() for answer, vote in votes.items()})


@given(voters, st.floats(0, 4), st.randoms())
def test_votes_are_shares_that_do_not_depend_on_the_order(given: list[tuple[str, float]], power: float, random) -> None:  # type: ignore[no-untyped-def]
    mixed = random.sample(given, len(given))
    one, other = (voted([a for a, _ in some], [s for _, s in some], power) for some in (given, mixed))
    assert one == pytest.approx(other)
    assert sum(one.values()) == pytest.approx(1)


@given(voters)
def test_a_power_of_zero_is_the_plain_majority(given: list[tuple[str, float]]) -> None:
    answers = [answer for answer, _ in given]
    counted = Counter(answers)
    assert voted(answers, [s for _, s in given], 0.0) == pytest.approx({a: n / len(given) for a, n in counted.items()})
