"""One policy that proposes tasks, solves them and judges both, trained in all three roles at once (MAE).

In each step the champion writes proposals, attempts each several times, and judges proposals and attempts; every text
is an attempt of one training, with advantages by role. No answer is known to the loop, and a judge is rewarded for
judgements that can be read, so that nothing ties it to the truth: the candidate's judgements of its own attempts at the
environment's tasks are audited each round, which the guard ``divergence`` watches. Chen et al., "Multi-Agent Evolve"
(arXiv:2510.23595); the environment's marks take the place of their prompts. A policy from scratch is shown all roles.
"""

from typing import NamedTuple

from kfp.dsl import Model
from selfloop.finetune import PretrainParams, ReinforceParams, reinforce_policy
from selfloop.generate import GenerateParams, generate_rollouts
from selfloop.loop import Improved, LoopSettings, Now, needing, verified
from selfloop.promote import GateParams
from selfloop.propose import BaseParams, DrawParams
from selfloop.recipe import Recipe
from selfloop.verify import VerifyParams

from selfloop_recipes.claims.multi_agent_evolve import claims, figures, forms


class MultiAgentEvolve(LoopSettings, rounds=3, environment="arithmetic:plain", schedule="fixed,patience=3"):
    base: BaseParams = BaseParams(
        levels=2, per_level=12_000, proposals=1000, roles=["judge", "propose/judge"], per_role=12_000
    )
    pretrain: PretrainParams = PretrainParams(intermediate_size=256, steps=4000, decay_steps=500, lr=4e-3)
    draw: DrawParams = DrawParams(levels=[2], per_level=200, items_per_level=120)
    reinforce: ReinforceParams = ReinforceParams(
        curriculum="proposal-prompt",
        protocol="multi-agent-evolve",
        reward="protocol",
        algorithm="role-whitened",
        steps=40,
        batch_size=32,
        group_size=1,
        lr=1e-4,
        max_tokens=32,
    )
    generate: GenerateParams = GenerateParams(attempts="fixed", samples=4, greedy_first=False, max_tokens=32)
    verify: VerifyParams = VerifyParams(verifier="judge,samples=4,max_tokens=2")
    gate: GateParams = GateParams(guards="divergence")


class State(NamedTuple):
    champion: Model


def start(s: MultiAgentEvolve, policy: Model) -> State:
    return State(policy)


def improve(s: MultiAgentEvolve, now: Now) -> Improved:
    candidate = reinforce_policy(s.reinforce, now.state.champion, now.tasks, now.eval_items).candidate
    tried = generate_rollouts(s.generate, candidate, now.tasks).rollouts
    return Improved(State(candidate), verified(s, tried, now.tasks, candidate))


recipe = Recipe(
    "multi-agent-evolve",
    MultiAgentEvolve,
    State,
    start,
    improve,
    forms=forms,
    paper="arXiv:2510.23595",
    needs=needing("proposals", "judge"),
    figures=figures,
    claims=claims,
)
