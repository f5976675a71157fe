"""The on-policy stages: arms that learn, proposers, tools, a training that is killed, and what is refused."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from kfp.dsl import Artifact, Dataset, Model
from selfloop import progress
from selfloop.artifacts import manifest_of, read_json
from selfloop.environments import find_environment
from selfloop.environments.addition import Addition
from selfloop.errors import UserError
from selfloop.finetune import (
    PretrainParams,
    ReinforceArmsParams,
    ReinforceParams,
    ReinforceProposerParams,
    pretrain_policy,
    reinforce_arms,
    reinforce_policy,
    reinforce_proposer,
)
from selfloop.finetune.arms import ByArm
from selfloop.finetune.online.sampling import Clean
from selfloop.finetune.online.collector import InTurn, Practice, Verified
from selfloop.finetune.proposer import Voted
from selfloop.generate.engines.transformers import Transformers
from selfloop.generate.protocols import final
from selfloop.policy import fresh
from selfloop.propose.arms import Arms
from selfloop.propose.rewards import Proposal, Weights, curriculum_reward, repetition, votes
from selfloop.records import Example, Rollout, Task, rows

from .. import forked
from ..conftest import sealed_table, sealed_value

WORKER = Path(__file__).with_name("reinforcing_worker.py")
SMALL: dict[str, Any] = {"levels": [1, 2], "batch_size": 16, "group_size": 4, "max_tokens": 4, "lr": 1e-3}


def tasks_of(levels: tuple[int, ...] = (1, 2), count: int = 12) -> list[Task]:
    return [task for level in levels for task in Addition().tasks(level, count, level)]


def job(place: Path, policy: Path, tasks: list[Task] | None = None, **params: Any) -> dict[str, Any]:
    """A training on arms, as a worker or this process takes it."""
    place.mkdir(parents=True, exist_ok=True)
    asked = ReinforceArmsParams.model_validate(SMALL | params)
    about = {
        "params": SMALL | params,
        "policy": str(policy),
        "tasks": sealed_table(place / "tasks", Task, tasks_of() if tasks is None else tasks).path,
        "items": sealed_table(place / "items", Task, []).path,
        "arms": sealed_value(place / "arms", Arms.begin(asked).to_json()).path,
    }
    (place / "job.json").write_text(json.dumps(about))
    return about


def trained_here(output: Path, about: dict[str, Any]) -> tuple[Model, list[int]]:
    """What this process trains, beside it rollouts and arms, and the steps that it took."""
    made, seen = Model(uri=str(output / "candidate")), list[int]()
    with progress.watched_by(lambda done, total, unit: seen.append(done)):
        reinforce_arms.into(
            reinforce_arms.out(
                candidate=made,
                rollouts=Dataset(uri=str(output / "rollouts")),
                arms=Artifact(uri=str(output / "arms")),
            ),
            ReinforceArmsParams.model_validate(about["params"]),
            policy=Model(uri=about["policy"]),
            tasks=Dataset(uri=about["tasks"]),
            items=Dataset(uri=about["items"]),
            arms=Artifact(uri=about["arms"]),
        )
    return made, seen


def killed(place: Path, kill_at: int) -> None:
    done = forked.run(str(WORKER), str(place), str(kill_at))
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize(
    ("which", "params", "steps"),
    [
        ("trained", {"trainer": "own", "updates": 2, "checkpoint_every": 3}, [4, 5, 6, 7]),
        ("trained", {"trainer": "own", "grain": "round", "strategy": "reestimated"}, [5, 6, 7]),
        ("plain", {"trainer": "trl", "updates": 2, "checkpoint_every": 3}, [5, 6, 7]),
    ],
    ids=["own, in the middle of a draw", "own, whose arms learn of a round", "TRL, which keeps no draw"],
)
def test_a_killed_training_ends_with_equal_policies_arms_and_rollouts(
    request: pytest.FixtureRequest, tmp_path: Path, which: str, params: dict[str, Any], steps: list[int]
) -> None:
    about = job(
        tmp_path, request.getfixturevalue(which), **{"steps": 7, "checkpoint_every": 2, "keep_draws": 3} | params
    )
    killed(tmp_path, 5)
    resumed, seen = trained_here(tmp_path / "candidate.partial", about)
    assert seen == steps
    assert not list(tmp_path.glob(".training-*"))
    whole, seen = trained_here(tmp_path / "whole", about)
    assert seen == [*range(1, 8)]
    assert resumed.metadata == whole.metadata
    for name in ("candidate", "rollouts", "arms"):
        digests = {manifest_of(tmp_path / place / name).digest for place in ("candidate.partial", "whole")}
        assert len(digests) == 1, name


def test_arms_are_drawn_learnt_of_and_raise_the_pass_rate(trained: Path, tmp_path: Path) -> None:
    about = job(tmp_path, trained, tasks_of((1, 2), 60), steps=80, batch_size=64, group_size=8, keep_draws=4)
    made, _ = trained_here(tmp_path / "out", about)
    rewards = made.metadata["rewards"]
    assert len(rewards) == 80
    assert sum(rewards[-20:]) > sum(rewards[:20]) + 20 * 0.05
    arms = Arms.from_json(read_json(tmp_path / "out" / "arms"))
    assert arms.step == 80
    assert sum(arm.drawn for arm in arms.arms) == 80 * 8
    assert all(arm.rate is not None for arm in arms.arms)
    kept = list(rows(tmp_path / "out" / "rollouts", Rollout))
    assert len(kept) == 4 * 64
    assert {rollout.task for rollout in kept} <= {task.id for task in tasks_of((1, 2), 60)}


def test_in_the_grain_of_a_round_the_mass_stays_and_the_arms_learn_once(trained: Path, tmp_path: Path) -> None:
    about = job(tmp_path, trained, steps=3, grain="round", tau=0.01)
    trained_here(tmp_path / "out", about)
    arms = Arms.from_json(read_json(tmp_path / "out" / "arms"))
    assert arms.step == 1
    assert arms.course[0].mass == {1: 0.5, 2: 0.5}
    assert sum(arm.drawn for arm in arms.arms) == 3 * 4


@pytest.mark.parametrize(("grain", "draws"), [("step", [0, 2]), ("round", [0])])
def test_pass_rates_are_measured_where_a_phase_begins(grain: str, draws: list[int]) -> None:
    params = ReinforceArmsParams.model_validate(
        SMALL | {"grain": grain, "strategy": "reestimated", "horizon": 4, "probe_tasks": 3}
    )
    course, probed = ByArm(params, Arms.begin(params), Clean(tasks_of(), 0)), list[int]()

    def probe(draw: int, tasks: Any) -> list[float]:
        probed.append(draw)
        assert [task.level for task in tasks] == [1, 1, 1, 2, 2, 2]
        return [1, 1, 1, 0, 1, 0]

    import numpy as np

    for draw in range(4):
        tasks = course.tasks(draw, 4, probe)
        course.learnt(draw, tasks, np.zeros((4, 4)), np.zeros((4, 4)))
    assert probed == draws


def test_probes_are_attempts_of_the_policy_that_trains(trained: Path, tmp_path: Path) -> None:
    about = job(tmp_path, trained, steps=1, strategy="reestimated", grain="round", probe_tasks=6)
    trained_here(tmp_path / "out", about)
    [first, second] = Arms.from_json(read_json(tmp_path / "out" / "arms")).arms
    assert first.rate is not None
    assert second.rate is not None
    assert first.rate > 0


def test_a_task_that_comes_twice_in_a_draw_has_two_groups_of_its_own(plain: Path) -> None:
    one, other = tasks_of((1,), 2)
    params = ReinforceParams(batch_size=12, group_size=4, max_tokens=4)

    class Again(InTurn):
        def tasks(self, *_: Any) -> list[Task]:
            return [one, other, one]

    tried = Practice(params, fresh(plain), Again([], 0), Verified(params)).tried(0, 3)
    named = [each.rollout.task for each in tried.attempts]
    assert named == [one.id] * 4 + [other.id] * 4 + [one.id] * 4
    for each, reward in zip(tried.attempts, tried.rewards.flatten().tolist(), strict=True):
        task = one if each.rollout.task == one.id else other
        assert reward == float(each.rollout.finished and each.rollout.completion == task.answer)
    assert len({each.rollout.attempt for each in tried.attempts if each.rollout.task == one.id}) == 8


@pytest.fixture(scope="session")
def calculator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny policy that has learnt to write expressions at the invitation, and to leave operations to the tool."""
    root, environment = tmp_path_factory.mktemp("calculator"), find_environment("arithmetic")
    worked = [
        Example(task.id, 1, task.prompt, environment.written(task), 0, observed=json.dumps(seen))
        for task in environment.tasks(1, 200, 3)
        for seen in [environment.observed(environment.written(task))]
    ]
    assert environment.invitation is not None
    proposed = [
        Example(f"p{n}", 1, environment.invitation, text, 0) for n, text in enumerate(environment.proposals(1, 200, 4))
    ]
    made = Model(uri=str(root / "policy"))
    pretrain_policy.into(
        pretrain_policy.out(policy=made),
        PretrainParams(
            environment="arithmetic",
            hidden_size=32,
            heads=2,
            intermediate_size=64,
            steps=160,
            lr=1e-2,
            warmup_steps=20,
            decay_steps=60,
        ),
        examples=sealed_table(root / "examples", Example, [*worked, *proposed]),
        held_out=sealed_table(root / "held out", Example, worked[:8]),
    )
    return Path(made.path)


