"""Tiny policies and examples to train on."""

import json
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from kfp.dsl import Artifact, Dataset, Model
from selfloop.artifacts import seal
from selfloop.environments.addition import Addition
from selfloop.finetune import FinetuneParams, ReinforceParams, finetune_policy
from selfloop.finetune.online.rewards import RewardContext
from selfloop.policy import Policy
from selfloop.propose.curricula import TaskPool
from selfloop.records import Example, Task

from .. import forked
from ..conftest import sealed_table

if TYPE_CHECKING:
    from selfloop.finetune.online.collector import RolloutCollector

Finetuned = Callable[..., Model]


@pytest.fixture(scope="session")
def plain(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained policy without its position scheme: it counts as any Llama does, and knows little."""
    place = tmp_path_factory.mktemp("plain") / "policy"
    shutil.copytree(trained, place, ignore=shutil.ignore_patterns("manifest.json", "sidecar.json"))
    config = json.loads((place / "config.json").read_text())
    del config["position_restarts"]
    (place / "config.json").write_text(json.dumps(config))
    seal(place, "Model")
    return place


def collector_of(
    params: ReinforceParams, policy: Policy, tasks: list[Task], kind: "type[RolloutCollector] | None" = None
) -> "RolloutCollector":
    """What collects the draws of a training on these tasks."""
    from selfloop.finetune.online.collector import RolloutCollector, StrategyStates

    pool = TaskPool(tasks, [task.level for task in tasks], lambda purpose: 0)
    context = RewardContext(params.environment, params, params.round, 64)
    return (kind or RolloutCollector)(params, policy, pool, StrategyStates.of_round(params, pool, {}), context)


def tried(levels: Sequence[int] = (1, 2), count: int = 8, **given: Any) -> list[Example]:
    """Two examples a task: the right sum, and one that is right but for its last digit."""
    made = []
    for level in levels:
        for task in Addition().tasks(level, count, level):
            wrong = task.answer[:-1] + str((int(task.answer[-1]) + 1) % 10)
            right = Example(task.id, level, task.prompt, task.answer, 0, rate=0.5, rejected=wrong)._replace(**given)
            made += [right, right._replace(completion=wrong, good=False, rejected="")]
    return made


@pytest.fixture
def finetuned(tmp_path: Path) -> Finetuned:
    """``finetuned(policy, "name", examples, **params)``: a candidate that was trained on the examples alone."""

    def make(
        policy: Path | str, name: str, examples: list[Example], state: Artifact | None = None, **params: Any
    ) -> Model:
        tables: dict[str, Dataset] = {
            "newest": sealed_table(tmp_path / f"{name} newest", Example, examples),
            "replay_pool": sealed_table(tmp_path / f"{name} replay_pool", Example, []),
            "seed_data": sealed_table(tmp_path / f"{name} seed_data", Example, []),
            "eval_items": sealed_table(tmp_path / f"{name} eval_items", Task, []),
        }
        candidate = Model(uri=str(tmp_path / name))
        finetune_policy.into(
            finetune_policy.out(candidate=candidate, state=Artifact(uri=str(tmp_path / f"{name} state"))),
            FinetuneParams.model_validate({"steps": 3, "batch_size": 8} | params),
            policy=Model(uri=str(policy)),
            state=state,
            **tables,
        )
        return candidate

    return make


def killed(worker: Path, place: Path, kill_at: int) -> None:
    """Train in a process of ``worker`` that is killed at a step."""
    done = forked.run(str(worker), str(place), str(kill_at))
    assert done.returncode == -signal.SIGKILL, done.stderr
