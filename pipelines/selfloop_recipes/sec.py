"""A curriculum that evolves with the policy: a bandit over levels inside on-policy training (SEC).

Levels are arms, drawn with p ~ exp(Q / tau); an arm's reward is the mean absolute advantage of its rollouts, which is
greatest where the policy is right half of the time. ``reinforce.curriculum`` puts another in its place: ``uniform``,
``ordered,horizon=320``, ``reverse``, ``reestimated``. The arms follow each draw, as in the paper, or each round
(``bandit,grain=round``), and are carried on with the champion. The form ``staircase`` has twelve arms of chains whose
pass rates fall step by step, so that there is a frontier which moves. After Chen et al., "Self-Evolving Curriculum for
LLM Reasoning" (arXiv:2505.14970), plus a gate.
"""

from typing import NamedTuple

from kfp.dsl import Artifact, Model
from pydantic import Field
from selfloop.evaluate import MeasureParams
from selfloop.finetune import (
    PretrainParams,
    ReinforceParams,
    TrainingStateParams,
    init_training_state,
    reinforce_policy,
)
from selfloop.loop import Improved, LoopSettings, Now, needing, verified
from selfloop.promote import GateParams
from selfloop.propose import BaseParams, DrawParams
from selfloop.recipe import Form, Recipe

from selfloop_recipes.claims.sec import claims, control, figures


class Sec(LoopSettings, rounds=8, environment="countdown", schedule="fixed,patience=6"):
    reached: float = Field(0.5, gt=0, le=1, description="Accuracy on the hardest arm that is waited for.")
    base: BaseParams = BaseParams(levels=3, per_level=3000)
    pretrain: PretrainParams = PretrainParams(intermediate_size=256, layers=2, steps=500, decay_steps=125)
    draw: DrawParams = DrawParams(levels=[1, 2, 3], per_level=2000, attempts=1, items_per_level=140)
    reinforce: ReinforceParams = ReinforceParams(
        curriculum="bandit,tau=0.5", steps=40, batch_size=128, lr=2e-4, weight_decay=0.0, max_tokens=32
    )
    gate: GateParams = GateParams(confirm=3)  # level 2 has some 370 problems for second looks
    measure: MeasureParams = MeasureParams(levels=[3, 4], per_level=500)


STAIRCASE = {
    "environment": "chain",
    "base": {"levels": 12, "per_level": 6000, "tail": 0.7},
    "pretrain": {"steps": 1000, "decay_steps": 250, "lr": 4e-3},
    "draw": {"levels": list(range(2, 25, 2)), "per_level": 500, "items_per_level": 24},
    "reinforce": {"curriculum": "bandit,tau=0.2", "steps": 50, "batch_size": 64, "max_tokens": 49},
    "measure": {"levels": [*range(2, 25, 2), 32], "per_level": 100},
}


forms = {
    "staircase": Form("Arms of chains, 2 to 24 steps, from a base that saw few long ones.", STAIRCASE),
    "weakness": Form(
        "Levels that are failed and do not get better; the environment stands in for models that write problems.",
        {"reinforce": {"curriculum": "weakness"}},
        "arXiv:2506.08989",
    ),
    "reestimated": Form(
        "From easy to hard, measured anew as each phase begins; without guided attempts.",
        {"reinforce": {"curriculum": "reestimated,horizon=320"}},
        "arXiv:2505.08364",
    ),
}


class State(NamedTuple):
    champion: Model
    training: Artifact


def start(s: Sec, policy: Model) -> State:
    return State(policy, init_training_state(TrainingStateParams()).state)


def improve(s: Sec, now: Now) -> Improved:
    champion, training = now.state
    trained = reinforce_policy(s.reinforce, champion, now.tasks, now.eval_items, training)
    return Improved(State(trained.candidate, trained.state), verified(s, trained.rollouts, now.tasks, champion))


recipe = Recipe(
    "sec",
    Sec,
    State,
    start,
    improve,
    forms=forms,
    paper="arXiv:2505.14970",
    needs=needing("levels"),
    figures=figures,
    control=control,
    claims=claims,
)