@pytest.mark.parametrize("trainer", ["own", "trl"])
@pytest.mark.parametrize("parts", [1, 2])
def test_attempts_with_tools_train(calculator: Path, tmp_path: Path, trainer: str, parts: int) -> None:
    tasks = list(find_environment("arithmetic").tasks(1, 8, 9))
    made, rollouts = Model(uri=str(tmp_path / "made")), Dataset(uri=str(tmp_path / "rollouts"))
    reinforce_policy.into(
        reinforce_policy.out(candidate=made, rollouts=rollouts),
        ReinforceParams.model_validate(
            {"environment": "arithmetic", "protocol": "tools", "tools": ["op"], "turns": 3, "max_tokens": 12}
            | {"batch_size": 16, "group_size": 4, "steps": 3, "trainer": trainer, "accumulate": parts, "lr": 1e-3}
        ),
        policy=Model(uri=str(calculator)),
        tasks=sealed_table(tmp_path / "tasks", Task, tasks),
        items=sealed_table(tmp_path / "items", Task, []),
    )
    kept = list(rows(rollouts.path, Rollout))
    assert len(kept) == 3 * 16
    called = [rollout for rollout in kept if rollout.turns > 1]
    assert called
    assert all("<result>" in rollout.completion and rollout.observed != "[]" for rollout in called)
    assert len(made.metadata["rewards"]) == 3
    assert manifest_of(made.path).digest != manifest_of(calculator).digest


