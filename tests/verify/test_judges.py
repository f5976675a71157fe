"""Verifiers that ask a policy, asked of tiny policies that were taught their answers."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kfp.dsl import Dataset, Model
from selfloop.artifacts import seal
from selfloop.environments import find_environment
from selfloop.errors import UserError
from selfloop.modes.inprocess import run
from selfloop.policy import Policy, save
from selfloop.recipe import find_recipe
from selfloop.records import Audit, Rollout, Task, Verdict, rows
from selfloop.verify import VerifyParams, judge_rollouts, verified_by, verify_rollouts
from selfloop.verify.verifiers.asking import framed
from selfloop.verify.verifiers.fobar import combined, in_english, in_words, spread, value
from selfloop.verify.verifiers.judge import PROMPT, Judge, mark
from selfloop.verify.verifiers.judge_pairwise import PROMPT as PAIR
from selfloop.verify.verifiers.judge_pairwise import JudgePairwise, choice, pairs, win_rates
from selfloop.verify.verifiers.paths import path, resultant
from selfloop.verify.verifiers.round_trip import agreed

from ..conftest import sealed_table
from .conftest import a_task, attempts, said, trained_on

pytestmark = pytest.mark.slow

RUBRIC = "Right?"
ONE, PAIRWISE = Judge(rubric=RUBRIC, samples=1), JudgePairwise(rubric=RUBRIC, samples=1)
TASK = a_task("t")


def marks(*answers: tuple[str, str]) -> Policy:
    """A policy that was taught what to say of each answer."""
    return trained_on([(framed(PROMPT, RUBRIC, task=TASK.prompt, answer=a), says) for a, says in answers])


@pytest.fixture(scope="module")
def marker() -> Policy:
    return marks(("3", "SCORE: 9"), ("90", "SCORE: 2"))


@pytest.fixture(scope="module")
def undecided() -> Policy:
    """Half of what it says is a mark, whatever it is asked."""
    prompts = [framed(PROMPT, RUBRIC, task=TASK.prompt, answer=answer) for answer in ("3", "4")]
    return trained_on([(prompt, says) for prompt in prompts for says in ("SCORE: 6", "who knows")], steps=60)


@pytest.fixture(scope="module")
def first_is_best() -> Policy:
    """A judge that prefers what stands first."""
    orders = [("3", "4"), ("4", "3"), ("90", "3"), ("4", "90")]
    return trained_on([(framed(PAIR, RUBRIC, task=TASK.prompt, a=a, b=b), "BETTER: A") for a, b in orders])


# Pointwise


def test_a_judge_marks_each_answer(marker: Policy) -> None:
    rollouts = attempts(TASK, "3", "90", "3", "3")
    rollouts[3] = rollouts[3]._replace(finished=False)
    made = said([TASK], rollouts, ONE, marker)
    assert [(v.ok, v.score, v.reason) for v in made] == [
        (True, 0.9, "judged good"),
        (False, 0.2, "judged not good"),
        (True, 0.9, "judged good"),
        (False, 0.0, "no end token"),
    ]


def test_several_samples_are_averaged_and_what_cannot_be_read_is_counted(undecided: Policy, tmp_path: Path) -> None:
    save(undecided, tmp_path / "judge")
    seal(tmp_path / "judge", "Model")
    verdicts, audit = (Dataset(uri=str(tmp_path / name)) for name in ("verdicts", "audit"))
    judge_rollouts.into(
        judge_rollouts.out(verdicts=verdicts, audit=audit),
        VerifyParams(verifier=Judge(rubric=RUBRIC, samples=16, max_tokens=12)),
        model=Model(uri=str(tmp_path / "judge")),
        tasks=sealed_table(tmp_path / "tasks", Task, [TASK]),
        rollouts=sealed_table(tmp_path / "rollouts", Rollout, attempts(TASK, "3", "4")),
    )
    made = list(rows(verdicts.path, Verdict))
    assert [v.ok for v in made] == [True, True]
    assert [v.score for v in made] == pytest.approx([0.6, 0.6])
    notes = audit.metadata["audit"]["notes"]
    assert notes["answers"] == 32
    assert 4 < notes["answers that cannot be read"] < 28
    assert [row.truth for row in rows(audit.path, Audit)] == [True, False]


def test_a_judge_that_answers_rubbish_is_refused_in_one_sentence(marker: Policy) -> None:
    rubbish = marks(("3", "x+x+x"), ("90", "SCORE: 99"))
    with pytest.raises(
        UserError, match="Not one of the 2 answers that the verifier 'judge' got from its policy can be"
    ):
        said([TASK], attempts(TASK, "3", "90"), ONE, rubbish)


def test_an_answer_that_was_cut_off_is_no_mark(marker: Policy) -> None:
    cut = Judge(rubric=RUBRIC, samples=1, max_tokens=len("SCORE: 9"))
    with pytest.raises(UserError, match=r"Not one of the 1 answers .* can be read, such as 'SCORE: 9'"):
        said([TASK], attempts(TASK, "3"), cut, marker)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SCORE: 7", 0.7),
        ("It is wrong.\nSCORE: **0**", 0.0),
        ("SCORE: 2 ... no: SCORE: 10", 1.0),
        (" 8/10 ", 0.8),
        ("8.", 0.8),
        ("SCORE: 11", None),
        ("SCORE: 100", None),
        ("SCORE: 7.5", None),
        ("SCORE: -1", None),
        ("Good.\nSCORE: 8.", 0.8),
        ("SCORE: 10.", 1.0),
        ("Score: 8", 0.8),
        ("SCORE: [8]", 0.8),
        ("**SCORE:** 8/10", 0.8),
        ("SCORE: 8 out of 10.", 0.8),
        ("SCORE: \\boxed{8}", 0.8),
        ("SCORE：8", 0.8),
        ("SCORE:\n8.0", 0.8),
        ('{"score": 8}', 0.8),
        ("<score>8</score>", 0.8),
        ("**8**", 0.8),
        ("SCORE: 3 at first sight, but the end is right.\nSCORE: 9.", 0.9),
        ("SCORE: 3. No: SCORE: 7.5", None),
        ("SCORE: 3. No: SCORE: n", None),
        ("SCORE: 8-9", None),
        ("SCORE: 8 → 9", None),
        ("SCORE: 2^3", None),
        ("SCORE: 3 + 4 = 7", None),
        ("SCORE: 8 9", None),
        ("SCORE: 8±1", None),
        ("SCORE: 8+", None),
        ("SCORE: <8", None),
        ("SCORE: <8>", 0.8),
        ("SCORE (0-10): 8", 0.8),
        ("SCORE: 8 or 9", None),
        ("SCORE: 4/5", None),
        ("SCORE: 80%", None),
        ("Underscore: 5", None),
        ("The answer is 8", None),
        ("", None),
    ],
)
def test_a_mark_is_what_stands_behind_score_or_alone(text: str, expected: float | None) -> None:
    assert mark(text) == expected


@given(st.text())
def test_whatever_a_judge_says_is_a_mark_or_none(text: str) -> None:
    found = mark(text)
    assert found is None or 0 <= found <= 1


# Pairwise


@given(st.text(alphabet="-a\n", max_size=40), st.text(alphabet="-b\n", max_size=40))
def test_data_cannot_close_the_lines_that_it_stands_between(task: str, answer: str) -> None:
    lines = framed(PROMPT, RUBRIC, task=task, answer=answer).split("\n")
    frame = max((line for line in lines if set(line) == {"-"}), key=len)
    assert len(frame) >= 5
    between = "\n".join(lines).split(f"\n{frame}\n")
    assert between[1::2] == [task, answer]
    assert framed(PROMPT, RUBRIC, task="a-b", answer="----").count("\n-----\n") == 4


def test_a_judge_that_prefers_what_stands_first_prefers_nothing(first_is_best: Policy) -> None:
    made = said([TASK], attempts(TASK, "3", "4", "90"), PAIRWISE, first_is_best)
    assert [(v.ok, v.score, v.reason) for v in made] == [(None, 0.5, "compared")] * 3


def test_the_better_of_two_wins_in_both_orders() -> None:
    knows = trained_on(
        [
            (framed(PAIR, RUBRIC, task=TASK.prompt, a=a, b=b), f"BETTER: {better}")
            for a, b, better in [("3", "4444", "A"), ("4444", "3", "B")]
        ]
    )
    made = said([TASK], attempts(TASK, "3", "4444", "3"), PAIRWISE, knows)
    assert [verdict.score for verdict in made] == [1.0, 0.0, 1.0]


def test_a_lone_attempt_is_compared_with_nothing(first_is_best: Policy) -> None:
    made = said([TASK], attempts(TASK, "3", "3"), "judge-pairwise,samples=1", first_is_best)
    assert [(v.ok, v.score, v.reason) for v in made] == [(None, 0.5, "not compared")] * 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("BETTER: A", 1.0),
        ("BETTER: **B**", 0.0),
        ("BETTER: A? BETTER: TIE", 0.5),
        ("BETTER: A.", 1.0),
        ("Better: [B]", 0.0),
        ("BETTER: Answer A", 1.0),
        ("BETTER: tie", 0.5),
        ('{"better": "A"}', 1.0),
        ("BETTER: A or B", None),
        ("BETTER: A. No: BETTER: neither", None),
        ("BETTER: a bit of both", None),
        ("A is better: B lacks the end", None),
        (" B.", 0.0),
        ("AB", None),
        ("", None),
    ],
)
def test_a_choice_is_what_stands_behind_better_or_alone(text: str, expected: float | None) -> None:
    assert choice(text) == expected


@given(st.integers(0, 12), st.integers(1, 12))
def test_every_pair_is_met_once_and_all_are_met_equally_often(number: int, opponents: int) -> None:
    texts = [str(n) for n in range(number)]
    found = pairs(texts, opponents)
    assert len({frozenset(pair) for pair in found}) == len(found)
    assert all(a != b for a, b in found)
    met = [sum(text in pair for pair in found) for text in texts]
    if opponents < number / 2:
        assert met == [2 * opponents] * number
    else:
        assert met == [number - 1] * number


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.sampled_from([0.0, 0.5, 1.0])), max_size=20)
)
def test_what_one_wins_the_other_loses(matches: list[tuple[str, str, float]]) -> None:
    outcomes: dict[tuple[str, str, str], list[float]] = {}
    for a, b, won in matches:
        outcomes.setdefault(("t", a, b), []).append(won)
    rates = win_rates(outcomes)
    counts = {name: sum(name in (a, b) for a, b, _ in matches) for name in "abcxyz"}
    assert sum(rate * counts[name] for (_, name), rate in rates.items()) == pytest.approx(len(matches))


# Forward and backward


def test_the_right_answer_lets_the_masked_numbers_be_found() -> None:
    task = a_task("t", "7+5=", "12")
    recalled = {"12": ("7", "5"), "90": ("9", "4")}
    knows = trained_on(
        [
            (prompt, number)
            for answer, numbers in recalled.items()
            for (prompt, _), number in zip(in_english(task.prompt, answer), numbers, strict=True)
        ]
    )
    how = "fobar,samples=2,temperature=0.1,max_tokens=5"
    made = said([task], attempts(task, "12", "90", "90", "90"), f"{how},alpha=0", knows)
    wrong = (False, 0.0, "not recovered")
    assert [(v.ok, v.score, v.reason) for v in made] == [(True, 1.0, "recovered"), wrong, wrong, wrong]
    both = said([task], attempts(task, "12", "90", "90", "90"), how, knows)
    assert [v.score for v in both] == [0.5, 0.0, 0.0, 0.0]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 8)), min_size=1, max_size=5), st.floats(0, 1))
def test_the_best_answer_is_that_of_the_papers_formula(counts: list[tuple[int, int]], alpha: float) -> None:
    votes, found = sum(vote for vote, _ in counts), sum(back for _, back in counts) or 1
    ours = [combined(vote / votes, back / 8, alpha) for vote, back in counts]
    theirs = [(vote / votes) ** alpha * (back / found) ** (1 - alpha) for vote, back in counts]
    assert max(theirs) == pytest.approx(theirs[ours.index(max(ours))])
    assert all(0 <= each <= 1 for each in ours)


def test_a_question_without_a_number_has_no_opinion(first_is_best: Policy) -> None:
    task = a_task("t", "Who?", "I")
    made = said([task], attempts(task, "I"), "fobar", first_is_best)
    assert [(v.ok, v.score, v.reason) for v in made] == [(None, 0.0, "no number to mask")]


@given(st.lists(st.integers(0, 10**6), max_size=6), st.integers(1, 9))
def test_each_number_is_masked_in_turn_and_the_samples_are_spread(numbers: list[int], samples: int) -> None:
    question = " and ".join(str(number) for number in numbers) + " of x2?"
    made = spread(in_english(question, "7"), samples)
    assert sum(each.samples for each in made) == (samples if numbers else 0)
    assert max((each.samples for each in made), default=0) - min((each.samples for each in made), default=0) <= 1
    assert [int(each.masked) for each in made] == numbers[:samples]
    for each in made:
        assert each.prompt.count("x") - question.count("x") == 2  # the mask, and the one that is asked for


def test_the_number_recovered_is_the_last_one_of_the_answer() -> None:
    assert [value(text) for text in ("x = 7", "1,200.5 it is", "first 3, then -4", "v2", "")] == [
        7,
        1200.5,
        -4,
        None,
        None,
    ]


# Where they belong


@pytest.mark.parametrize(
    ("name", "verifier", "kind"),
    [
        ("judge", "judge,samples=2", "policy"),
        ("weighted", "weighted,weights=fobar:1+exact:1", "policy"),
        ("reward-model", "reward-model", "reward model"),
    ],
)
def test_a_verifier_that_asks_a_model_is_refused_where_there_is_none(
    tmp_path: Path, name: str, verifier: str, kind: str
) -> None:
    tables = {
        "tasks": sealed_table(tmp_path / "tasks", Task, [TASK]),
        "rollouts": sealed_table(tmp_path / "rollouts", Rollout, attempts(TASK, "3")),
    }
    with pytest.raises(UserError, match=f"The verifier '{name}' asks a {kind}, which .* has not: use judge_rollouts"):
        verify_rollouts.into(
            verify_rollouts.out(
                verdicts=Dataset(uri=str(tmp_path / "verdicts")), audit=Dataset(uri=str(tmp_path / "audit"))
            ),
            VerifyParams(verifier=verifier),
            **tables,
        )
    with pytest.raises(UserError, match=f"'{name}' asks a {kind}, and this loop has none to hand it"):
        verified_by(VerifyParams(verifier=verifier), tasks=tables["tasks"], rollouts=tables["rollouts"])
    with pytest.raises(UserError, match=f"asks a {kind}, and it was given none: .*use the stage judge_rollouts"):
        said([TASK], attempts(TASK, "3"), verifier)


@pytest.mark.parametrize(
    ("recipe", "verifier", "kind"),
    [("expert-iteration", "reward-model", "reward model"), ("spiral", "judge", "policy")],
)
def test_a_loop_that_has_not_what_its_verifier_asks_does_not_start(
    recipe: str, verifier: str, kind: str, tmp_path: Path
) -> None:
    loop = find_recipe(recipe)
    with pytest.raises(UserError, match=f"'{verifier}' asks a {kind}, and this loop has none to hand it"):
        run(loop, loop.resolve({"verify": {"verifier": verifier}}), tmp_path / "run")
    assert not list((tmp_path / "run").glob("round-*"))


# In an environment's own words

CHAIN = find_environment("chain")
SUM = CHAIN.parse_proposal("57+3*2", "t")
STEPS = ("judge", "grounded", "reasoned")
RIGHT, WRONG = CHAIN.demonstration(SUM), CHAIN.spoilt(SUM, 1, 3)


def test_a_policy_is_asked_in_the_words_of_an_environment_that_has_the_role() -> None:
    asked = [CHAIN.asked(role, SUM, [each]) for role in STEPS for each in (RIGHT, WRONG)]
    asked += [CHAIN.asked("better", SUM, pair) for pair in ([RIGHT, WRONG], [WRONG, RIGHT])]
    knows = trained_on(
        [(each.prompt, each.answer) for each in asked], marks=("<judge>", "<grounded>", "<reasoned>", "<better>")
    )
    given = attempts(SUM, RIGHT, WRONG)
    for role in STEPS:
        marked = said([SUM], given, f"judge,role={role},samples=1", knows, environment="chain")
        assert [(v.ok, v.score) for v in marked] == [(True, 1.0), (False, 0.0)]
    compared = said([SUM], given, "judge-pairwise,samples=1", knows, environment="chain")
    assert [(v.ok, v.score, v.reason) for v in compared] == [(None, 1.0, "compared"), (None, 0.0, "compared")]


def test_paths_that_lead_to_their_answer_throughout_are_worth_more() -> None:
    by_heart = {"63": "29", "6329": "29", "60": "23", "6023": "23", "61": "29", "6125": "25"}  # what it answers at once
    asked = [(CHAIN.asked("now", SUM, [begun]).prompt, answer) for begun, answer in by_heart.items()]
    knows = trained_on(asked, marks=("<now>",))
    rollouts = attempts(SUM, "6329", "6023", "6125", "6329", "6329", "5")
    rollouts[4] = rollouts[4]._replace(finished=False)
    made = said([SUM], rollouts, "paths,samples=1", knows, environment="chain")
    assert [(v.ok, v.score) for v in made] == [(None, each) for each in (1.0, 1.0, 0.5, 1.0, 0.0, 0.0)]
    alone = said([SUM], attempts(SUM, "6329", "6329"), "paths,samples=1", knows, environment="chain")
    assert [v.score for v in alone] == [0.0, 0.0]


@given(st.lists(st.lists(st.sampled_from([-0.5, 0.0, 0.5]), min_size=1, max_size=6), min_size=1, max_size=5))
def test_the_reward_of_paths_is_the_length_of_their_mean_vector(margins: list[list[float]]) -> None:
    across = down = 0.0
    for each in margins:
        away = [number for number, margin in enumerate(each, start=1) if margin < 0]
        consistency, volatility = sum(margin > 0 for margin in each) / len(each), max(away, default=0) / len(each)
        across, down = across + consistency * math.cos(volatility), down + consistency * math.sin(volatility)
    assert resultant([path(each) for each in margins]) == pytest.approx(math.hypot(across, down) / len(margins))


def test_the_other_view_of_a_task_says_what_is_good() -> None:
    pairs = find_environment(name := "asked:better:chain")
    (task,) = pairs.tasks(3, 1, 1)
    turned = pairs.view(task)
    knows = trained_on([(turned.prompt, turned.answer)])
    rollouts = attempts(task, task.answer, turned.answer, task.answer)
    rollouts[2] = rollouts[2]._replace(finished=False)
    made = said([task], rollouts, "cross-view,samples=3,temperature=0.1,max_tokens=2", knows, environment=name)
    assert [(v.ok, v.score) for v in made] == [(True, 1.0), (False, 0.0), (False, 0.0)]


@pytest.mark.parametrize(
    ("verifier", "environment", "piece"),
    [
        ("judge", "chain", "Y"),
        ("paths", "chain", "<now>"),
        ("judge,role=grounded", "chain", "<grounded>"),
        ("judge-pairwise", "chain", "Y"),
        ("fobar", "countdown", "x"),
        ("fobar", "chain", "x"),
    ],
)
def test_a_policy_that_can_neither_be_asked_in_a_role_nor_in_english_is_refused(
    verifier: str, environment: str, piece: str
) -> None:
    never = trained_on([("57+3*2=", RIGHT)], steps=1)
    with pytest.raises(UserError, match=f"This policy has no token for '{piece}', and is asked .* base.roles"):
        said([SUM], attempts(SUM, RIGHT, WRONG), f"{verifier},samples=1", never, environment=environment)


def test_in_the_role_the_environment_asks_backwards_and_the_working_is_no_answer() -> None:
    other = f"{RIGHT[:2]}{int(RIGHT[2:]) + 1}"
    prompts = [in_words(CHAIN, SUM, CHAIN.extract_answer(text))[0][0] for text in (RIGHT, other)]
    assert prompts == ["<backward>+3*2=23<backward>", "<backward>+3*2=24<backward>"]
    knows = trained_on(list(zip(prompts, ("60=57", "60=58"), strict=True)), marks=("<backward>",))
    made = said([SUM], attempts(SUM, RIGHT, other, other), "fobar,samples=1", knows, environment="chain")
    assert [(v.ok, v.score) for v in made] == [(True, pytest.approx((1 / 3) ** 0.5)), (False, 0.0), (False, 0.0)]


def test_a_restated_task_is_good_where_the_policy_comes_back_to_the_attempt() -> None:
    asked = CHAIN.asked("restate", SUM, [RIGHT])
    other = f"{RIGHT[:2]}{int(RIGHT[2:]) + 1}"
    follows = trained_on([(SUM.prompt, RIGHT), ("57+4*2=", "6125"), ("57+3*1=", other)])
    given = attempts(asked, "+3*2", "+4*2", "+3*1", "+3<restate>*2")
    for agreement, scores in (("whole", [1.0, 0.0, 0.0, 1.0]), ("steps", [1.0, 0.0, pytest.approx(1 / 3), 1.0])):
        marked = said([asked], given, f"round-trip,samples=1,agreement={agreement}", follows, environment="chain")
        assert [verdict.score for verdict in marked] == scores
        assert [verdict.ok for verdict in marked] == [True, False, False, True]
    with pytest.raises(UserError, match="asks nobody to restate a task: take tasks of the role 'restate'"):
        said([SUM], attempts(SUM, RIGHT), "round-trip,samples=1", follows, environment="chain")


@given(st.lists(st.integers(0, 99), min_size=1, max_size=6), st.lists(st.integers(0, 99), max_size=6))
def test_steps_agree_up_to_the_first_that_is_another(one: list[int], other: list[int]) -> None:
    first, second = ("".join(f"{value:02}" for value in values) for values in (one, other))
    ends = CHAIN.steps(first)
    same = next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    made = agreed(first, second, ends)
    assert made == (1.0 if first == second else pytest.approx(same / (len(one) + 1)))
    assert agreed(first, second, []) == float(first == second)
