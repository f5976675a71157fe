"""The protocol of Multi-Agent Evolve: whom it asks what, and what each role is given."""

import json
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from selfloop import roles
from selfloop.environments import find_environment
from selfloop.environments.chain import Chain
from selfloop.generate.protocols import Ask, Reward, Wrote
from selfloop.generate.protocols.multi_agent_evolve import MultiAgentEvolve
from selfloop.records import Task
from selfloop.split import trains

CHAIN = Chain()
INVITATION = Task("i", 0, "", "<new>", "", metadata=json.dumps({"environment": "chain"}))
OPINION = {"1": 1.0, "0": 0.0}
SAID = st.sampled_from(["1", "0", "", "7"])


def learnt(is_learnt: bool) -> str:
    """A chain that may be learnt from, or one that may not."""
    return next(
        text for text in (f"{n:02}+3*8" for n in count()) if trains(CHAIN, CHAIN.parse_proposal(text, "")) is is_learnt
    )


USABLE, HELD_OUT = learnt(True), learnt(False)


def played(text: str, opinion_of_it: str, answers: list[tuple[str, bool]], opinions: list[str], **params: Any) -> Any:
    """What the roles are asked, and what they are given, where they write these texts."""
    steps = MultiAgentEvolve(answers=len(answers), **params)(INVITATION)
    asked, rewards, sent = dict[str, str | None](), dict[str, float](), None
    said = {"proposer": Wrote(text, True), "judge-0": Wrote(opinion_of_it, True)}
    for number, (answer, opinion) in enumerate(zip(answers, opinions, strict=True), 1):
        said |= {f"solver-{number}": Wrote(*answer), f"judge-{number}": Wrote(opinion, True)}
    try:
        while True:
            step = steps.send(sent)
            sent = None
            if isinstance(step, Reward):
                rewards[step.role] = rewards.get(step.role, 0.0) + step.value
            else:
                assert isinstance(step, Ask)
                asked[step.role], sent = step.prompt, said[step.role]
    except StopIteration:
        return asked, rewards


@settings(max_examples=80)
@given(
    text=st.sampled_from([USABLE, HELD_OUT, "57+", ""]),
    quality=SAID,
    attempts=st.lists(st.tuples(st.sampled_from(["6092", "11"]), st.booleans(), SAID), min_size=1, max_size=4),
    threshold=st.sampled_from([0.0, 0.7]),
)
def test_rewards_are_those_of_the_paper_and_poor_proposals_teach_no_solver(
    text: str, quality: str, attempts: list[tuple[str, bool, str]], threshold: float
) -> None:
    answers, opinions = [each[:2] for each in attempts], [each[2] for each in attempts]
    asked, rewards = played(text, quality, answers, opinions, quality=threshold)
    numbers = range(1, len(attempts) + 1)
    q, scores = OPINION.get(quality, 0.5), [OPINION.get(said, 0.5) for said in opinions]
    good = q >= threshold
    difficulty = 1 - sum(scores) / len(scores) if good else 0.0
    assert rewards["proposer"] == pytest.approx((q + difficulty + 1) / 3)
    solved = {f"solver-{n}": (scores[n - 1] + answers[n - 1][1]) / 2 for n in numbers}
    assert {role: given for role, given in rewards.items() if role.startswith("solver")} == (
        solved if good and text != HELD_OUT else {}
    )
    for number, said in enumerate([quality, *opinions]):
        assert rewards[f"judge-{number}"] == float(said in OPINION), "nothing else is asked of a judge"
    assert asked["proposer"] is None
    assert asked["judge-0"] == f"<new>{text}<judge>"
    assert {asked[f"solver-{n}"] for n in numbers} == {f"{text}="}
    assert [asked[f"judge-{n}"] for n in numbers] == [f"{text}={answer}<judge>" for answer, _ in answers]


def test_what_spells_a_mark_or_no_text_of_the_environment_is_not_asked() -> None:
    asked, _ = played(f"{USABLE[:2]}<judge>x{USABLE[2:]}<pad>", "1", [("60", True)], ["1"])
    assert (asked["judge-0"], asked["solver-1"]) == (f"<new>{USABLE}<judge>", f"{USABLE}=")


@settings(max_examples=60)
@given(
    st.sampled_from(["chain", "arithmetic:plain"]).map(find_environment),
    st.integers(1, 6),
    st.integers(0, 2**63 - 1),
)
def test_a_judge_of_proposals_is_shown_tasks_and_what_is_none(environment: Any, level: int, seed: int) -> None:
    [task] = environment.tasks(level, 1, seed)
    posed = roles.posed(environment, "propose/judge", task, seed)
    text = posed.prompt.removeprefix(environment.proposal_prompt).removesuffix("<judge>")
    assert posed.answer == str(int(roles.proposes(environment, text)))
    assert roles.graded(environment, posed, posed.answer).ok
    assert roles.root(posed) == task
    proposing = roles.proposal(environment, task)
    assert roles.graded(environment, proposing, roles.demonstration(environment, proposing, seed)).ok
    assert not roles.graded(environment, proposing, roles.spoilt(environment, proposing, seed)).ok
