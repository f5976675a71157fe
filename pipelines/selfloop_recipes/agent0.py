"""A curriculum agent and an executor that raise each other, with tools and without a label (Agent0, R-Zero).

The curriculum agent is trained to propose tasks on which the frozen executor's pass rate is near 1/2; the executor is
trained on those whose vote lies in a band, on the majority's answer, with tools. Both continue from their last selves
and are promoted together, by the executor's accuracy on held-out items (the paper chose on its test sets). The default
is what the paper says, because its reward needs no claimed answer; the form ``code`` is what the released code does:
its reward, its band from 0.3 to 0.8, its gate by the answer that the agent works out with the tools and claims, its 100
steps instead of 40. ``r-zero`` is the same loop without tools. A policy from scratch is shown the tool in one text of
three and bare answers in the others; that calls are worth their length it finds out, so answers may grow. Xia et al.,
"Agent0" (arXiv:2511.16043); Huang et al., "R-Zero" (arXiv:2508.05004).
"""

from typing import Any, Literal, NamedTuple

from kfp.dsl import Dataset, Model
from selfloop.evaluate import EvaluateParams, MeasureParams
from selfloop.filter import BandParams, band_tasks
from selfloop.finetune import PretrainParams, ReinforceParams, reinforce_policy
from selfloop.finetune.online.rewards.agent0 import Agent0Code, Agent0Paper, RZero
from selfloop.generate import GenerateParams, generate_rollouts
from selfloop.loop import Improved, LoopSettings, Now, needing, verified
from selfloop.promote import GateParams
from selfloop.propose import (
    BaseParams,
    DrawParams,
    LearnedParams,
    ProposalArchiveParams,
    init_proposal_archive,
    propose_by_policy,
)
from selfloop.recipe import Form, Recipe
from selfloop.settings import compile_time
from selfloop.verify import VerifyParams, verify_rollouts

from selfloop_recipes.claims.agent0 import claims, control, figures

TOOLS: Any = {"protocol": "tools,tools=op,turns=14"}


class Agent0(LoopSettings, rounds=3, environment="arithmetic:both"):
    proposer: Literal["trained", "frozen"] = compile_time("trained", description="Whether the curriculum agent learns.")
    base: BaseParams = BaseParams(levels=4, per_level=6000, proposals=1000)
    pretrain: PretrainParams = PretrainParams(intermediate_size=256, steps=1000, decay_steps=250, lr=4e-3)
    archive: ProposalArchiveParams = ProposalArchiveParams()
    draw: DrawParams = DrawParams(levels=[3, 4, 5], old_levels=[1, 2], per_level=1, items_per_level=100)
    challenge: ReinforceParams = ReinforceParams(
        curriculum="proposal-prompt",
        reward=Agent0Paper(**TOOLS),
        steps=8,
        batch_size=64,
        group_size=4,
        lr=3e-4,
        max_tokens=32,
    )
    learn: LearnedParams = LearnedParams(protocol="single", max_tokens=32)
    generate: GenerateParams = GenerateParams(attempts="fixed", samples=9, greedy_first=False, **TOOLS)
    vote: VerifyParams = VerifyParams(verifier="majority")
    band: BandParams = BandParams(min_rate=0.25, max_rate=0.75)
    reinforce: ReinforceParams = ReinforceParams(
        reward="verified,verifier=label", algorithm="adpo", steps=40, batch_size=64, group_size=16, lr=1e-4, **TOOLS
    )
    verify: VerifyParams = VerifyParams(verifier="label")
    evaluate: EvaluateParams = EvaluateParams(**TOOLS)
    gate: GateParams = GateParams(guards="+precision,warn=0.5,halt=0.4+length,warn=2,halt=3")
    """R-Zero's labels were right in 79, 69 and 63 % of cases. Calls make answers longer than the default allows."""
    measure: MeasureParams = MeasureParams(levels=[2, 3, 4, 5, 6], per_level=250, **TOOLS)


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
    proposed = propose_by_policy(s.learn, policy=proposer, proposal_archive=archive, eval_items=now.eval_items)
    votes = generate_rollouts(s.generate, policy=executor, tasks=proposed.tasks).rollouts
    labels = verify_rollouts(s.vote, tasks=proposed.tasks, rollouts=votes).verdicts
    tasks = band_tasks(s.band, tasks=proposed.tasks, rollouts=votes, verdicts=labels).band
    trained = reinforce_policy(s.reinforce, policy=executor, tasks=tasks, eval_items=now.eval_items)
    attempted = verified(s, trained.rollouts, tasks, executor)
    return Improved(State(trained.candidate, proposer, proposed.proposal_archive), attempted)


CODE = {
    "environment": "arithmetic:claims",
    "challenge": {"reward": Agent0Code(**TOOLS)} | TOOLS,
    "learn": TOOLS,
    "band": {"min_rate": 0.3, "max_rate": 0.8},
    "reinforce": {"steps": 100, "algorithm": "adpo,trust=0.6"},
}
R_ZERO = {
    "challenge": {"reward": RZero(**TOOLS)},
    "band": {"min_rate": 0.3, "max_rate": 0.8},
    "reinforce": {"algorithm": "grpo", "steps": 20},
}
recipe = Recipe(
    "agent0",
    Agent0,
    State,
    start,
    improve,
    forms={
        "code": Form("As Agent0's released code has it.", CODE, "arXiv:2511.16043"),
        "r-zero": Form("R-Zero: no tool is rewarded.", R_ZERO, "arXiv:2508.05004"),
    },
    paper="arXiv:2511.16043",
    needs=lambda s: needing("proposals")(s) | ({"claims"} if (s.form, s.policy) == ("code", "scratch") else set()),
    figures=figures,
    control=control,
    claims=claims,
)
