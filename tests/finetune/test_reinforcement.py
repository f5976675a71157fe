"""The on-policy stages: arms that learn, proposers, tools, a training that is killed, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from kfp.dsl import Artifact, Dataset, Model
from selfloop import progress
from selfloop.artifacts import manifest_of, read_json
from selfloop.environments import find_environment
from selfloop.environments.addition import Addition
from selfloop.errors import UserError
from selfloop.finetune import PretrainParams, ReinforceParams, pretrain_policy, reinforce_policy
from selfloop.finetune.online.rewards import Attempts, Reward, RewardContext
from selfloop.finetune.online.rewards.proposals import Proposal, ProposalNotes, ProposalReward
from selfloop.policy import fresh
from selfloop.propose.arms import ArmState
from selfloop.propose.curricula import Curriculum, TaskPool
from selfloop.propose.votes import repetition, votes
from selfloop.records import TOOL, Example, Rollout, Task, final_text, rows, segments_of

from ..conftest import sealed_table, sealed_value
from .conftest import collector_of, killed

pytestmark = pytest.mark.slow

WORKER = Path(__file__).with_name("reinforcement_worker.py")
SMALL: dict[str, Any] = {"curriculum": "bandit", "batch_size": 16, "group_size": 4, "max_tokens": 4, "lr": 1e-3}
PORTS = ("policy", "tasks", "eval_items", "state", "asked")


def tasks_of(levels: tuple[int, ...] = (1, 2), count: int = 12) -> list[Task]:
    return [task for level in levels for task in Addition().tasks(level, count, level)]


def job(place: Path, policy: Path, tasks: list[Task] | None = None, **params: Any) -> dict[str, Any]:
    """A training on arms, as a worker or this process takes it."""
    place.mkdir(parents=True, exist_ok=True)
    about = {
        "params": SMALL | params,
        "policy": str(policy),
        "tasks": sealed_table(place / "tasks", Task, tasks_of() if tasks is None else tasks).path,
        "eval_items": sealed_table(place / "eval_items", Task, []).path,
        "state": sealed_value(place / "before", {}).path,
    }
    (place / "job.json").write_text(json.dumps(about))
    return about


def reinforced(output: Path, about: dict[str, Any]) -> Model:
    """The candidate of a training; rollouts and state are beside it."""
    made = Model(uri=str(output / "candidate"))
    inputs: dict[str, Any] = {name: Artifact(uri=about[name]) for name in PORTS if name in about}
    reinforce_policy.into(
        reinforce_policy.out(
            candidate=made,
            rollouts=Dataset(uri=str(output / "rollouts")),
            state=Artifact(uri=str(output / "state")),
        ),
        ReinforceParams.model_validate(about["params"]),
        **inputs,
    )
    return made


def trained_here(output: Path, about: dict[str, Any]) -> tuple[Model, list[int]]:
    """What this process trains, and the steps that it took."""
    seen: list[int] = []
    with progress.watched_by(lambda done, total, unit: seen.append(done)):
        return reinforced(output, about), seen


def arms_in(output: Path) -> ArmState:
    """What the curriculum of a training remembers."""
    kept = read_json(output / "state")["curriculum"]
    return ArmState.model_validate({name: value for name, value in kept.items() if name != "strategy"})


@pytest.mark.parametrize(
    ("which", "params", "steps"),
    [
        ("trained", {"trainer": "own", "updates": 2, "checkpoint_every": 3}, [4, 5, 6, 7]),
        ("trained", {"trainer": "own", "curriculum": "reestimated,grain=round"}, [5, 6, 7]),
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
    killed(WORKER, tmp_path, 5)
    resumed, seen = trained_here(tmp_path / "candidate.partial", about)
    assert seen == steps
    assert not list(tmp_path.glob(".training-*"))
    whole, seen = trained_here(tmp_path / "whole", about)
    assert seen == [*range(1, 8)]
    assert resumed.metadata == whole.metadata
    for name in ("candidate", "rollouts", "state"):
        digests = {manifest_of(tmp_path / place / name).digest for place in ("candidate.partial", "whole")}
        assert len(digests) == 1, name


@pytest.mark.usefixtures("own")
def test_arms_are_drawn_learnt_of_and_raise_the_reward(trained: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {"batch_size": 64, "group_size": 8, "keep_draws": 4, "reward": "own_training:threes"}
    about = job(tmp_path, trained, tasks_of((1, 2), 60), steps=30, **given | {"lr": 1e-2})
    made, _ = trained_here(tmp_path / "out", about)
    rewards = made.metadata["rewards"]
    assert len(rewards) == 30
    assert sum(rewards[-10:]) > sum(rewards[:10]) + 10 * 0.2
    arms = arms_in(tmp_path / "out")
    assert arms.step == 30
    assert sum(arm.drawn for arm in arms.arms) == 30 * 8
    assert all(arm.rate is not None for arm in arms.arms)
    kept = list(rows(tmp_path / "out" / "rollouts", Rollout))
    assert len(kept) == 4 * 64
    assert {rollout.task for rollout in kept} <= {task.id for task in tasks_of((1, 2), 60)}


def test_in_the_grain_of_a_round_the_mass_stays_and_the_arms_learn_once(trained: Path, tmp_path: Path) -> None:
    about = job(tmp_path, trained, steps=3, curriculum="bandit,tau=0.01,grain=round")
    trained_here(tmp_path / "out", about)
    arms = arms_in(tmp_path / "out")
    assert arms.step == 1
    assert arms.course[0].mass == {1: 0.5, 2: 0.5}
    assert sum(arm.drawn for arm in arms.arms) == 3 * 4


def test_probes_are_attempts_of_the_policy_that_trains(trained: Path, tmp_path: Path) -> None:
    about = job(tmp_path, trained, steps=1, curriculum="reestimated,grain=round,probe_tasks=6")
    trained_here(tmp_path / "out", about)
    [first, second] = arms_in(tmp_path / "out").arms
    assert first.rate is not None
    assert second.rate is not None
    assert first.rate > 0


class Again(Curriculum):
    """The first task, the second, and the first again."""

    def choose(self, state: Any, pool: TaskPool, *_: Any) -> tuple[list[Task], Any]:
        return [pool.tasks[0], pool.tasks[1], pool.tasks[0]], state


def test_a_task_that_comes_twice_in_a_draw_has_two_groups_of_its_own(plain: Path) -> None:
    one, other = tasks_of((1,), 2)
    params = ReinforceParams(curriculum=Again(), batch_size=12, group_size=4, max_tokens=4)
    tried = collector_of(params, fresh(plain), [one, other]).collect(0, 3)
    named = [each.rollout.task for each in tried.attempts]
    assert named == [one.id] * 4 + [other.id] * 4 + [one.id] * 4
    for each, reward in zip(tried.attempts, tried.rewards.flatten().tolist(), strict=True):
        task = one if each.rollout.task == one.id else other
        assert reward == float(each.rollout.finished and each.rollout.completion == task.answer)
    assert len({each.rollout.attempt for each in tried.attempts if each.rollout.task == one.id}) == 8


@pytest.fixture(scope="session")
def calculator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny policy that has learnt to propose expressions, and to leave operations to the tool."""
    root, environment = tmp_path_factory.mktemp("calculator"), find_environment("arithmetic")
    worked = [
        Example(task.id, 1, task.prompt, text, 0, segments=segments_of(text, environment.non_policy_spans(text), TOOL))
        for task in environment.tasks(1, 200, 3)
        for text in [environment.demonstration(task)]
    ]
    assert environment.proposal_prompt is not None
    proposed = [
        Example(f"p{n}", 1, environment.proposal_prompt, text, 0)
        for n, text in enumerate(environment.proposals(1, 200, 4))
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
    given = {"environment": "arithmetic", "protocol": "tools,tools=op,turns=3", "max_tokens": 12}
    given |= {"trainer": trainer, "accumulate": parts, "steps": 3, "curriculum": "in-turn"}
    tasks = list(find_environment("arithmetic").tasks(1, 8, 9))
    made = reinforced(tmp_path / "out", job(tmp_path, calculator, tasks, **given))
    kept = list(rows(tmp_path / "out" / "rollouts", Rollout))
    assert len(kept) == 3 * 16
    called = [rollout for rollout in kept if rollout.turns > 1]
    assert called
    for rollout in called:
        by_the_tool = [part.text for part in rollout.segments if part.author == TOOL]
        assert len(by_the_tool) == rollout.turns - 1
        assert all(text.startswith("<result>") for text in by_the_tool)
    assert len(made.metadata["rewards"]) == 3
    assert manifest_of(made.path).digest != manifest_of(calculator).digest


def proposing(reward: str, **given: Any) -> dict[str, Any]:
    """The parameters of a training of a proposer."""
    shape = {"batch_size": 8, "group_size": 8, "steps": 2, "max_tokens": 12, "lr": 1e-3, "environment": "arithmetic"}
    solving = "attempts=4,max_tokens=12,protocol=tools,protocol.tools=op,protocol.turns=3"
    return shape | {"curriculum": "proposal-prompt", "reward": f"{reward},{solving}"} | given


def proposed(policy: Path, solver: Path, place: Path, reward: str = "agent0", **given: Any) -> Model:
    about = {"params": proposing(reward, **given), "policy": str(policy), "asked": str(solver)}
    return reinforced(place, about)


@pytest.mark.parametrize("name", ["agent0", "agent0-code", "r-zero"])
def test_a_proposal_is_rewarded_for_what_the_solvers_attempts_at_it_come_to(calculator: Path, name: str) -> None:
    environment, params = find_environment("arithmetic"), ReinforceParams.model_validate(proposing(name))
    reward, texts = params.reward, ["1+2", "3*4-5", "nonsense(", "1+2", "9-9=0", "7*8"]
    assert isinstance(reward, ProposalReward)
    prompt = Task("proposal", 0, "", "<new>", "")
    written = [Rollout("proposal", 0, n, "<new>", text, n != 5, len(text)) for n, text in enumerate(texts)]
    context = RewardContext("arithmetic", params, 0, 64, fresh(calculator))
    attempts = Attempts(0, [prompt], written, context)
    given, notes = reward.rewards(attempts, ProposalNotes())
    tasks = [environment.parse_proposal(text, "") if n not in (2, 5) else None for n, text in enumerate(texts)]
    known = list({task.prompt: task for task in tasks if task}.values())
    solved = reward.solved(attempts, known)
    said = {
        task.prompt: (
            votes(
                [
                    environment.extract_answer(final_text(a.completion, a.segments)) if a.finished else None
                    for a in tried
                ],
                "all",
            ),
            sum(a.turns - 1 for a in tried) / 4,
        )
        for task, tried in zip(known, solved, strict=True)
    }
    shares = repetition(
        [text if task is None else task.prompt for text, task in zip(texts, tasks, strict=True)], reward.near
    )
    for number, task in enumerate(tasks):
        claimed = "0" if number == 4 else None
        proposal = Proposal(False, share=shares[number])
        if task is not None:
            vote, calls = said[task.prompt]
            proposal = Proposal(True, vote, shares[number], calls, 0, claimed)
        assert given[number] == pytest.approx(reward.score(proposal)), texts[number]
    assert [len(each) for each in solved] == [4, 4, 4]
    assert given[2] == given[5] == (0.0 if name == "agent0" else -1.0)
    [told] = notes.draws
    assert told.valid == pytest.approx(4 / 6)
    assert told.distinct == pytest.approx(3 / 4)
    assert told.level == pytest.approx((1 + 2 + 1 + 1) / 4)


def test_a_proposer_without_a_solver_is_judged_by_the_policy_that_it_began_as(calculator: Path, tmp_path: Path) -> None:
    alone = reinforced(tmp_path / "alone", {"params": proposing("agent0"), "policy": str(calculator)})
    assert alone.metadata == proposed(calculator, calculator, tmp_path / "both").metadata


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

    given: dict[str, Any] = {"steps": 3, "checkpoint_every": 1}
    with pytest.raises(BrokenOffError), progress.watched_by(break_off):
        proposed(calculator, calculator, tmp_path / "again", **given)
    resumed = proposed(calculator, calculator, tmp_path / "again", **given)
    assert resumed.metadata == proposed(calculator, calculator, tmp_path / "whole", **given).metadata
    assert len(resumed.metadata["proposals"]) == 3


@pytest.mark.parametrize(("reward", "lowest"), [("agent0", 0.0), ("r-zero", -1.0)])
def test_a_proposer_that_writes_nothing_valid_continues_with_the_lowest_rewards(
    calculator: Path, tmp_path: Path, reward: str, lowest: float
) -> None:
    made = proposed(calculator, calculator, tmp_path, reward=reward, max_tokens=1)
    assert made.metadata["rewards"] == [lowest] * 2
    assert made.metadata["informative"] == 0, "no attempt is worth more than another"
    assert [each["valid"] for each in made.metadata["proposals"]] == [0.0] * 2
    assert made.metadata["steps"] == 2


@pytest.mark.parametrize(
    ("which", "params", "message"),
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
        (
            "plain",
            {"trainer": "trl", "algorithm": "role-baseline", "group_size": 1},
            "have groups of 2 attempts and more",
        ),
        ("plain", {"protocol": "tools,tools=nothing"}, "There is no tool 'nothing'"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_a_sentence(
    request: pytest.FixtureRequest, tmp_path: Path, which: str, params: dict[str, Any], message: str
) -> None:
    policy = request.getfixturevalue(which)
    with pytest.raises(UserError, match=message) as refused:
        trained_here(tmp_path / "out", job(tmp_path, policy, steps=1, **params))
    assert "\n" not in str(refused.value)


def test_arms_that_the_state_has_not_are_refused_or_begun(trained: Path, tmp_path: Path) -> None:
    about = job(tmp_path, trained, steps=1)
    trained_here(tmp_path / "first", about)
    about |= job(tmp_path / "more", trained, tasks_of((1, 2, 3)), steps=1) | {"state": str(tmp_path / "first/state")}
    with pytest.raises(UserError, match="The state that is restored has the arms 1, 2, the tasks have 1, 2, 3"):
        trained_here(tmp_path / "out", about)
    about["params"] |= {"curriculum": "bandit,other_arms=adapt"}
    trained_here(tmp_path / "out", about)
    arms = arms_in(tmp_path / "out")
    assert arms.levels == [1, 2, 3]
    assert arms.step == 2


def test_an_arm_without_a_task_that_is_no_held_out_item_is_refused(trained: Path, tmp_path: Path) -> None:
    about = job(tmp_path, trained, steps=1)
    about["eval_items"] = sealed_table(tmp_path / "judged", Task, tasks_of((2,))).path
    with pytest.raises(UserError, match="All tasks of level 2 are held-out items"):
        trained_here(tmp_path / "out", about)


def test_a_curriculum_that_chooses_among_tasks_is_given_some(trained: Path, tmp_path: Path) -> None:
    about = {"params": SMALL | {"steps": 1}, "policy": str(trained)}
    with pytest.raises(UserError, match=r"The curriculum 'bandit' chooses among tasks .* its tasks and eval_items"):
        trained_here(tmp_path / "out", about)


OWN = '''
from pydantic import BaseModel, Field

from selfloop.finetune.online.algorithms import Algorithm
from selfloop.finetune.online.rewards import Reward


class Seen(BaseModel):
    attempts: int = 0
    mean: float = 0.0


class RunningMean(Algorithm):
    """The reward less the mean of all before."""

    name = "running-mean"
    keeps = Seen
    compares = False

    def advantages(self, groups, state):
        count, mean, made = state.attempts, state.mean, []
        for reward in groups.rewards.flatten().tolist():
            made.append(reward - mean)
            count, mean = count + 1, (mean * count + reward) / (count + 1)
        return groups.rewards.new_tensor(made).view_as(groups.rewards), Seen(attempts=count, mean=mean)


class Novel(Reward):
    """One for what no draw wrote before."""

    name = "novel"
    asks = "start"

    class keeps(BaseModel):
        texts: list[str] = []

    def rewards(self, attempts, state):
        assert attempts.context.asked is not None
        texts = [rollout.completion for rollout in attempts.rollouts]
        return [float(text not in state.texts) for text in texts], self.keeps(texts=sorted({*state.texts, *texts}))


class Echo(Reward):
    """What it asks is noted: one for each draw in which that has other weights than in the one before."""

    name = "echo"
    whom_: str = Field("policy", description="Whom it asks.")

    class keeps(BaseModel):
        sums: list[float] = []

    def whom(self):
        return self.whom_

    def rewards(self, attempts, state):
        model = attempts.context.asked.model
        assert not model.training
        total = float(sum(weight.detach().double().sum() for weight in model.parameters()))
        given = [rollout.completion.count("3") / 4 for rollout in attempts.rollouts]
        return given, self.keeps(sums=[*state.sums, total])


def threes(attempts, *, digit: str = "3"):
    """How often a digit is written."""
    return [rollout.completion.count(digit) / 4 for rollout in attempts.rollouts]


def nowhere(attempts):
    """No number."""
    return [float("nan")] * len(attempts.rollouts)
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_training.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize("trainer", ["own", "trl"])
def test_what_users_own_strategies_remember_goes_from_round_to_round(plain: Path, tmp_path: Path, trainer: str) -> None:
    given: dict[str, Any] = {
        "algorithm": "own_training:RunningMean",
        "reward": "own_training:Novel",
        "trainer": trainer,
        "steps": 2,
    }
    about = job(tmp_path, plain, **given, curriculum="in-turn")
    trained_here(tmp_path / "one", about)
    next_round = {"state": str(tmp_path / "one" / "state"), "params": about["params"] | {"round": 1}}
    trained_here(tmp_path / "two", about | next_round)
    one, two = (read_json(tmp_path / place / "state") for place in ("one", "two"))
    assert one["curriculum"] == {"strategy": "in-turn"}
    assert one["algorithm"]["strategy"] == "own_training:RunningMean"
    assert [each["algorithm"]["attempts"] for each in (one, two)] == [32, 64]
    assert set(one["reward"]["texts"]) < set(two["reward"]["texts"])


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(("whom", "different"), [("policy", 3), ("start", 1), ("other", 1)])
def test_a_reward_asks_the_policy_as_it_is_or_as_it_began_or_another(
    plain: Path, trained: Path, tmp_path: Path, whom: str, different: int
) -> None:
    about = job(tmp_path, plain, reward=f"own_training:Echo,whom_={whom}", steps=3, curriculum="in-turn", lr=1e-2)
    trained_here(tmp_path / "out", about | ({"asked": str(trained)} if whom == "other" else {}))
    sums = read_json(tmp_path / "out" / "state")["reward"]["sums"]
    assert len(set(sums)) == different
    began = float(
        sum(weight.double().sum() for weight in fresh(trained if whom == "other" else plain).model.parameters())
    )
    assert sums[0] == began


@pytest.mark.usefixtures("own")
def test_a_reward_that_gives_no_number_ends_the_training_in_a_sentence(plain: Path, tmp_path: Path) -> None:
    about = job(tmp_path, plain, reward="own_training:nowhere")
    with pytest.raises(UserError, match="The reward 'own_training:nowhere' gave nan to an attempt"):
        trained_here(tmp_path / "out", about)


@pytest.mark.usefixtures("own")
def test_a_reward_of_ones_own_is_a_function_with_parameters() -> None:
    reward = Reward.parse("own_training:threes,digit=7")
    rollout = Rollout("a", 1, 0, "", "773", True, 3)
    assert reward(Attempts(0, [], [rollout], RewardContext("addition", ReinforceParams(), 0, 1))) == [0.5]


GAME = '''
from selfloop.generate.protocols import Ask, Reward


def duel(task):
    """Two seats name a digit; the higher one wins, and the second seat hears what the first said."""
    first = yield Ask(role="first")
    yield Ask(text=first.text[:1], role="second")
    won = 1.0 if "5" in first.text else -1.0
    yield Reward(won, role="first")
    yield Reward(-won, role="second")


def fickle(task):
    """Asks a second seat by the task's whim."""
    yield Ask(role="first")
    yield Reward(1.0, role="first")
    if task.level == 2:
        yield Ask(role="second")


def mute(task):
    """Rewards nobody."""
    yield Ask(role="first")
    yield Ask(role="second")
'''
PLAYED: dict[str, Any] = {
    "curriculum": "in-turn",
    "protocol": "own_games:duel",
    "reward": "protocol",
    "algorithm": "role-baseline,decay=0.5",
    "group_size": 1,
    "batch_size": 8,
    "trainer": "own",
    "steps": 2,
}


@pytest.fixture
def games(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_games.py").write_text(GAME)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("games")
def test_one_policy_learns_on_both_seats_of_a_game_with_a_baseline_for_each(plain: Path, tmp_path: Path) -> None:
    about = job(tmp_path, plain, **PLAYED)
    trained_here(tmp_path / "one", about)
    trained_here(tmp_path / "two", about | {"state": str(tmp_path / "one" / "state")})
    for place, before in (("one", 0.0), ("two", None)):
        kept = list(rows(tmp_path / place / "rollouts", Rollout))
        assert len(kept) == 2 * 8 * 2
        assert [rollout.role for rollout in kept] == ["first", "second"] * 16
        episodes = [rollout.episode for rollout in kept]
        assert episodes[::2] == episodes[1::2]
        assert len(set(episodes)) == 16
        baselines = read_json(tmp_path / place / "state")["algorithm"]["baselines"]
        assert baselines["first"] == -baselines["second"] != before
    one, two = (read_json(tmp_path / place / "state")["algorithm"] for place in ("one", "two"))
    assert one["strategy"] == two["strategy"] == "role-baseline,decay=0.5"
    assert one["baselines"] != two["baselines"]


@pytest.mark.usefixtures("games")
@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"protocol": "own_games:fickle"}, "The protocol asked for first in one attempt and for first and second in"),
        ({"protocol": "own_games:mute"}, "The protocol rewarded nothing in a whole draw"),
        ({"trainer": "trl", "group_size": 2}, "The protocol asks for the roles 'first' and 'second'"),
    ],
)
def test_what_cannot_be_played_is_refused_in_a_sentence(
    plain: Path, tmp_path: Path, params: dict[str, Any], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        trained_here(tmp_path / "out", job(tmp_path, plain, **PLAYED | params))
