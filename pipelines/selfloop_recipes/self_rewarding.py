"""A policy that judges its own answers and learns to prefer the better ones (Self-Rewarding).

Each round the champion attempts every task several times, marks its attempts itself, and is trained by DPO to prefer
the attempt that it marked best to the one that it marked worst; ties teach nothing. No answer is known to the loop: the
gate alone holds the candidate against the environment's. A policy from scratch is shown judging in its base data. Yuan
et al., "Self-Rewarding Language Models" (arXiv:2401.10020); their self-made prompts and five-point rubric are left out.
"""

from selfloop.filter import FilterParams
from selfloop.finetune import FinetuneParams
from selfloop.generate import GenerateParams
from selfloop.loop import needing
from selfloop.propose import BaseParams, DrawParams
from selfloop.recipe import Recipe
from selfloop.verify import VerifyParams

from selfloop_recipes.expert_iteration import ExpertIteration, State, improve, start


class SelfRewarding(ExpertIteration, rounds=3, environment="addition"):
    base: BaseParams = BaseParams(levels=3, per_level=4000, roles=["judge"], per_role=4000)
    draw: DrawParams = DrawParams(levels=[3], per_level=500, items_per_level=300)
    generate: GenerateParams = GenerateParams(attempts="fixed", samples=4, greedy_first=False)
    verify: VerifyParams = VerifyParams(verifier="judge,samples=4,max_tokens=2")
    filter: FilterParams = FilterParams(select=["best-worst"])
    finetune: FinetuneParams = FinetuneParams(method="dpo", lr=1e-5, newest_share=1.0, replay_share=0.0, seed_share=0.0)


recipe = Recipe(
    "self-rewarding",
    SelfRewarding,
    State,
    start,
    improve,
    frozen=("origin",),
    paper="arXiv:2401.10020",
    needs=needing("judge"),
    control={"verify": {"verifier": "exact"}},
)
