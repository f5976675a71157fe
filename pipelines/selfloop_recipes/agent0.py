"""A curriculum agent and an executor that raise each other, with tools and without a label (Agent0, R-Zero).

The curriculum agent is trained to propose tasks on which the frozen executor is of two minds; the executor is trained
on those whose vote lies in a band, on the majority's answer, with tools. Both go on from their last selves and are
promoted together, by the executor's accuracy on held-out items (the paper chose on its test sets). ``variant`` is what
the paper says, the default because its reward needs no claimed answer, or what the released code does: its reward, its
band from 0.3 to 0.8, its gate by the answer that the agent works out with the tools and claims (``environment`` must
show claims, as ``arithmetic:claims``), its 100 steps instead of 40. ``r-zero`` is the same loop without tools. A policy
from scratch is shown the tool in one text of three and bare answers in the others; that calls are worth their length it
finds out, so answers may grow. Xia et al., "Agent0" (arXiv:2511.16043); Huang et al., "R-Zero" (arXiv:2508.05004).
"""

from typing import Any, Literal, NamedTuple

from kfp.dsl import Artifact, Dataset, Model
from pydantic import Field
from selfloop.artifacts import read_json
from selfloop.evaluate import MeasureParams
from selfloop.finetune import PretrainParams, ReinforceParams, reinforce_policy
from selfloop.finetune.online.algorithms.adpo import Adpo
from selfloop.finetune.online.rewards import Reward
from selfloop.finetune.online.rewards.agent0 import Agent0Code, Agent0Paper, RZero
from selfloop.finetune.online.rewards.verified import Verified
from selfloop.gate import GateParams
from selfloop.propose import BaseParams, DrawParams, begin_known, check_progress, draw_base, draw_tasks
from selfloop.propose.curricula.invitation import Invitation
from selfloop.recipe import Recipe, structural
from selfloop.report import BeginParams, report_role
from selfloop.rounds import FrontierSettings, accuracy, frontier, judged, needing, opened, practised, told

from selfloop_recipes.claims.agent0 import claims, control, measured

VARIANTS: dict[str, dict[str, Any]] = {
    "paper": {"proposals": Agent0Paper(), "min_rate": 0.25, "max_rate": 0.75, "algorithm": Adpo(), "steps": 40},
    "code": {"proposals": Agent0Code(), "writes": "tools", "algorithm": Adpo(trust=0.6), "steps": 100},
    "r-zero": {"proposals": RZero(), "steps": 20},
}


class Agent0(FrontierSettings):
    rounds: int = structural(3, ge=1, le=1000, description="Rounds at most.")
    environment: str = Field("arithmetic:both", description="The taskset, which takes proposals.")
    model: str = Field("agent0", description="Name of the loop in MLflow's registry.")
    variant: Literal["paper", "code", "r-zero"] = structural("paper", description="Whose rewards, band and steps.")
    proposer: Literal["trained", "frozen"] = structural("trained", description="Whether the curriculum agent learns.")
    when_empty: Literal["stop", "go on"] = Field("stop", description="What a round does that comes to no tasks.")
    protocol: str = Field("tools", description="How the executor attempts a task: tools, single, or module:function.")
    tools: list[str] = Field(["op"], description="tools: those that the executor may call.")
    turns: int = Field(14, ge=1, description="Turns of an attempt at most.")
    base: BaseParams = BaseParams(levels=4, per_level=6000, proposals=1000)
    pretrain: PretrainParams = PretrainParams(intermediate_size=256, steps=1000, decay_steps=250, lr=4e-3)
    draw: DrawParams = DrawParams(levels=[3, 4, 5], old_levels=[1, 2], per_level=1, items_per_level=100)
    challenge: ReinforceParams = ReinforceParams(
        curriculum=Invitation(), steps=8, batch_size=64, group_size=4, lr=3e-4, max_tokens=32
    )
    reinforce: ReinforceParams = ReinforceParams(
        reward=Verified(verifier="label"), batch_size=64, group_size=16, lr=1e-4
    )
    gate: GateParams = GateParams(warn={"precision": 0.5, "length": 2.0}, halt={"precision": 0.4, "length": 3.0})
    """R-Zero's labels were right in 79, 69 and 63 % of cases. Calls make answers longer than the default allows."""
    begin: BeginParams = BeginParams(title="Curriculum agent and executor")
    measure: MeasureParams = MeasureParams(levels=[2, 3, 4, 5, 6], per_level=250)


class Turn(NamedTuple):
    executor: Model
    proposer: Model
    known: Dataset
    state: Artifact
    kept: Dataset
    history: Artifact
    goes_on: bool


def start(s: Agent0) -> Turn:
    base = draw_base(s.base)
    policy, history = opened(s, base)
    return Turn(policy, policy, begin_known(s.known).known, base.curriculum, base.kept, history, goes_on=True)


def round(s: Agent0, last: Turn) -> tuple[Turn, Artifact]:
    items, proposer, said = draw_tasks(s.draw).items, last.proposer, VARIANTS[s.variant]
    learn = s.learn.model_copy(update={"protocol": said.get("writes", s.learn.protocol)})
    if s.proposer == "trained":
        proposer = reinforce_policy(challenge(s, said), policy=proposer, solver=last.executor).candidate
    tasks, known = frontier(s, learn, s.band.filled(said), proposer, last.executor, last.known, items)
    trained = reinforce_policy(s.reinforce.filled(said), policy=last.executor, tasks=tasks, items=items)
    attempted = practised(s, tasks, trained.rollouts, last.kept)
    made = judged(s, attempted, trained.candidate, last.executor, items, last.history)
    progress = check_progress(s.progress, state=last.state, results=made.results, decision=made.decision)
    history = last.history
    if s.proposer == "trained":
        history = report_role(s.role, history=history, policy=last.proposer, candidate=proposer).history
    history = told(s, attempted, made, history, progress.state)
    next = Turn(made.candidate, proposer, known, progress.state, last.kept, history, progress.proceed)
    return next, made.decision


def challenge(s: Agent0, said: dict[str, Any]) -> ReinforceParams:
    """The training of the proposer, whose solver attempts proposals as the executor attempts tasks."""
    reward: Reward = s.challenge.filled({"reward": said["proposals"]}).reward
    as_executor = {name: getattr(s, name) for name in ("protocol", "turns", "tools")}
    given = {name: value for name, value in as_executor.items() if name not in reward.model_fields_set}
    return s.challenge.model_copy(
        update={"reward": reward.model_copy(update=given), "protocol": said.get("writes", "single")}
    )


def finish(s: Agent0, last: Turn) -> dict[str, float]:
    return measured(read_json(last.history.path)["rounds"], accuracy(s, last.executor, last.state), s.base.levels)


recipe = Recipe(
    "agent0",
    Agent0,
    start,
    round,
    Turn,
    ("executor", "proposer"),
    finish,
    paper="arXiv:2511.16043",
    needs=lambda s: needing("proposals")(s) | ({"claims"} if (s.variant, s.policy) == ("code", "scratch") else set()),
    control=control,
    claims=claims,
)
