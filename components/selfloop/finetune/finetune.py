"""``finetune_policy``: supervised training of a copy of the champion on a mixture of examples."""

from kfp.dsl import Dataset, Input, Model, Output
from pydantic import Field

from selfloop.errors import UserError
from selfloop.policy import fresh, save, seed_of
from selfloop.records import Example, count, take
from selfloop.stage import Params, Resources, stage


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
    seed: int = Field(0, ge=0, description="Seed of the mixture.")
    round: int = Field(0, ge=0, description="The round; it makes the seed a new one.")


@stage(image="finetune", resources=Resources(cpu="2", memory="4Gi"))
def finetune_policy(
    params: FinetuneParams,
    policy: Input[Model],
    newest: Input[Dataset],
    kept: Input[Dataset],
    base: Input[Dataset],
    candidate: Output[Model],
) -> None:
    """Train a copy of the policy on this round's examples, mixed with all kept ones and the base data."""
    import numpy as np

    from selfloop.finetune.training import Encoded, train

    rng = np.random.default_rng(seed_of(params.seed, params.round, "mixture"))
    sources = [newest.path, kept.path, base.path]
    sizes = np.array([count(path) for path in sources])
    shares = np.array([params.newest_share, params.kept_share, params.base_share]) * (sizes > 0)
    if not shares.sum():
        raise UserError("There is nothing to train on: give a share above 0 to a source that holds examples.")
    source = rng.choice(len(sizes), size=params.steps * params.batch_size, p=shares / shares.sum())
    row = (rng.random(len(source)) * sizes[source]).astype(np.int64)
    examples: list[Example] = []
    order = np.empty(len(source), dtype=np.int64)
    for number, path in enumerate(sources):
        wanted, inverse = np.unique(row[source == number], return_inverse=True)
        order[source == number] = inverse + len(examples)
        examples.extend(take(path, Example, wanted))

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
