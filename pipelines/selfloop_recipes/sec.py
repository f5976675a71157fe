"""A curriculum that evolves with the policy: a bandit over levels inside on-policy training (SEC).

Levels are arms, drawn with p ~ exp(Q / tau); an arm's reward is the mean absolute advantage of its rollouts, which is
greatest where the policy is right half of the time. ``reinforce.curriculum`` puts another in its place: ``uniform``,
``ordered,horizon=320``, ``reverse``, ``reestimated``. The arms follow each draw, as in the paper, or each round
(``bandit,grain=round``), and are carried on with the champion. After Chen et al., "Self-Evolving Curriculum for LLM
Reasoning" (arXiv:2505.14970), plus a gate.
"""

from typing import NamedTuple

from kfp.dsl import Artifact, Dataset, Model
from pydantic import Field
from selfloop.artifacts import read_json
from selfloop.evaluate import MeasureParams
from selfloop.filter import FilterParams
from selfloop.finetune import (
    PretrainParams,
    ReinforceParams,
    TrainingStateParams,
    init_training_state,
    reinforce_policy,
)
from selfloop.propose import BaseParams, DrawParams, ProgressParams, check_progress, draw_base, draw_tasks
from selfloop.propose.curricula.bandit import Bandit
from selfloop.recipe import Recipe, structural
from selfloop.report import BeginParams
from selfloop.rounds import LoopSettings, accuracy, judged, needing, opened, practised, told

from selfloop_recipes.claims.sec import claims, control, measured


class Sec(LoopSettings):
    rounds: int = structural(8, ge=1, le=1000, description="Rounds at most.")
    environment: str = Field("countdown", description="The taskset, whose levels are the arms.")
    model: str = Field("sec", description="Name of the loop in MLflow's registry.")
    levels: list[int] = Field([1, 2, 3], min_length=1, description="Levels that are arms.")
    reached: float = Field(0.5, gt=0, le=1, description="Accuracy on the hardest arm that is waited for.")
    base: BaseParams = BaseParams(levels=3, per_level=3000)
    pretrain: PretrainParams = PretrainParams(intermediate_size=256, layers=2, steps=500, decay_steps=125)
    draw: DrawParams = DrawParams(per_level=2000, attempts=1, items_per_level=200)
    training: TrainingStateParams = TrainingStateParams()
    reinforce: ReinforceParams = ReinforceParams(
        curriculum=Bandit(tau=0.5), steps=40, batch_size=128, lr=2e-4, weight_decay=0.0, max_tokens=32
    )
    filter: FilterParams = FilterParams(select=["correct"], when_empty="go on")
    progress: ProgressParams = ProgressParams(patience=6)
    begin: BeginParams = BeginParams(title="Self-evolving curriculum")
    measure: MeasureParams = MeasureParams(levels=[3, 4], per_level=500)


class Turn(NamedTuple):
    champion: Model
    training: Artifact
    state: Artifact
    kept: Dataset
    history: Artifact
    goes_on: bool


def start(s: Sec) -> Turn:
    training, base = init_training_state(s.training).state, draw_base(s.base)
    champion, history = opened(s, base)
    return Turn(champion, training, base.curriculum, base.kept, history, goes_on=True)


def round(s: Sec, last: Turn) -> tuple[Turn, Artifact]:
    tasks, items = draw_tasks(s.draw)
    trained = reinforce_policy(s.reinforce, policy=last.champion, tasks=tasks, items=items, state=last.training)
    attempted = practised(s, tasks, trained.rollouts, last.kept)
    made = judged(s, attempted, trained.candidate, last.champion, items, last.history)
    progress = check_progress(s.progress, state=last.state, results=made.results, decision=made.decision)
    history = told(s, attempted, made, last.history, trained.state)
    next = Turn(made.candidate, trained.state, progress.state, last.kept, history, progress.proceed)
    return next, made.decision


def finish(s: Sec, last: Turn) -> dict[str, float]:
    rounds, by_level = read_json(last.history.path)["rounds"], accuracy(s, last.champion, last.state)
    return measured(rounds, by_level, s.levels, s.reached, s.reinforce.steps)


recipe = Recipe(
    name="sec",
    settings=Sec,
    start=start,
    round=round,
    finish=finish,
    turn=Turn,
    paper="arXiv:2505.14970",
    needs=needing("levels"),
    control=control,
    claims=claims,
)
