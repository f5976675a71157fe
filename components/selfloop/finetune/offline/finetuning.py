"""``finetune_policy``: a copy of a policy, trained on a mixture of examples: SFT, NFT, DPO or KTO.

Held-out items are removed from the examples before anything is drawn from them, and counted. What a method cannot use
is left: text to train away from by ``sft``, examples without a worse completion by ``dpo``, groups that are all good or
all bad by ``nft``. The training starts from ``policy``, whatever that is: restarting from the base policy or going on
from the champion is the recipe's choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from kfp.dsl import Dataset, Model
from pydantic import Field, model_validator

from selfloop.errors import UserError
from selfloop.finetune.running.launch import Job, Made, done, is_first
from selfloop.finetune.params import TrainingParams
from selfloop.guards.contamination import clean, held_out
from selfloop.lookup import imported
from selfloop.policy import Policy
from selfloop.records import Example, count, read, take
from selfloop.resources import Resources
from selfloop.seeds import seed_for
from selfloop.stage import stage

if TYPE_CHECKING:
    import numpy as np

    from selfloop.finetune.offline.encoding import Encoded
    from selfloop.finetune.running.training import Plan, Trained

    Column = np.ndarray[Any, Any]

SOURCES = ("newest", "kept", "base")


class FinetuneParams(TrainingParams):
    """Shares of the mixture count only for the sources that hold examples."""

    method: Literal["sft", "nft", "dpo", "kto"] = Field("sft", description="How the weights change.")
    duration: Literal["steps", "epochs"] = Field("steps", description="Draw for steps, or see all of it some times.")
    epochs: int = Field(1, ge=1, description="epochs: times that each example of a source with a share is seen.")
    newest_share: float = Field(0.5, ge=0, le=1, description="Share of the examples kept in this round.")
    kept_share: float = Field(0.25, ge=0, le=1, description="Share of the examples kept in all rounds.")
    base_share: float = Field(0.25, ge=0, le=1, description="Share of the data of the base policy.")
    when_nothing: Literal["stop", "keep policy"] = Field(
        "stop", description="Where there is nothing to train on: stop, or hand the policy on as it is."
    )
    packing: bool = Field(False, description="sft: several short texts in one row; the loss stays the same.")
    beta: float = Field(0.1, gt=0, description="dpo, kto: how closely the policy is held to where it starts.")
    nft_weight: Literal["1", "1-r", "sqrt((1-r)/r)"] = Field("1-r", description="nft: weight of a group by its rate r.")
    nft_negative: float = Field(1.0, ge=0, description="nft: weight of the text to train away from.")
    nft_epsilon: float = Field(1.0, gt=0, description="nft: floor of the implicit negative policy's ratio.")
    nft_normalizer: float = Field(1000.0, gt=0, description="nft: what a text's sum over its tokens is divided by.")
    ngram: int = Field(13, ge=2, description="Words in a row that no example may share with a held-out item.")

    @model_validator(mode="after")
    def _packing_is_for_sft(self) -> Self:
        if self.packing and self.method != "sft":
            raise ValueError(f"packing works with method 'sft', not with '{self.method}': leave it off.")
        return self


class FinetunedPolicy(NamedTuple):
    """The policy trained."""

    candidate: Model


@stage(image="finetune", resources=Resources(cpu="2", memory="4Gi"))
def finetune_policy(
    out: FinetunedPolicy,
    params: FinetuneParams,
    policy: Model,
    newest: Dataset,
    kept: Dataset,
    base: Dataset,
    items: Dataset,
) -> None:
    """Train a copy of the policy on this round's examples, mixed with all kept ones and the base data."""
    inputs = {"policy": policy, "newest": newest, "kept": kept, "base": base, "items": items}
    done(work, params, inputs, out.candidate)


def work(params: FinetuneParams, job: Job) -> Made:
    """Draw the mixture, train on it, save the candidate."""
    import math

    from selfloop.finetune.running.weights import keep, to_train
    from selfloop.finetune.running.speed import speed
    from selfloop.finetune.running.training import Plan, processes
    from selfloop.policy import hand_on

    sources = {name: job.inputs[name] for name in SOURCES}
    judged_by = held_out(job.inputs["items"], params.ngram)
    uncontaminated = {name: clean(path, judged_by) for name, path in sources.items()}
    totals = {name: count(path) for name, path in sources.items()}
    removed = {name: totals[name] - len(rows) for name, rows in uncontaminated.items()}
    about = {"examples": totals, "contaminated": removed, "method": params.method}
    usable = {name: rows[fit_for(params.method, sources[name])[rows]] for name, rows in uncontaminated.items()}
    shares = shared(params, usable)
    if not any(shares.values()):
        if params.when_nothing == "keep policy":
            if is_first():
                hand_on(job.inputs["policy"], job.output)
            return Made(about | {"steps": 0, "loss": 0.0}, {})
        raise nothing(params, removed, totals)
    examples, order = mixture(params, sources, usable, shares)
    made = to_train(params, job.inputs["policy"])
    steps = math.ceil(len(order) / params.batch_size)
    plan = Plan.of(params, seed_for(params, params.round, "finetune"), job.place, steps)
    trained, data = imported("method", METHODS[params.method])(params, made, examples, order, plan)
    if is_first():
        keep(params, made, job.inputs["policy"], trained, job.output)
    about |= {"steps": trained.steps, "loss": trained.loss}
    tokens = data.count(trained.first * params.batch_size, trained.steps * params.batch_size)
    return Made(about, speed(tokens, trained.seconds, made.model.num_parameters(), processes()) | {"cut": data.cut})


