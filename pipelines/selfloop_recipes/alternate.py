"""A policy that writes its own tasks and learns from those it half solves, by imitation and by reward in turn.

Each round the champion proposes tasks, votes on their answers, and keeps those on which its attempts agree about half
of the time; then it is trained on its attempts that say what most say, and after that reinforced on the same tasks.
After the loop of data and model in Chen et al., "C2-Evo" (arXiv:2507.16518), whose other loop, of texts and pictures
that are made equally difficult, is not here.
"""

from typing import Literal, NamedTuple

from kfp.dsl import Dataset, Model
from selfloop.evaluate import EvaluateParams, MeasureParams
from selfloop.filter import BandParams, FilterParams
from selfloop.finetune import FinetuneParams, PretrainParams, ReinforceParams, finetune_policy, reinforce_policy
from selfloop.generate import GenerateParams, generate_rollouts
from selfloop.loop import Improved, Now, needing, verify_and_filter
from selfloop.promote import GateParams
from selfloop.proposals import ProposalSettings, propose_and_vote
from selfloop.propose import BaseParams, DrawParams, LearnedParams, init_proposal_archive
from selfloop.recipe import Recipe
from selfloop.settings import compile_time

from selfloop_recipes.claims.alternate import claims, figures


class Alternate(ProposalSettings, rounds=4, environment="chain"):
    learns: Literal["both", "by imitation", "by reward"] = compile_time("both", description="How a round trains.")
    base: BaseParams = BaseParams(levels=6, per_level=6000, tail=0.6, proposals=1000)
    pretrain: PretrainParams = PretrainParams(steps=1000, decay_steps=250, lr=4e-3)
    draw: DrawParams = DrawParams(levels=[3, 4, 5, 6], old_levels=[1, 2], per_level=1, items_per_level=100)
    learn: LearnedParams = LearnedParams(protocol="single", max_tokens=32, number=384)
    attempt: GenerateParams = GenerateParams(stream="answers", attempts="fixed", samples=8, greedy_first=False)
    filter: FilterParams = FilterParams(select="correct+clip-per-task")
    finetune: FinetuneParams = FinetuneParams(steps=40, lr=2e-4, newest_share=0.6, replay_share=0.0, seed_share=0.4)
    reinforce: ReinforceParams = ReinforceParams(
        reward="verified,verifier=label", algorithm="grpo", steps=40, lr=2e-4, max_tokens=32
    )
    band: BandParams = BandParams(min_rate=0.3, max_rate=0.8)
    evaluate: EvaluateParams = EvaluateParams()
    gate: GateParams = GateParams(guards="+precision,warn=0.5,halt=0.4")
    measure: MeasureParams = MeasureParams(levels=[3, 4, 5, 6], per_level=250)


class State(NamedTuple):
    champion: Model
    archive: Dataset


def start(s: Alternate, policy: Model) -> State:
    return State(policy, init_proposal_archive(s.archive).proposal_archive)


def improve(s: Alternate, now: Now) -> Improved:
    champion, archive = now.state
    tasks, archive = propose_and_vote(s, champion, champion, archive, now.eval_items)
    kept = verify_and_filter(s, now, generate_rollouts(s.attempt, champion, tasks).rollouts, champion, tasks)
    given = (kept.examples, kept.replay_pool, now.seed_data, now.eval_items)
    trained = finetune_policy(s.finetune, champion, *given).candidate if s.learns != "by reward" else champion
    if s.learns == "by imitation":
        return Improved(State(trained, archive), kept.attempted, kept.replay_pool)
    reinforced = reinforce_policy(s.reinforce, trained, tasks, now.eval_items)
    return Improved(State(reinforced.candidate, archive), kept.attempted, kept.replay_pool)


recipe = Recipe(
    "alternate",
    Alternate,
    State,
    start,
    improve,
    paper="arXiv:2507.16518",
    needs=needing("proposals"),
    figures=figures,
    claims=claims,
)
