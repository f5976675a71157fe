"""A policy that judges its own answers and learns to prefer the better ones (Self-Rewarding).

Each round the champion attempts every task several times, marks its attempts itself, and is trained by DPO to prefer
the attempt that it marked best to the one that it marked worst; ties teach nothing. No answer is known to the loop: the
gate alone holds the candidate against the environment's. A policy from scratch is shown judging in its base data. Yuan
et al., "Self-Rewarding Language Models" (arXiv:2401.10020); their self-made prompts and five-point rubric are left out.
``pairs`` says what stands over what in the forms, and ``meta`` whether its judgements are judged and learnt from, too.
"""

from typing import Literal, NamedTuple

from kfp.dsl import Dataset, Model
from selfloop.filter import FilterParams, PairParams, filter_rollouts, pair_rollouts
from selfloop.finetune import FinetuneParams, PretrainParams, finetune_policy
from selfloop.generate import GenerateParams, generate_rollouts
from selfloop.loop import Attempted, Improved, LoopSettings, Now, needing, verified
from selfloop.propose import AboutParams, BaseParams, DrawParams, ask_about
from selfloop.recipe import Recipe
from selfloop.settings import compile_time
from selfloop.verify import VerifyParams

from selfloop_recipes.claims.self_rewarding import claims, figures, forms


class SelfRewarding(LoopSettings, rounds=3, environment="chain", schedule="fixed,patience=3"):
    pairs: Literal["best over worst", "now over first", "next over first", "right over wrong", "mended over tried"] = (
        compile_time("best over worst", description="Whose attempts are preferred to whose.")
    )
    meta: bool = compile_time(False, description="Whether it judges its judgements, and learns of that, too.")
    base: BaseParams = BaseParams(levels=6, per_level=6000, tail=0.7, roles=["judge"], per_role=3000)
    pretrain: PretrainParams = PretrainParams(steps=1500, decay_steps=250, lr=4e-3)
    draw: DrawParams = DrawParams(levels=[6], per_level=500, items_per_level=200)
    generate: GenerateParams = GenerateParams(attempts="fixed", samples=8, greedy_first=False, max_tokens=32)
    verify: VerifyParams = VerifyParams(verifier="judge,samples=4,max_tokens=2")
    filter: FilterParams = FilterParams(select=["best-worst"])
    about: AboutParams = AboutParams()
    pair: PairParams = PairParams()
    finetune: FinetuneParams = FinetuneParams(method="dpo", lr=1e-4, newest_share=1.0, replay_share=0.0, seed_share=0.0)


class State(NamedTuple):
    champion: Model
    first: Model


def start(s: SelfRewarding, policy: Model) -> State:
    return State(policy, policy)


def improve(s: SelfRewarding, now: Now) -> Improved:
    champion, first = now.state
    tried = attempted(s, champion, now.tasks, champion, "now")
    better, worse, asked = tried, tried, None
    if s.pairs in ("now over first", "next over first"):
        worse = attempted(s, first, now.tasks, champion, "first")
    if s.pairs == "next over first":
        soon = tuned(s, now, champion, *pair_rollouts(s.pair, *of(better), *of(worse), now.replay_pool))
        better = attempted(s, soon, now.tasks, champion, "next")
    if s.pairs in ("right over wrong", "mended over tried"):
        asked = attempted(s, champion, ask_about(s.about, now.tasks, *of(tried)).about, champion, "asked")
        better, worse = (tried, asked) if s.pairs == "right over wrong" else (asked, tried)
    if better is worse:
        kept = filter_rollouts(s.filter, *of(tried), now.replay_pool)
    else:
        kept = pair_rollouts(s.pair, *of(better), *of(worse), now.replay_pool)
    candidate, pool = tuned(s, now, champion, *kept), kept.replay_pool
    if s.meta:
        judged = attempted(s, champion, ask_about(s.about, now.tasks, *of(tried)).about, champion, "judge")
        learnt = filter_rollouts(s.filter, *of(judged), pool)
        candidate, pool = tuned(s, now, candidate, *learnt), learnt.replay_pool
    return Improved(State(candidate, first), tried._replace(examples=kept.examples), pool)


def attempted(s: SelfRewarding, policy: Model, tasks: Dataset, judge: Model, stream: str) -> Attempted:
    drawing = s.generate.model_copy(update={"stream": stream})
    return verified(s, generate_rollouts(drawing, policy, tasks).rollouts, tasks, judge)


def of(tried: Attempted) -> tuple[Dataset, Dataset]:
    return tried.rollouts, tried.verdicts


def tuned(s: SelfRewarding, now: Now, policy: Model, examples: Dataset, pool: Dataset) -> Model:
    return finetune_policy(s.finetune, policy, examples, pool, now.seed_data, now.eval_items).candidate


recipe = Recipe(
    "self-rewarding",
    SelfRewarding,
    State,
    start,
    improve,
    frozen=("first",),
    forms=forms,
    paper="arXiv:2401.10020",
    needs=needing("judge"),
    control={"verify": {"verifier": "exact"}},
    figures=figures,
    claims=claims,
)