def fit_for(method: str, table: str) -> Column:
    """Which examples of a table a method can use, a bool each."""
    import numpy as np
    import pyarrow.compute as pc

    masks = [np.empty(0, bool)]
    for batch in read(table, Example, ["good", "weight", "rate", "rejected"]):
        can = {
            "sft": pc.and_(batch["good"], pc.greater(batch["weight"], 0)),
            "nft": pc.and_(pc.greater(batch["rate"], 0), pc.less(batch["rate"], 1)),
            "dpo": pc.not_equal(batch["rejected"], ""),
            "kto": pc.greater(batch["weight"], 0),
        }[method]
        masks.append(can.to_numpy(zero_copy_only=False))
    return np.concatenate(masks)


def shared(params: FinetuneParams, usable: Mapping[str, Column]) -> dict[str, float]:
    """The share of each source that holds usable examples; 0 for the others."""
    wanted = {"newest": params.newest_share, "kept": params.kept_share, "base": params.base_share}
    return {name: wanted[name] * (len(usable[name]) > 0) for name in usable}


def nothing(params: FinetuneParams, removed: Mapping[str, int], totals: Mapping[str, int]) -> UserError:
    """Why there is nothing to train on, and what to do."""
    wanted = {"newest": params.newest_share, "kept": params.kept_share, "base": params.base_share}
    held = [name for name in wanted if wanted[name] and totals[name]]
    if held and all(removed[name] == totals[name] for name in held):
        return UserError("Every example is a held-out item: propose tasks that the policies are not judged on.")
    if held:
        lacks = {
            "sft": "good ones with a weight",
            "nft": "ones of groups that are partly good",
            "dpo": "pairs of a better and a worse completion",
            "kto": "ones with a weight",
        }
        return UserError(
            f"None of the examples can be trained on with method '{params.method}', which needs "
            f"{lacks[params.method]}: choose a filter that keeps such, or another method."
        )
    return UserError("There is nothing to train on: give a share above 0 to a source that holds examples.")


def mixture(
    params: FinetuneParams, sources: Mapping[str, str], usable: Mapping[str, Column], shares: Mapping[str, float]
) -> tuple[list[Example], Column]:
    """The examples of a training run, each once, and the order in which they are seen, with repetitions.

    ``usable`` are the row numbers of each source that may be drawn, ``shares`` say how often each source is.
    """
    import numpy as np

    rng = np.random.default_rng(seed_for(params, params.round, "mixture"))
    drawn = (
        by_epochs(params, usable, shares, rng) if params.duration == "epochs" else by_steps(params, usable, shares, rng)
    )
    source, rows = drawn
    examples: list[Example] = []
    order = np.empty(len(source), dtype=np.int64)
    for number, path in enumerate(sources.values()):
        here = source == number
        distinct, inverse = np.unique(rows[here], return_inverse=True)
        order[here] = inverse + len(examples)
        examples.extend(take(path, Example, distinct))
    return examples, order


def by_steps(
    params: FinetuneParams, usable: Mapping[str, Column], shares: Mapping[str, float], rng: np.random.Generator
) -> tuple[Column, Column]:
    """Sources and row numbers, drawn with replacement for all steps."""
    import numpy as np

    weights = np.array(list(shares.values()))
    source = rng.choice(len(weights), size=params.steps * params.batch_size, p=weights / weights.sum())
    place = rng.random(len(source))
    rows = np.empty(len(source), np.int64)
    for number, name in enumerate(shares):
        here = source == number
        rows[here] = usable[name][(place[here] * len(usable[name])).astype(np.int64)] if here.any() else 0
    return source, rows


def by_epochs(
    params: FinetuneParams, usable: Mapping[str, Column], shares: Mapping[str, float], rng: np.random.Generator
) -> tuple[Column, Column]:
    """Sources and row numbers: all examples of the sources with a share, in a new order each epoch."""
    import numpy as np

    source = np.concatenate([np.full(len(usable[name]), n) for n, name in enumerate(shares) if shares[name]])
    rows = np.concatenate([usable[name] for name in shares if shares[name]])
    order = np.concatenate([rng.permutation(len(rows)) for _ in range(params.epochs)])
    return source[order], rows[order]


def sft(
    params: FinetuneParams, policy: Policy, examples: list[Example], order: Column, plan: Plan
) -> tuple[Trained, Encoded]:
    """Imitate the good completions, each as much as its weight says."""
    from selfloop.finetune.offline.encoding import Encoded
    from selfloop.finetune.running.training import train

    if params.packing and hasattr(policy.model.config, "position_restarts"):
        raise UserError("packing cannot keep this policy's position scheme, which starts anew in a text: leave it off.")
    data = Encoded(policy, examples, order, params.max_length, params.packing)
    return train(policy, data, plan), data


METHODS = {
    "sft": "selfloop.finetune.offline.finetuning:sft",
    "nft": "selfloop.finetune.offline.nft_trainer:nft",
    "dpo": "selfloop.finetune.offline.preference_trainers:dpo",
    "kto": "selfloop.finetune.offline.preference_trainers:kto",
}
"""By name and not as functions: TRL takes seconds to import, and SFT does without."""
