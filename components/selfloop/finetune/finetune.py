"""``finetune_policy``: supervised training of a copy of the champion on a mixture of examples.

Held-out items are removed from the examples before anything is drawn from them, and counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kfp.dsl import Dataset, Input, Model, Output
from pydantic import Field

from selfloop.errors import UserError
from selfloop.guards.contamination import clean, held_out
from selfloop.policy import fresh, save, seed_of
from selfloop.records import Example, count, take
from selfloop.stage import Params, Resources, stage

if TYPE_CHECKING:
    import numpy as np

    Column = np.ndarray[Any, Any]


class FinetuneParams(Params):
    """Shares of the mixture count only for the sources that hold examples."""

    steps: int = Field(50, ge=1, description="Optimizer steps.")
    batch_size: int = Field(64, ge=1, description="Texts in a step.")
    lr: float = Field(1e-3, gt=0, description="Learning rate, constant after the warm-up.")
    warmup_steps: int = Field(5, ge=0, description="Steps over which the rate rises to lr.")
    weight_decay: float = Field(0.05, ge=0, description="Weight decay of AdamW.")
    newest_share: float = Field(0.5, ge=0, le=1, description="Share of the examples kept in this round.")
    kept_share: float = Field(0.25, ge=0, le=1, description="Share of the examples kept in all rounds.")
    base_share: float = Field(0.25, ge=0, le=1, description="Share of the data of the base policy.")
    ngram: int = Field(13, ge=2, description="Words in a row that no example may share with a held-out item.")
    seed: int = Field(0, ge=0, description="Seed of the mixture.")
    round: int = Field(0, ge=0, description="The round; it makes the seed a new one.")


@stage(image="finetune", resources=Resources(cpu="2", memory="4Gi"))
def finetune_policy(
    params: FinetuneParams,
    policy: Input[Model],
    newest: Input[Dataset],
    kept: Input[Dataset],
    base: Input[Dataset],
    items: Input[Dataset],
    candidate: Output[Model],
) -> None:
    """Train a copy of the policy on this round's examples, mixed with all kept ones and the base data."""
    from selfloop.finetune.training import Encoded, train

    sources = {"newest": newest.path, "kept": kept.path, "base": base.path}
    judged_by = held_out(items.path, params.ngram)
    usable = {name: clean(path, judged_by) for name, path in sources.items()}
    totals = {name: count(path) for name, path in sources.items()}
    removed = {name: totals[name] - len(rows) for name, rows in usable.items()}
    candidate.metadata.update(examples=totals, contaminated=removed)
    examples, order = mixture(params, sources, usable, removed)
    made = fresh(policy.path)
    metrics = train(
        made,
        Encoded(made, examples, order),
        steps=params.steps,
        batch_size=params.batch_size,
        lr=params.lr,
        schedule=lambda step: min(1.0, (step + 1) / max(params.warmup_steps, 1)),
        weight_decay=params.weight_decay,
        seed=seed_of(params.seed, params.round, "finetune"),
    )
    save(made, candidate.path)
    candidate.metadata.update(steps=params.steps, loss=metrics["train_loss"])


def mixture(
    params: FinetuneParams, sources: Mapping[str, str], usable: Mapping[str, Column], removed: Mapping[str, int]
) -> tuple[list[Example], Column]:
    """The examples of a training run, each once, and the order in which they are seen, with repetitions.

    ``usable`` are the row numbers of each source that may be drawn, ``removed`` how many were taken out of it. Raises
    ``UserError`` where nothing is left to draw.
    """
    import numpy as np

    wanted = dict(zip(sources, (params.newest_share, params.kept_share, params.base_share), strict=True))
    shares = np.array([wanted[name] * (len(usable[name]) > 0) for name in sources])
    if not shares.sum():
        if any(wanted[name] and removed[name] for name in sources):
            raise UserError("Every example is a held-out item: propose tasks that the policies are not judged on.")
        raise UserError("There is nothing to train on: give a share above 0 to a source that holds examples.")
    rng = np.random.default_rng(seed_of(params.seed, params.round, "mixture"))
    source = rng.choice(len(shares), size=params.steps * params.batch_size, p=shares / shares.sum())
    place = rng.random(len(source))
    examples: list[Example] = []
    order = np.empty(len(source), dtype=np.int64)
    for number, (name, path) in enumerate(sources.items()):
        here = source == number
        drawn = usable[name][(place[here] * len(usable[name])).astype(np.int64)]
        distinct, inverse = np.unique(drawn, return_inverse=True)
        order[here] = inverse + len(examples)
        examples.extend(take(path, Example, distinct))
    return examples, order
