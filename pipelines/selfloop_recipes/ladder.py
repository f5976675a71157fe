"""A ladder of reward models and policies: each policy's attempts make the next reward model, which makes the next one.

Each round a reward model is trained, from the champion's weights, on pairs of its right and wrong attempts, of this
round and of those before. On tasks of which nobody checks an answer, what it ranks first of the champion's attempts is
imitated; then the policy is reinforced by it, where by default the environment's check puts all wrong attempts below
all right ones. How far its best scores lie above the truth, the winner's curse, is told by the audit. After Yang et
al., "Qwen2.5-Math" (arXiv:2409.12122). Where the reward model is trained ``twice``, the first one labels or ranks the
attempts that the second is trained on as well. It is made anew each round and is no role: a policy is promoted alone.
"""

from typing import Literal, NamedTuple

from kfp.dsl import Model
from selfloop.filter import FilterParams, filter_rollouts
from selfloop.filter.filter import FilteredRollouts
from selfloop.finetune import (
    FinetuneParams,
    PretrainParams,
    ReinforceParams,
    RewardParams,
    finetune_policy,
    reinforce_policy,
    train_reward,
)
from selfloop.generate import GenerateParams, generate_rollouts
from selfloop.loop import Improved, LoopSettings, Now, verified
from selfloop.promote import GateParams
from selfloop.propose import BaseParams, DrawParams, draw_tasks
from selfloop.recipe import Recipe
from selfloop.settings import compile_time
from selfloop.verify import VerifyParams, verified_by

from selfloop_recipes.claims.ladder import claims, figures, forms


class Ladder(LoopSettings, rounds=4, environment="countdown", schedule="fixed,patience=4"):
    learns: Literal["both", "by imitation", "by reward"] = compile_time("both", description="How the policy does.")
    twice: bool = compile_time(False, description="Whether a second reward model is trained, after the first one.")
    base: BaseParams = BaseParams(levels=2, per_level=20_000)
    pretrain: PretrainParams = PretrainParams(
        hidden_size=96, intermediate_size=384, layers=3, steps=1200, decay_steps=300
    )
    draw: DrawParams = DrawParams(levels=[2], per_level=500, items_per_level=120)
    generate: GenerateParams = GenerateParams(attempts="fixed", samples=8, greedy_first=False, max_tokens=32)
    label: VerifyParams = VerifyParams(verifier="exact")
    pairs: FilterParams = FilterParams(select="best-worst")
    reward: RewardParams = RewardParams(steps=100, lr=3e-4)
    again: VerifyParams = VerifyParams(verifier="shaped")
    more_pairs: FilterParams = FilterParams(select="hard-negatives")
    more: DrawParams = DrawParams(levels=[2], per_level=500, stream="more")
    verify: VerifyParams = VerifyParams(verifier="reward-model")
    filter: FilterParams = FilterParams(select="best-worst")
    finetune: FinetuneParams = FinetuneParams(
        steps=60, lr=3e-4, newest_share=0.7, replay_share=0.0, seed_share=0.3, when_nothing="keep policy"
    )
    reinforce: ReinforceParams = ReinforceParams(reward="verified,verifier=shaped", steps=40, lr=1e-4, max_tokens=32)
    gate: GateParams = GateParams(confirm=3, guards="divergence")  # level 2 has few problems


class State(NamedTuple):
    champion: Model


def start(s: Ladder, policy: Model) -> State:
    return State(policy)


def improve(s: Ladder, now: Now) -> Improved:
    policy = now.state.champion
    tried = generate_rollouts(s.generate, policy, now.tasks).rollouts
    right = verified_by(s.label, tasks=now.tasks, rollouts=tried).verdicts
    pairs = filter_rollouts(s.pairs, tried, right, now.replay_pool)
    reward = train_reward(s.reward, policy, pairs.replay_pool, now.eval_items).reward
    if s.twice:
        ranked = verified_by(s.again, tasks=now.tasks, rollouts=tried, reward_model=reward).verdicts
        pairs = filter_rollouts(s.more_pairs, tried, ranked, pairs.replay_pool)
        second = s.reward.model_copy(update={"stream": "second"})
        reward = train_reward(second, policy, pairs.replay_pool, now.eval_items).reward
    tasks = draw_tasks(s.more).tasks
    fresh = generate_rollouts(s.generate.model_copy(update={"stream": "more"}), policy, tasks).rollouts
    seen = verified(s, fresh, tasks, reward_model=reward)
    kept: FilteredRollouts = filter_rollouts(s.filter, fresh, seen.verdicts, now.replay_pool)
    if s.learns != "by reward":
        given = (kept.examples, now.replay_pool, now.seed_data, now.eval_items)
        policy = finetune_policy(s.finetune, policy, *given).candidate
    if s.learns != "by imitation":
        policy = reinforce_policy(s.reinforce, policy, tasks, now.eval_items, asked=reward).candidate
    return Improved(State(policy), seen._replace(examples=kept.examples), pairs.replay_pool)


recipe = Recipe(
    "ladder",
    Ladder,
    State,
    start,
    improve,
    forms=forms,
    paper="arXiv:2409.12122",
    needs=lambda s: {"alphabet", "plain positions"} if s.policy == "scratch" else set(),
    control={"verify": {"verifier": "exact"}, "reinforce": {"reward": {"verifier": "exact"}}},
    figures=figures,
    claims=claims,
)
