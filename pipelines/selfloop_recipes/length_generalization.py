"""Length generalization by self-training: solve longer problems, keep the right answers, train on them, go on.

After Lee et al., "Self-Improving Transformers Overcome Easy-to-Hard and Length Generalization Challenges"
(arXiv:2502.01612), plus an exact verifier. The paper's label-free filters are ``verify.verifier=length`` and
``majority``.
"""

from typing import NamedTuple

from kfp.dsl import Artifact, Dataset, Model
from pydantic import Field
from selfloop.evaluate import measure_policy
from selfloop.finetune import FinetuneParams, finetune_policy
from selfloop.generate import GenerateParams, generate_rollouts
from selfloop.propose import AdvanceParams, ProposeParams, advance_curriculum, draw_base, propose_tasks
from selfloop.recipe import Recipe, structural
from selfloop.report import BeginParams
from selfloop.rounds import LoopSettings, judged, needing, opened, sifted, told
from selfloop.verify import verify_rollouts

from selfloop_recipes.claims.length_generalization import claims, control


class LengthGeneralization(LoopSettings):
    rounds: int = structural(40, ge=1, le=1000, description="Rounds at most.")
    target: int = Field(30, ge=1, description="The loop ends when the champion has mastered this level.")
    model: str = Field("length-generalization", description="Name of the loop in MLflow's registry.")
    propose: ProposeParams = ProposeParams()
    generate: GenerateParams = GenerateParams()
    finetune: FinetuneParams = FinetuneParams()
    advance: AdvanceParams = AdvanceParams()
    begin: BeginParams = BeginParams(title="Length generalization by self-training")


class Turn(NamedTuple):
    champion: Model
    curriculum: Artifact
    base: Dataset
    kept: Dataset
    history: Artifact
    goes_on: bool


def start(s: LengthGeneralization) -> Turn:
    base = draw_base(s.base)
    champion, history = opened(s, base)
    return Turn(champion, base.curriculum, base.examples, base.kept, history, goes_on=True)


def round(s: LengthGeneralization, last: Turn) -> tuple[Turn, Artifact]:
    tasks, items = propose_tasks(s.propose, curriculum=last.curriculum)
    rollouts = generate_rollouts(s.generate, policy=last.champion, tasks=tasks).rollouts
    verified = verify_rollouts(s.verify, tasks=tasks, rollouts=rollouts)
    attempted, kept = sifted(s, tasks, rollouts, verified, last.kept)
    candidate = finetune_policy(
        s.finetune, policy=last.champion, newest=attempted.examples, kept=kept, base=last.base, items=items
    ).candidate
    made = judged(s, attempted, candidate, last.champion, items, last.history)
    state = advance_curriculum(s.advance, curriculum=last.curriculum, results=made.results, decision=made.decision)
    history = told(s, attempted, made, last.history, state.curriculum)
    return Turn(candidate, state.curriculum, last.base, kept, history, state.proceed), made.decision


def finish(s: LengthGeneralization, last: Turn) -> dict[str, int]:
    results = measure_policy(s.measure, policy=last.champion, curriculum=last.curriculum).results
    return {"solved": results.metadata["solved"]}


recipe = Recipe(
    name="length-generalization",
    settings=LengthGeneralization,
    start=start,
    round=round,
    finish=finish,
    turn=Turn,
    paper="arXiv:2502.01612",
    needs=needing("levels"),
    control=control,
    claims=claims,
)