def proposer_params(**given: Any) -> ReinforceProposerParams:
    return ReinforceProposerParams.model_validate(
        {"batch_size": 8, "group_size": 8, "steps": 2, "max_tokens": 12, "votes": 4, "vote_tokens": 12, "lr": 1e-3}
        | {"protocol": "tools", "tools": ["op"], "turns": 3}
        | given
    )


def proposed(policy: Path, solver: Path, place: Path, **given: Any) -> Model:
    made = Model(uri=str(place / "made"))
    reinforce_proposer.into(
        reinforce_proposer.out(candidate=made, rollouts=Dataset(uri=str(place / "rollouts"))),
        proposer_params(**given),
        policy=Model(uri=str(policy)),
        solver=Model(uri=str(solver)),
    )
    return made


class Kept(Voted):
    """Remembers the solver's attempts."""

    attempts: list[list[Rollout]]

    def _attempts(self, draw: int, tasks: Any) -> list[list[Rollout]]:
        self.attempts = super()._attempts(draw, tasks)
        return self.attempts


@pytest.mark.parametrize("reward", ["paper", "code", "r-zero"])
def test_a_proposal_is_rewarded_for_what_the_solvers_attempts_at_it_come_to(calculator: Path, reward: str) -> None:
    environment, params = find_environment("arithmetic"), proposer_params(reward=reward)
    texts = ["1+2", "3*4-5", "nonsense(", "1+2", "9-9=0", "7*8"]
    invited = Task("invitation", 0, "", "<new>", "")
    written = [Rollout("invitation", 0, n, "<new>", text, n != 5, len(text)) for n, text in enumerate(texts)]
    voted = Kept(params, environment, Transformers(fresh(calculator), 64))
    given = voted(0, [invited], written)
    tasks = [environment.proposed(text, "") if n not in (2, 5) else None for n, text in enumerate(texts)]
    said = {
        task.prompt: (
            votes(
                [environment.answer_of(final(a.completion, a.observed)) if a.finished else None for a in tried], "all"
            ),
            sum(a.turns - 1 for a in tried) / 4,
        )
        for task, tried in zip(dict.fromkeys(t for t in tasks if t), voted.attempts, strict=True)
    }
    shares = repetition(
        [text if task is None else task.prompt for text, task in zip(texts, tasks, strict=True)], params.near
    )
    for number, task in enumerate(tasks):
        claimed = "0" if number == 4 else None
        proposal = Proposal(False, share=shares[number])
        if task is not None:
            vote, calls = said[task.prompt]
            proposal = Proposal(True, vote, shares[number], calls, 0, claimed)
        assert given[number] == pytest.approx(curriculum_reward(reward, proposal, Weights())), texts[number]
    assert len(voted.attempts) == 3
    assert [len(each) for each in voted.attempts] == [4, 4, 4]
    assert given[2] == given[5] == (0.0 if reward == "paper" else -1.0)
    [told] = voted.by_draw
    assert told.valid == pytest.approx(4 / 6)
    assert told.distinct == pytest.approx(3 / 4)
    assert told.level == pytest.approx((1 + 2 + 1 + 1) / 4)


