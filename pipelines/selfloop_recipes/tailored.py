"""Failures seed the next lessons: a teacher writes new examples of what a policy got wrong (tailored learning).

Each round the champion sits an exam, new tasks of the same kinds as its failures are drawn, and it is trained on what
is right for these, beside what it was taught before. The teacher is the environment, which writes what is right; in
Wang et al., "Democratizing Reasoning Ability: Tailored Learning from Large Language Model" (arXiv:2310.13332), a larger
model writes rationales, and the student learns from its own mistakes by contrast, too: that half is left out.
"""

from typing import NamedTuple

from kfp.dsl import Model
from selfloop.evaluate import MeasureParams
from selfloop.finetune import FinetuneParams, PretrainParams, finetune_policy
from selfloop.generate import GenerateParams, generate_rollouts
from selfloop.loop import Improved, LoopSettings, Now, needing, verified
from selfloop.propose import BaseParams, DrawParams, TailorParams, WriteParams, tailor_tasks, write_examples
from selfloop.recipe import Recipe

from selfloop_recipes.claims.tailored import claims, figures


class Tailored(
    LoopSettings, rounds=5, environment="mixture:reverse@4-5+addition@1-3+chain@1-3", schedule="fixed,patience=5"
):
    base: BaseParams = BaseParams(levels=8, per_level=2000)
    pretrain: PretrainParams = PretrainParams(steps=1500, decay_steps=300)
    draw: DrawParams = DrawParams(levels=list(range(1, 9)), per_level=60, attempts=4, items_per_level=60)
    generate: GenerateParams = GenerateParams()
    tailor: TailorParams = TailorParams(number=800)
    write: WriteParams = WriteParams()
    finetune: FinetuneParams = FinetuneParams(steps=100, lr=5e-4, newest_share=0.4, replay_share=0.2, seed_share=0.4)
    measure: MeasureParams = MeasureParams(levels=list(range(1, 9)), per_level=120)


class State(NamedTuple):
    champion: Model


def start(s: Tailored, policy: Model) -> State:
    return State(policy)


def improve(s: Tailored, now: Now) -> Improved:
    champion = now.state.champion
    exam = verified(s, generate_rollouts(s.generate, champion, now.tasks).rollouts, now.tasks, champion)
    lessons = tailor_tasks(s.tailor, now.tasks, exam.rollouts, exam.verdicts).tailored
    taught = write_examples(s.write, lessons, now.replay_pool)
    given = (taught.examples, now.replay_pool, now.seed_data, now.eval_items)
    trained = finetune_policy(s.finetune, champion, *given)
    return Improved(State(trained.candidate), exam, taught.replay_pool)


recipe = Recipe(
    "tailored",
    Tailored,
    State,
    start,
    improve,
    paper="arXiv:2310.13332",
    needs=needing("levels"),
    figures=figures,
    claims=claims,
)
