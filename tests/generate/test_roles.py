"""Protocols that ask for several roles: a rollout for each, in one episode, with rewards by seat."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kfp.dsl import Dataset, Model
from selfloop import progress
from selfloop.environments.reverse import Reverse
from selfloop.errors import UserError
from selfloop.finetune.offline.encoding import IGNORED, Encoded
from selfloop.generate import GenerateParams, draw, generate_rollouts
from selfloop.generate.draw import Window, one_role
from selfloop.generate.engines.transformers import Transformers
from selfloop.generate.protocols import Ask, Reward, Steps, Wrote
from selfloop.policy import Policy
from selfloop.records import Example, Rollout, Segment, Task, final_text, rows

from ..conftest import sealed_table

FIRST, SECOND = "first", "second"
TASKS = [Task(f"t{number}", 1, "", "ab"[number % 2], f"{number}", attempts=2, max_tokens=4) for number in range(6)]


def higher(task: Task) -> Steps:
    """A game: each seat is told a card of its own, then what the other said; who wrote the later letter has won."""
    one: Wrote = yield Ask(f"(1{task.answer})", as_message=True, role=FIRST)
    other: Wrote = yield Ask(f"(2{one.text})", as_message=True, role=SECOND)
    last: Wrote = yield Ask(f"={other.text};", role=FIRST, author=SECOND)
    payoff = 1.0 if last.text >= other.text else -1.0
    yield Reward(payoff, role=FIRST)
    yield Reward(-payoff, role=SECOND)


def once_each(task: Task) -> Steps:
    wrote: Wrote = yield Ask()
    yield Reward(0.25)
    yield Reward(len(wrote.text))


def rewards_nobody(task: Task) -> Steps:
    yield Ask()
    yield Reward(1.0, role="third")


def drawn(policy: Policy, name: str = "higher", **params: Any) -> list[Rollout]:
    params = {"protocol": f"{__name__}:{name}", "greedy_first": False} | params
    return [rollout for window in draw(policy, TASKS, GenerateParams(**params)) for rollout in window]


def pairs(rollouts: list[Rollout]) -> Iterator[tuple[Rollout, Rollout]]:
    return zip(rollouts[::2], rollouts[1::2], strict=True)


def test_each_role_of_an_episode_has_a_rollout_with_what_it_read_and_wrote(wild: Policy) -> None:
    made = drawn(wild)
    assert [(rollout.task, rollout.attempt, rollout.role) for rollout in made] == [
        (task.id, attempt, role) for task in TASKS for attempt in range(2) for role in (FIRST, SECOND)
    ]
    assert len({rollout.episode for rollout in made}) == len(made) / 2
    for (one, other), task in zip(pairs(made), (task for task in TASKS for _ in range(2)), strict=True):
        assert one.episode == other.episode != ""
        opening, answer, last = one.segments
        assert (one.prompt, one.turns) == (f"{task.prompt}(1{task.answer})", 2)
        assert (other.prompt, other.turns) == (f"{task.prompt}(2{opening.text})", 1)
        assert [part.author for part in one.segments] == [FIRST, SECOND, FIRST]
        assert other.segments == (Segment(SECOND, other.completion, other.segments[0].reward),)
        assert answer.text == f"={other.completion};"
        assert one.completion == opening.text + answer.text + last.text
        assert final_text(one.completion, one.segments, FIRST) == last.text


def test_rewards_of_an_episode_are_those_of_the_seats(wild: Policy) -> None:
    payoffs = []
    for one, other in pairs(drawn(wild)):
        won = 1.0 if one.segments[-1].text >= other.completion else -1.0
        assert [part.reward for part in one.segments] == [None, None, won]
        assert [part.reward for part in other.segments] == [-won]
        payoffs.append(won)
    assert {*payoffs} == {1.0, -1.0}


def test_rewards_of_one_text_add_up(wild: Policy) -> None:
    for rollout in drawn(wild, "once_each"):
        assert rollout.episode == ""
        assert rollout.segments == (("policy", rollout.completion, 0.25 + len(rollout.completion)),)


def test_a_role_trains_on_what_it_wrote_itself(wild: Policy) -> None:
    for one, other in pairs(drawn(wild)):
        for rollout in (one, other):
            own = "".join(part.text for part in rollout.segments if part.author == rollout.role)
            example = Example(
                rollout.task, 1, rollout.prompt, rollout.completion, 1, role=rollout.role, segments=rollout.segments
            )
            batch = Encoded(wild, [example], [0]).batch([0])  # type: ignore[arg-type]
            assert wild.tokenizer.decode(batch["labels"][0][batch["labels"][0] != IGNORED]) == own + "<eos>"


def test_episodes_do_not_depend_on_what_is_decoded_beside_them(wild: Policy) -> None:
    given: dict[str, Any] = {"score": "nothing"}
    assert drawn(wild, window=1, batch_size=1, **given) == drawn(wild, window=100, **given)


def test_the_stage_writes_a_row_for_each_role_and_counts_attempts(trained: Path, tmp_path: Path) -> None:
    tasks = [task._replace(attempts=2) for task in Reverse().tasks(1, 5, seed=0)]
    made, seen = Dataset(uri=str(tmp_path / "rollouts")), list[tuple[int, int]]()
    with progress.watched_by(lambda done, total, unit: seen.append((done, total)) if unit == "rollouts" else None):
        generate_rollouts.into(
            generate_rollouts.out(rollouts=made),
            GenerateParams(protocol=f"{__name__}:plain_game", window=2),
            policy=Model(uri=str(trained)),
            tasks=sealed_table(tmp_path / "tasks", Task, tasks),
        )
    found = list(rows(made.path, Rollout))
    assert [rollout.role for rollout in found] == [FIRST, SECOND] * 10
    assert seen[-1] == (10, 10)


def plain_game(task: Task) -> Steps:
    yield Ask(role=FIRST)
    yield Ask(role=SECOND)


def apart(task: Task) -> Steps:
    one: Wrote = yield Ask(role=FIRST)
    yield Ask(role=SECOND, prompt=f"(2{one.text})")
    yield Ask("=", role=SECOND, prompt="is read once")


def test_a_role_may_read_another_prompt_than_that_of_the_task(wild: Policy) -> None:
    for (one, other), task in zip(pairs(drawn(wild, "apart")), (t for t in TASKS for _ in range(2)), strict=True):
        assert (one.prompt, other.prompt) == (task.prompt, f"(2{one.completion})")
        assert [part.author for part in other.segments] == [SECOND, "protocol", SECOND]


def test_a_reward_for_a_role_that_wrote_nothing_is_refused(wild: Policy) -> None:
    with pytest.raises(UserError, match="rewards the role 'third', which wrote nothing"):
        drawn(wild, "rewards_nobody")


def test_where_one_rollout_of_an_attempt_is_wanted_several_roles_are_refused(wild: Policy) -> None:
    with pytest.raises(UserError, match="asks for the roles 'first' and 'second'"):
        one_role(drawn(wild))
    assert one_role(single := drawn(wild, "once_each")) == single


def test_a_message_before_a_role_wrote_belongs_to_its_prompt_in_its_chat_template_too(wild: Policy) -> None:
    wild.tokenizer.chat_template = "{% for m in messages %}({{ m.role[0] }}{{ m.content }}){% endfor %}"
    try:
        [first, *_] = Window(
            Transformers(wild, 8), TASKS[:1], GenerateParams(protocol=f"{__name__}:greeted")
        ).tokenized()
    finally:
        wild.tokenizer.chat_template = None
    assert first.rollout.prompt == "ahello"
    assert wild.tokenizer.decode(first.prompt) == "(uahello)"
    assert first.rollout.segments == ()


def greeted(task: Task) -> Steps:
    yield Ask("hello", as_message=True)


def hinted(task: Task) -> Steps:
    yield Ask("c", author="policy")


def test_what_a_role_is_told_in_its_own_name_counts_as_its_own(wild: Policy) -> None:
    for rollout in drawn(wild, "hinted"):
        assert [part.author for part in rollout.segments] == ["policy", "policy"]
        assert rollout.completion.startswith("c")
        assert final_text(rollout.completion, rollout.segments) == rollout.completion