def test_a_proposer_trains_and_says_what_its_proposals_came_to(calculator: Path, tmp_path: Path) -> None:
    made = proposed(calculator, calculator, tmp_path)
    told = made.metadata["proposals"]
    assert [sorted(each) for each in told] == [["calls", "distinct", "level", "rate", "valid"]] * 2
    assert told[0]["valid"] > 0
    assert len(list(rows(tmp_path / "rollouts", Rollout))) == 2 * 8


def test_what_proposals_came_to_survives_a_break(calculator: Path, tmp_path: Path) -> None:
    class BrokenOffError(Exception):
        pass

    def break_off(done: int, total: int, unit: str) -> None:
        if done == 2:
            raise BrokenOffError

    given = {"steps": 3, "checkpoint_every": 1}
    with pytest.raises(BrokenOffError), progress.watched_by(break_off):
        proposed(calculator, calculator, tmp_path / "again", **given)
    resumed = proposed(calculator, calculator, tmp_path / "again", **given)
    assert resumed.metadata == proposed(calculator, calculator, tmp_path / "whole", **given).metadata
    assert len(resumed.metadata["proposals"]) == 3


@pytest.mark.parametrize(("reward", "lowest"), [("paper", 0.0), ("r-zero", -1.0)])
def test_a_proposer_that_writes_nothing_valid_goes_on_with_the_lowest_rewards(
    calculator: Path, tmp_path: Path, reward: str, lowest: float
) -> None:
    made = proposed(calculator, calculator, tmp_path, reward=reward, max_tokens=1)
    assert made.metadata["rewards"] == [lowest] * 2
    assert [each["valid"] for each in made.metadata["proposals"]] == [0.0] * 2
    assert made.metadata["steps"] == 2


@pytest.mark.parametrize(
    ("which", "params", "told"),
    [
        (
            "plain",
            {"trainer": "own", "algorithm": "rloo", "kl_beta": 0.1},
            "trainer 'own' is one process's, has no kl_beta with 'rloo'",
        ),
        ("plain", {"trainer": "own", "engine": "vllm"}, "and draws with transformers: choose 'trl'"),
        ("trained", {"trainer": "trl"}, "TRL draws completions without this policy's position scheme"),
        (
            "plain",
            {"trainer": "trl", "algorithm": "rloo", "protocol": "correct"},
            "TRL's RLOO has attempts of one turn",
        ),
        ("plain", {"levels": [1, 2, 3]}, "Arm 3 has no tasks to draw: propose some of this level"),
        ("plain", {"protocol": "tools", "tools": ["nothing"]}, "There is no tool 'nothing'"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_a_sentence(
    request: pytest.FixtureRequest, tmp_path: Path, which: str, params: dict[str, Any], told: str
) -> None:
    policy = request.getfixturevalue(which)
    with pytest.raises(UserError, match=told) as refused:
        trained_here(tmp_path / "out", job(tmp_path, policy, steps=1, **params))
    assert "\n" not in str(refused.value)


def test_arms_that_the_state_has_not_are_refused_or_begun(trained: Path, tmp_path: Path) -> None:
    about = job(tmp_path, trained, tasks_of((1, 2, 3)), steps=1)
    about["params"] |= {"levels": [1, 2, 3]}
    with pytest.raises(UserError, match="The state that is restored has the arms 1, 2, the settings have 1, 2, 3"):
        trained_here(tmp_path / "out", about)
    about["params"] |= {"other_arms": "adapt"}
    trained_here(tmp_path / "out", about)
    assert Arms.from_json(read_json(tmp_path / "out" / "arms")).levels == [1, 2, 3]
