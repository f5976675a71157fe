"""A policy that is trained on what it wrote itself, generation after generation, with nobody to check it (MAD).

Each round the champion attempts tasks, and everything it wrote is learnt from: alone (the default), beside the data
that the loop began with (form ``augmented``), or beside as much data that is new in each round (``fresh``). The form
``sharpened`` draws from its likeliest texts, ``curated`` keeps of each task's attempts one that somebody preferred, and
in ``repaired`` half of what is wrong is put right.
After Alemohammad et al., "Self-Consuming Generative Models Go MAD" (arXiv:2307.01850), whose generations are trained
anew; here each continues from the last. How good single texts are is pass@1, and how much is still covered pass@8.
"""

from typing import Literal, NamedTuple

from kfp.dsl import Model
from selfloop.evaluate import EvaluateParams, MeasureParams
from selfloop.filter import FilterParams, RepairParams, repair_rollouts
from selfloop.finetune import FinetuneParams, PretrainParams, finetune_policy
from selfloop.generate import GenerateParams, generate_rollouts
from selfloop.loop import Improved, LoopSettings, Now, needing, verify_and_filter
from selfloop.promote import GateParams
from selfloop.propose import BaseParams, DrawParams, WriteParams, write_examples
from selfloop.recipe import Recipe
from selfloop.settings import compile_time
from selfloop.verify import VerifyParams

from selfloop_recipes.claims.self_consuming import claims, figures, forms


class SelfConsuming(LoopSettings, rounds=6, environment="countdown", schedule="fixed,patience=100"):
    real: Literal["first", "fresh"] = compile_time("first", description="The data that nobody's policy wrote.")
    repairs: bool = compile_time(False, description="Whether wrong texts are put right before they are learnt.")
    base: BaseParams = BaseParams(levels=2, per_level=10_000)
    pretrain: PretrainParams = PretrainParams(steps=1000, decay_steps=250)
    draw: DrawParams = DrawParams(levels=[2], per_level=1000, attempts=4, items_per_level=200)
    generate: GenerateParams = GenerateParams(greedy_first=False)
    repair: RepairParams = RepairParams()
    verify: VerifyParams = VerifyParams(verifier="accept-all")
    filter: FilterParams = FilterParams(select=["all"])
    write: WriteParams = WriteParams()
    finetune: FinetuneParams = FinetuneParams(
        steps=150, batch_size=128, lr=3e-4, newest_share=1.0, replay_share=0.0, seed_share=0.0
    )
    evaluate: EvaluateParams = EvaluateParams(samples=8)
    gate: GateParams = GateParams(require="nothing", guards=[])  # what is shown is what comes of having neither
    measure: MeasureParams = MeasureParams(levels=[2], per_level=500, samples=8)


class State(NamedTuple):
    champion: Model


def start(s: SelfConsuming, policy: Model) -> State:
    return State(policy)


def improve(s: SelfConsuming, now: Now) -> Improved:
    champion = now.state.champion
    rollouts = generate_rollouts(s.generate, champion, now.tasks).rollouts
    if s.repairs:
        rollouts = repair_rollouts(s.repair, now.tasks, rollouts).repaired
    kept = verify_and_filter(s, now, rollouts, champion)
    real = write_examples(s.write, now.tasks, now.replay_pool).examples if s.real == "fresh" else now.seed_data
    trained = finetune_policy(s.finetune, champion, kept.examples, kept.replay_pool, real, now.eval_items)
    return Improved(State(trained.candidate), kept.attempted)


recipe = Recipe(
    "self-consuming",
    SelfConsuming,
    State,
    start,
    improve,
    forms=forms,
    paper="arXiv:2307.01850",
    needs=needing(),
    figures=figures,
    claims=claims,
)
