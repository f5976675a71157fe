"""A policy that judges its own answers and learns to prefer the better ones (Self-Rewarding).

Each round the champion attempts every task several times, marks its attempts itself, and is trained by DPO to prefer
the attempt that it marked best to the one that it marked worst; ties teach nothing. No answer is known to the loop: the
gate alone holds the candidate against the environment's. A policy from scratch is shown judging in its base data. Yuan
et al., "Self-Rewarding Language Models" (arXiv:2401.10020); their self-made prompts and five-point rubric are left out.
``pairs`` says the best of which attempts is preferred to the worst of which, one kind of pairs learnt after the other:

=======  ================================================================================================
tried    the champion's
hot      the champion's at a temperature of their own
first    those of the policy that the loop began with
next     those of a policy that has learnt to prefer ``tried`` to ``first``, and is then thrown away
asked    what the champion answers in the role ``about.role`` about what it tried, or the first policy (``asked_of``)
shown    the environment's demonstrations, which know the answers
=======  ================================================================================================
"""

from typing import Literal, NamedTuple, Self

from kfp.dsl import Dataset, Model
from pydantic import Field, model_validator
from selfloop.filter import FilterParams, PairParams, RepairParams, filter_rollouts, pair_rollouts, repair_rollouts
from selfloop.finetune import FinetuneParams, PretrainParams, finetune_policy
from selfloop.generate import GenerateParams, generate_rollouts
from selfloop.lookup import unknown
from selfloop.loop import Attempted, Improved, LoopSettings, Now, needing, verified
from selfloop.propose import AboutParams, BaseParams, DrawParams, ask_about
from selfloop.recipe import Recipe
from selfloop.roles import REWRITING
from selfloop.settings import compile_time
from selfloop.verify import VerifyParams

from selfloop_recipes.claims.self_rewarding import claims, figures, forms

SOURCES = ("tried", "hot", "first", "next", "asked", "shown")


class SelfRewarding(LoopSettings, rounds=3, environment="chain", schedule="fixed,patience=3"):
    pairs: list[str] = compile_time(
        ["tried over tried"], min_length=1, description=f"BETTER over WORSE, each one of {', '.join(SOURCES)}."
    )
    asked_of: Literal["tried", "first"] = compile_time("tried", description="Whose attempts are asked about.")
    hot: float = Field(2.0, gt=0, description="Temperature of the attempts that are called hot.")
    base: BaseParams = BaseParams(levels=6, per_level=6000, tail=0.7, roles=["judge"], per_role=3000)
    pretrain: PretrainParams = PretrainParams(steps=1500, decay_steps=250, lr=4e-3)
    draw: DrawParams = DrawParams(levels=[6], per_level=500, items_per_level=200)
    generate: GenerateParams = GenerateParams(attempts="fixed", samples=8, greedy_first=False, max_tokens=32)
    verify: VerifyParams = VerifyParams(verifier="judge,samples=4,max_tokens=2")
    filter: FilterParams = FilterParams(select=["best-worst"])
    about: AboutParams = AboutParams()
    repair: RepairParams = RepairParams(strength=1.0, of="all")
    pair: PairParams = PairParams()
    finetune: FinetuneParams = FinetuneParams(method="dpo", lr=1e-4, newest_share=1.0, replay_share=0.0, seed_share=0.0)

    @model_validator(mode="after")
    def _pairs_are_of_attempts(self) -> Self:
        for better, worse in map(sides, self.pairs):
            for name in (better, worse):
                if name not in SOURCES:
                    raise unknown(f"source of attempts in '{better} over {worse}'", name, SOURCES)
            if better != worse and "asked" in (better, worse) and self.about.role not in REWRITING:
                raise ValueError(
                    f"'{better} over {worse}' pairs attempts, and answers in the role '{self.about.role}' are none: "
                    f"let about.role be one of {', '.join(REWRITING)}"
                )
        return self


class State(NamedTuple):
    champion: Model
    first: Model


def start(s: SelfRewarding, policy: Model) -> State:
    return State(policy, policy)


def improve(s: SelfRewarding, now: Now) -> Improved:
    champion, first = now.state
    wanted = {name for both in s.pairs for name in sides(both)}
    wanted |= {s.asked_of} if "asked" in wanted else set()
    tried = attempted(s, champion, now.tasks, champion, "tried")
    made = {"tried": tried}
    if wanted & {"first", "next"}:
        made["first"] = attempted(s, first, now.tasks, champion, "first")
    if "next" in wanted:
        soon = tuned(s, now, champion, *paired(s, tried, made["first"], now.replay_pool))
        made["next"] = attempted(s, soon, now.tasks, champion, "next")
    if "hot" in wanted:
        made["hot"] = attempted(s, champion, now.tasks, champion, "hot", temperature=s.hot)
    if "asked" in wanted:
        of = made[s.asked_of]
        about = ask_about(s.about, now.tasks, of.rollouts, of.verdicts).about
        made["asked"] = attempted(s, champion, about, champion, "asked")
    if "shown" in wanted:
        made["shown"] = verified(s, repair_rollouts(s.repair, now.tasks, tried.rollouts).repaired, now.tasks, champion)
    candidate, pool, examples = champion, now.replay_pool, None
    better, worse = sides(s.pairs[0])
    seen = made[better] if better == worse else tried
    others = made["first"].audit if "first" in made else None
    for better, worse in map(sides, s.pairs):
        newest, pool = paired(s, made[better], made[worse], pool)
        candidate, examples = tuned(s, now, candidate, newest, pool), examples or newest
    return Improved(State(candidate, first), seen._replace(examples=examples, others=others), pool)


def sides(pairs: str) -> tuple[str, str]:
    better, _, worse = pairs.partition(" over ")
    return better, worse


def attempted(s: SelfRewarding, policy: Model, tasks: Dataset, judge: Model, stream: str, **how: float) -> Attempted:
    drawing = s.generate.model_copy(update={"stream": stream, **how})
    return verified(s, generate_rollouts(drawing, policy, tasks).rollouts, tasks, judge)


def paired(s: SelfRewarding, better: Attempted, worse: Attempted, pool: Dataset) -> tuple[Dataset, Dataset]:
    if better is worse:
        return filter_rollouts(s.filter, better.rollouts, better.verdicts, pool)
    return pair_rollouts(s.pair, better.rollouts, better.verdicts, worse.rollouts, worse.verdicts, pool)


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
