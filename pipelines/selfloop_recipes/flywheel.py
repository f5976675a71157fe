"""Two inverse models that make and filter each other's data: one says tasks to results, one solves them (SRDF).

The generator is shown attempts that nobody described, and restates the tasks that they could be attempts at; what leads
the navigator back to the same attempt is believed. The generator learns to say what was believed, the navigator to
solve it: the attempt is its label. Both are promoted together, by the navigator's accuracy on held-out items. No answer
is known to the loop but the attempts' own; two models that agree on a code of their own would pass, which the audit
tells. Wang et al., "Self-Refining Data Flywheel" (arXiv:2412.08467), where the navigator learns of the next generator's
labels, here of the same ones. In the form ``rebuild`` the generator is reinforced by the way back, in two stages. In
``attribution`` what it writes is only a warm-up: the navigator then learns from its own attempts (``refines``), from
those that are right, and then to prefer the best at a task to the worst.
"""

from typing import Literal, NamedTuple

from kfp.dsl import Dataset, Model
from selfloop.filter import FilterParams, InvertParams, filter_rollouts, invert_examples
from selfloop.finetune import FinetuneParams, PretrainParams, ReinforceParams, finetune_policy, reinforce_policy
from selfloop.generate import GenerateParams, generate_rollouts
from selfloop.loop import Improved, LoopSettings, Now, needing, verified
from selfloop.promote import GateParams
from selfloop.propose import BaseParams, DrawParams, draw_tasks
from selfloop.recipe import Recipe
from selfloop.settings import compile_time
from selfloop.verify import VerifyParams, verified_by

from selfloop_recipes.claims.flywheel import claims, figures, forms


class Flywheel(LoopSettings, rounds=4, environment="arithmetic:plain", schedule="fixed,patience=4"):
    generator: Literal["by imitation", "by reward"] = compile_time("by imitation", description="How it learns.")
    refines: bool = compile_time(False, description="Whether the navigator then learns from attempts of its own.")
    base: BaseParams = BaseParams(levels=2, per_level=12_000, roles=["restate"], per_role=3000)
    pretrain: PretrainParams = PretrainParams(intermediate_size=256, steps=3000, decay_steps=500, lr=4e-3)
    draw: DrawParams = DrawParams(levels=[2], per_level=1, items_per_level=120)
    paths: DrawParams = DrawParams(levels=[2], per_level=500, stream="paths")
    generate: GenerateParams = GenerateParams(attempts="fixed", samples=8, greedy_first=False, max_tokens=32)
    verify: VerifyParams = VerifyParams(verifier="round-trip,samples=4,max_tokens=32")
    filter: FilterParams = FilterParams(select="correct+unique+clip-per-task,limit=2")
    invert: InvertParams = InvertParams()
    finetune: FinetuneParams = FinetuneParams(steps=50, lr=2e-4, newest_share=0.7, replay_share=0.0, seed_share=0.3)
    coarse: ReinforceParams = ReinforceParams(
        reward="verified,verifier=round-trip,verifier.agreement=steps,verifier.samples=2,judged_by=other",
        steps=20,
        lr=1e-4,
        max_tokens=32,
        stream="coarse",
    )
    fine: ReinforceParams = ReinforceParams(
        reward="verified,verifier=round-trip,verifier.samples=2,judged_by=other", steps=20, lr=1e-4, max_tokens=32
    )
    check: VerifyParams = VerifyParams()
    right: FilterParams = FilterParams(select="correct+unique")
    pairs: FilterParams = FilterParams(select="best-worst")
    prefer: FinetuneParams = FinetuneParams(
        method="dpo", steps=30, lr=5e-5, newest_share=1.0, replay_share=0.0, seed_share=0.0, when_nothing="keep policy"
    )
    gate: GateParams = GateParams(guards="divergence+precision,warn=0.5,halt=0.4")


class State(NamedTuple):
    navigator: Model
    generator: Model


def start(s: Flywheel, policy: Model) -> State:
    return State(policy, policy)


def improve(s: Flywheel, now: Now) -> Improved:
    navigator, generator = now.state
    paths = draw_tasks(s.paths.model_copy(update={"environment": f"asked:restate:{s.environment}"})).tasks
    said = generate_rollouts(s.generate, generator, paths).rollouts
    seen = verified(s, said, paths, navigator)
    kept = filter_rollouts(s.filter, said, seen.verdicts, now.replay_pool)
    if s.generator == "by reward":
        for way in (s.coarse, s.fine):
            generator = reinforce_policy(way, generator, paths, now.eval_items, asked=navigator).candidate
    else:
        generator = tuned(s, now, generator, kept.examples)
    solved = invert_examples(s.invert, paths, kept.examples).inverted
    navigator = tuned(s, now, navigator, solved)
    state = State(refined(s, now, navigator) if s.refines else navigator, generator)
    return Improved(state, seen._replace(examples=kept.examples), kept.replay_pool)


def tuned(s: Flywheel, now: Now, policy: Model, examples: Dataset) -> Model:
    return finetune_policy(s.finetune, policy, examples, now.replay_pool, now.seed_data, now.eval_items).candidate


def refined(s: Flywheel, now: Now, policy: Model) -> Model:
    drawing = s.generate.model_copy(update={"stream": "own"})
    tried = generate_rollouts(drawing, policy, now.tasks).rollouts
    verdicts = verified_by(s.check, tasks=now.tasks, rollouts=tried).verdicts
    policy = tuned(s, now, policy, filter_rollouts(s.right, tried, verdicts, now.replay_pool).examples)
    pairs = filter_rollouts(s.pairs, tried, verdicts, now.replay_pool).examples
    return finetune_policy(s.prefer, policy, pairs, now.replay_pool, now.seed_data, now.eval_items).candidate


recipe = Recipe(
    "flywheel",
    Flywheel,
    State,
    start,
    improve,
    forms=forms,
    paper="arXiv:2412.08467",
    needs=needing("restate"),
    control={"verify": {"verifier": "accept-all"}},
    figures=figures,
    claims=claims,
)
