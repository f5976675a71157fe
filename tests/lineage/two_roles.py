"""A loop with two policies, as small as it can be: both are trained in a round, and promoted together or not at all."""

from typing import NamedTuple

from kfp.dsl import Model
from selfloop.finetune import FinetuneParams, PretrainParams, finetune_policy, pretrain_policy
from selfloop.generate import GenerateParams, generate_rollouts
from selfloop.loop import Improved, LoopSettings, Now, verify_and_filter
from selfloop.promote import GateParams
from selfloop.propose import ProposeParams, draw_base
from selfloop.recipe import Recipe


class TwoRoles(LoopSettings, model="pair", schedule="frontier"):
    """Two roles."""

    other: PretrainParams = PretrainParams()
    propose: ProposeParams = ProposeParams()
    generate: GenerateParams = GenerateParams()
    finetune: FinetuneParams = FinetuneParams()
    gate: GateParams = GateParams(require="nothing", guards=[])


class State(NamedTuple):
    """What goes from round to round."""

    solver: Model
    proposer: Model


def start(s: TwoRoles, policy: Model) -> State:
    """Two policies from scratch, of the same data."""
    base = draw_base(s.base)
    return State(policy, pretrain_policy(s.other, examples=base.examples, held_out=base.held_out).policy)


def improve(s: TwoRoles, now: Now) -> Improved:
    """Train both on what the solver got right."""
    rollouts = generate_rollouts(s.generate, policy=now.state.solver, tasks=now.tasks).rollouts
    kept = verify_and_filter(s, now, rollouts)
    data = (kept.examples, kept.replay_pool, now.seed_data, now.eval_items)
    trained = State(*(finetune_policy(s.finetune, policy, *data).candidate for policy in now.state))
    return Improved(trained, kept.attempted, kept.replay_pool)


recipe = Recipe("two-roles", TwoRoles, State, start, improve)
