"""A curriculum agent and an executor that raise each other, with tools and without a label (Agent0, R-Zero).

The curriculum agent is trained to propose tasks on which the frozen executor's pass rate is near 1/2; the executor is
trained on those whose vote lies in a band, on the majority's answer, with tools. Both continue from their last selves
and are promoted together, by the executor's accuracy on held-out items (the paper chose on its test sets). The default
is what the paper says, because its reward needs no claimed answer; the form ``code`` is what the released code does:
its reward, its band from 0.3 to 0.8, its gate by the answer that the agent works out with the tools and claims, its 100
steps instead of 40. ``r-zero`` is the same loop with R-Zero's reward, which pays no tool. A policy from scratch is
shown the tool in one text of three and bare answers in the others; that calls are worth their length it finds out, so
answers may grow. Xia et al., "Agent0" (arXiv:2511.16043); Huang et al., "R-Zero" (arXiv:2508.05004).
"""

from typing import Literal, NamedTuple

from kfp.dsl import Dataset, Model
from selfloop.evaluate import EvaluateParams, MeasureParams
from selfloop.filter import BandParams
from selfloop.finetune import PretrainParams, ReinforceParams, reinforce_policy
from selfloop.finetune.online.rewards.agent0 import Agent0Paper
from selfloop.generate import GenerateParams
from selfloop.loop import Improved, Now, needing, verified
from selfloop.promote import GateParams
from selfloop.proposals import ProposalSettings, propose_and_vote
from selfloop.propose import BaseParams, DrawParams, init_proposal_archive
from selfloop.recipe import Recipe
from selfloop.settings import compile_time

from selfloop_recipes.claims.agent0 import TOOLS, claims, control, figures, forms


class Agent0(ProposalSettings, rounds=3, environment="arithmetic:both"):
    proposer: Literal["trained", "frozen"] = compile_time("trained", description="Whether the curriculum agent learns.")
    base: BaseParams = BaseParams(levels=4, per_level=6000, proposals=1000)
    pretrain: PretrainParams = PretrainParams(intermediate_size=256, steps=1000, decay_steps=250, lr=4e-3)
    draw: DrawParams = DrawParams(levels=[3, 4, 5], old_levels=[1, 2], per_level=1, items_per_level=100)
    challenge: ReinforceParams = ReinforceParams(
        curriculum="proposal-prompt", reward=Agent0Paper(protocol=TOOLS), steps=8, group_size=4, max_tokens=32, lr=3e-4
    )
    generate: GenerateParams = GenerateParams(attempts="fixed", samples=9, greedy_first=False, protocol=TOOLS)
    band: BandParams = BandParams(min_rate=0.25, max_rate=0.75)
    reinforce: ReinforceParams = ReinforceParams(
        reward="verified,verifier=label", algorithm="adpo", protocol=TOOLS, group_size=16, steps=40, lr=1e-4
    )
    evaluate: EvaluateParams = EvaluateParams(protocol=TOOLS)
    gate: GateParams = GateParams(guards="+precision,warn=0.5,halt=0.4+length,warn=2,halt=3")
    measure: MeasureParams = MeasureParams(levels=[2, 3, 4, 5, 6], per_level=250, protocol=TOOLS)


class State(NamedTuple):
    executor: Model
    proposer: Model
    archive: Dataset


def start(s: Agent0, policy: Model) -> State:
    return State(policy, policy, init_proposal_archive(s.archive).proposal_archive)


def improve(s: Agent0, now: Now) -> Improved:
    executor, proposer, archive = now.state
    if s.proposer == "trained":
        proposer = reinforce_policy(s.challenge, policy=proposer, asked=executor).candidate
    tasks, archive = propose_and_vote(s, proposer, executor, archive, now.eval_items)
    trained = reinforce_policy(s.reinforce, policy=executor, tasks=tasks, eval_items=now.eval_items)
    return Improved(State(trained.candidate, proposer, archive), verified(s, trained.rollouts, tasks, executor))


recipe = Recipe(
    "agent0",
    Agent0,
    State,
    start,
    improve,
    forms=forms,
    paper="arXiv:2511.16043",
    needs=needing("proposals"),
    figures=figures,
    control=control,
    claims=claims,
)
