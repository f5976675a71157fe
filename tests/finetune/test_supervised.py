import gc
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kfp.dsl import Artifact, Dataset, Model
from selfloop import progress
from selfloop.artifacts import check, manifest_of, seal
from selfloop.environments.addition import Addition
from selfloop.errors import UserError
from selfloop.finetune import FinetuneParams, PretrainParams, finetune_policy, pretrain_policy
from selfloop.finetune.offline.encoding import IGNORED, Encoded
from selfloop.finetune.offline.pretraining import Schedule
from selfloop.finetune.offline.supervised import solved_by_level
from selfloop.generate import GenerateParams, draw
from selfloop.policy import Policy, fresh, load, save
from selfloop.records import Example, Task

from ..conftest import sealed_table
from .conftest import Finetuned, tried

TINY = {"hidden_size": 16, "heads": 2, "intermediate_size": 32, "layers": 1, "warmup_steps": 1}


def sums(levels: Sequence[int], count: int, seed: int = 0) -> list[Task]:
    return [task for level in levels for task in Addition().tasks(level, count, seed + level)]


def solutions(levels: Sequence[int], count: int, seed: int = 0) -> list[Example]:
    return [Example(task.id, task.level, task.prompt, task.answer, 0) for task in sums(levels, count, seed)]


def pretrained(place: Path, examples: list[Example], **params: object) -> Model:
    policy = Model(uri=str(place / "policy"))
    pretrain_policy.into(
        pretrain_policy.out(policy=policy),
        PretrainParams.model_validate(TINY | {"steps": 4, "decay_steps": 2} | params),
        examples=sealed_table(place / "examples", Example, examples),
        held_out=sealed_table(place / "held_out", Example, examples[:4]),
    )
    return policy


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Dataset]:
    """Different examples a source."""
    return {
        name: sealed_table(tmp_path / name, Example, solutions([1, 2, 3], 5, seed=100 * number))
        for number, name in enumerate(("newest", "replay_pool", "seed_data"))
    }


def finetuned(policy: Path, place: Path, sources: dict[str, Dataset], **params: float) -> Model:
    """A candidate; without items among the sources, nothing is held out."""
    candidate = Model(uri=str(place))
    finetune_policy.into(
        finetune_policy.out(candidate=candidate, state=Artifact(uri=f"{place}-state")),
        FinetuneParams.model_validate({"steps": 3, "batch_size": 8} | params),
        policy=Model(uri=str(policy)),
        **{"eval_items": sealed_table(place.with_name(f"{place.name} eval_items"), Task, [])} | sources,
    )
    return candidate


def digest(policy: Model) -> str:
    return str(policy.metadata["digest"])


def test_pretraining_gives_the_same_policy_for_the_same_seed_and_another_for_another(tmp_path: Path) -> None:
    examples = solutions([1, 2], 20)
    some, same, other = (
        pretrained(tmp_path / name, examples, seed=seed) for name, seed in (("some", 1), ("same", 1), ("other", 2))
    )
    assert digest(some) == digest(same) != digest(other)
    assert some.metadata["steps"] == 4


def test_pretraining_ends_once_the_examples_are_mastered(tmp_path: Path) -> None:
    seen: list[int] = []
    with progress.watched_by(lambda done, total, unit: seen.append(done)):
        policy = pretrained(
            tmp_path, solutions([1], 1), steps=2000, lr=2e-2, batch_size=4, check_every=10, decay_steps=5
        )
    assert policy.metadata["steps"] == seen[-1] < 1000
    assert seen[-1] % 10 == 5  # a look at the accuracy, and the decay


def test_pretraining_that_broke_off_ends_as_it_would_have(tmp_path: Path) -> None:
    class BrokenOffError(Exception):
        pass

    def break_off(done: int, total: int, unit: str) -> None:
        if done == 14:
            raise BrokenOffError

    few = solutions([1], 1)
    given = {"steps": 40, "lr": 2e-2, "batch_size": 4, "check_every": 5, "decay_steps": 8, "checkpoint_every": 6}
    given |= {"mastered": 0.01}  # so that the decay begins early, before the training breaks off
    whole = pretrained(tmp_path / "whole", few, **given)
    with pytest.raises(BrokenOffError), progress.watched_by(break_off):
        pretrained(tmp_path / "again", few, **given)
    shutil.rmtree(tmp_path / "again" / "policy")
    seen: list[int] = []
    with progress.watched_by(lambda done, total, unit: seen.append(done)):
        again = pretrained(tmp_path / "again", few, **given)
    assert seen[0] == 13
    assert seen[-1] == whole.metadata["steps"] < 40
    assert again.metadata == whole.metadata


def test_a_training_passes_over_what_was_there_before_it_when_garbage_is_collected(tmp_path: Path) -> None:
    passed_over: list[int] = []
    with progress.watched_by(lambda done, total, unit: passed_over.append(gc.get_freeze_count())):
        pretrained(tmp_path, solutions([1], 4))
    assert all(passed_over)
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize("lacking", ["examples", "held_out"])
def test_pretraining_on_nothing_is_refused(tmp_path: Path, lacking: str) -> None:
    tables = {name: solutions([1], 2) for name in ("examples", "held_out")} | {lacking: []}
    with pytest.raises(UserError, match=rf"{lacking} holds no examples: a policy cannot be trained from scratch"):
        pretrain_policy.into(
            pretrain_policy.out(policy=Model(uri=str(tmp_path / "policy"))),
            PretrainParams.model_validate(TINY),
            **{name: sealed_table(tmp_path / name, Example, rows) for name, rows in tables.items()},
        )


def test_heads_that_do_not_divide_the_width_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="hidden_size 16 does not divide into 3 heads: change either"):
        pretrained(tmp_path, solutions([1], 4), heads=3)


OWN = """
from selfloop.environments import ExactAnswer


class Silent(ExactAnswer):
    name = "silent"
    summary = "an environment without an alphabet"

    def tasks(self, level, count, seed):
        return []
"""


def test_an_environment_without_an_alphabet_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "silent_tasks.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="'silent_tasks:Silent' has no alphabet to train a policy on from scratch"):
        pretrained(tmp_path, solutions([1], 4), environment="silent_tasks:Silent")


@given(st.integers(0, 20), st.integers(1, 20), st.integers(1, 100))
def test_the_rate_rises_stays_and_falls_to_a_twentieth(warmup: int, decay: int, steps: int) -> None:
    schedule = Schedule(warmup, decay, steps)
    factors = [schedule(step) for step in range(schedule.ends + 1)]
    assert all(0 < factor <= 1 for factor in factors)
    assert schedule.ends == max(steps, decay)
    if warmup <= schedule.decay_from:
        assert factors[: schedule.decay_from + 1] == sorted(factors[: schedule.decay_from + 1])
        assert factors[schedule.decay_from] == 1
        assert factors[schedule.decay_from :] == sorted(factors[schedule.decay_from :], reverse=True)
        assert factors[-1] == pytest.approx(0.05)


@given(st.integers(0, 99))
def test_the_decay_begins_when_it_is_told_to(begins: int) -> None:
    schedule = Schedule(0, 10, 1000)
    schedule.decay_from = begins
    assert schedule(begins) == 1 > schedule(begins + 1)
    assert schedule.ends == begins + 10


def test_finetuning_can_be_repeated_and_each_round_is_another(
    trained: Path, tmp_path: Path, sources: dict[str, Dataset]
) -> None:
    made = {
        name: finetuned(trained, tmp_path / name, sources, round=round, seed=seed)
        for name, round, seed in (("some", 1, 0), ("same", 1, 0), ("next", 2, 0), ("seed", 1, 1))
    }
    assert digest(made["some"]) == digest(made["same"])
    assert len({digest(policy) for policy in made.values()}) == 3
    assert manifest_of(trained).digest not in {digest(policy) for policy in made.values()}


def test_the_policy_that_is_finetuned_stays_what_it_was(
    trained: Path, tmp_path: Path, sources: dict[str, Dataset]
) -> None:
    held = load(trained, manifest_of(trained).digest)  # as the stage before has loaded it
    before = {name: value.clone() for name, value in held.model.state_dict().items()}
    candidate = finetuned(trained, tmp_path / "candidate", sources)
    check(trained)
    assert all(torch.equal(before[name], value) for name, value in held.model.state_dict().items())
    assert not torch.equal(before["lm_head.weight"], fresh(candidate.path).model.lm_head.weight)
    assert candidate.metadata.keys() == {"steps", "loss", "examples", "contaminated", "prompts", "method", "digest"}


def test_held_out_items_are_not_trained_on_and_counted(
    trained: Path, tmp_path: Path, sources: dict[str, Dataset]
) -> None:
    of_newest, of_base = (sums([1, 2, 3], 5, seed=seed) for seed in (0, 200))
    items = [*of_newest[:4], of_base[7]._replace(prompt=f" {of_base[7].prompt} ")]
    without = dict(sources)
    for number, name in enumerate(sources):
        kept = [
            e for e in solutions([1, 2, 3], 5, seed=100 * number) if e.prompt not in {i.prompt.strip() for i in items}
        ]
        without[name] = sealed_table(tmp_path / f"clean {name}", Example, kept)
    judged = sealed_table(tmp_path / "eval_items", Task, items)
    made = finetuned(trained, tmp_path / "a", sources | {"eval_items": judged})
    assert made.metadata["examples"] == {"newest": 15, "replay_pool": 15, "seed_data": 15}
    assert made.metadata["contaminated"] == {"newest": 4, "replay_pool": 0, "seed_data": 1}
    assert digest(made) == digest(finetuned(trained, tmp_path / "b", without))
    assert digest(made) != digest(finetuned(trained, tmp_path / "c", sources))


def test_where_every_example_is_a_held_out_item_nothing_is_trained(
    trained: Path, tmp_path: Path, sources: dict[str, Dataset]
) -> None:
    items = [task for seed in (0, 100, 200) for task in sums([1, 2, 3], 5, seed=seed)]
    judged = sealed_table(tmp_path / "eval_items", Task, items)
    with pytest.raises(UserError, match="Every example is a held-out item: propose tasks that"):
        finetuned(trained, tmp_path / "candidate", sources | {"eval_items": judged})
    assert not (tmp_path / "candidate" / "manifest.json").exists()


def empty(place: Path) -> Dataset:
    return sealed_table(place, Example, [])


def test_a_source_without_examples_has_no_share(trained: Path, tmp_path: Path, sources: dict[str, Dataset]) -> None:
    without = sources | {name: empty(tmp_path / f"no {name}") for name in ("newest", "replay_pool")}
    of_base = finetuned(trained, tmp_path / "a", without)
    assert digest(of_base) == digest(finetuned(trained, tmp_path / "b", sources, newest_share=0, replay_share=0))


@pytest.mark.parametrize("only", ["newest", "replay_pool", "seed_data"])
def test_what_has_no_share_is_not_trained_on(
    trained: Path, tmp_path: Path, sources: dict[str, Dataset], only: str
) -> None:
    names = ("newest_share", "replay_share", "seed_share")
    shares = {share: float(name == only) for share, name in zip(names, sources, strict=True)}
    others = {name: empty(tmp_path / f"no {name}") for name in sources if name != only}
    made = finetuned(trained, tmp_path / "a", sources, **shares)
    assert digest(made) == digest(finetuned(trained, tmp_path / "b", sources | others, **shares))


def test_one_table_may_be_two_sources(trained: Path, tmp_path: Path, sources: dict[str, Dataset]) -> None:
    shares = {"newest_share": 0.2, "replay_share": 0.2, "seed_share": 0.6}
    twice = sources | {"replay_pool": sources["newest"]}
    copied = sources | {"replay_pool": Dataset(uri=str(shutil.copytree(sources["newest"].path, tmp_path / "copy")))}
    made = finetuned(trained, tmp_path / "a", twice, **shares)
    assert digest(made) == digest(finetuned(trained, tmp_path / "b", copied, **shares))


def test_the_shares_say_how_much_of_the_mixture_a_source_is(
    trained: Path, tmp_path: Path, sources: dict[str, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    from selfloop.finetune.offline import encoding

    seen: list[Example] = []

    class Watched(Encoded):
        def __init__(self, policy: Any, examples: Sequence[Example], order: Any, *more: Any) -> None:
            seen.extend(examples[index] for index in order)
            super().__init__(policy, examples, order, *more)

    monkeypatch.setattr(encoding, "Encoded", Watched)
    shares = {"newest_share": 1, "replay_share": 0.6, "seed_share": 0.4}
    finetuned(trained, tmp_path / "candidate", sources, batch_size=500, **shares)
    ids = [{example.task for example in solutions([1, 2, 3], 5, seed=100 * number)} for number in range(3)]
    drawn = [fmean(example.task in of_source for example in seen) for of_source in ids]
    assert drawn == pytest.approx([0.5, 0.3, 0.2], abs=0.05)
    assert {example.task for example in seen} == set[str]().union(*ids)


@pytest.mark.parametrize("shares", [{}, {"seed_share": 0.0}, {"newest_share": 0, "replay_share": 0, "seed_share": 0}])
def test_nothing_to_train_on_is_refused(
    trained: Path, tmp_path: Path, sources: dict[str, Dataset], shares: dict[str, float]
) -> None:
    none = {name: empty(tmp_path / f"no {name}") for name in sources if not shares or name != "base"}
    with pytest.raises(UserError, match="There is nothing to train on: give a share above 0 to a source that holds"):
        finetuned(trained, tmp_path / "candidate", sources | none, **shares)


def test_the_loss_sees_completions_and_their_end_and_nothing_else(trained: Path) -> None:
    policy = load(trained)
    examples = solutions([3, 1, 2], 2)
    batch = Encoded(policy, examples, range(6)).batch(np.arange(6))
    longest = len("123+456=5790") + 1
    assert {name: tuple(tensor.shape) for name, tensor in batch.items()} == dict.fromkeys(
        ("input_ids", "attention_mask", "labels", "position_ids"), (6, longest)
    )
    for row, example in enumerate(examples):
        labels, real = batch["labels"][row], batch["attention_mask"][row]
        learnt = labels[labels != IGNORED]
        assert policy.tokenizer.decode(learnt) == example.completion + "<eos>"
        assert (labels[: len(example.prompt)] == IGNORED).all()
        assert real.tolist() == [1] * (len(example.prompt + example.completion) + 1) + [0] * (longest - real.sum())
        assert (labels[real == 0] == IGNORED).all()
        assert policy.tokenizer.decode(batch["input_ids"][row][real == 1]) == (
            example.prompt + example.completion + "<eos>"
        )


def test_a_batch_holds_the_texts_in_the_order_that_was_drawn(trained: Path) -> None:
    policy, examples = load(trained), solutions([1, 2], 3)
    order = [5, 0, 0, 3]
    data = Encoded(policy, examples, order)
    texts = policy.tokenizer.batch_decode(data.__getitems__([0, 1, 2, 3])["input_ids"], skip_special_tokens=True)
    assert len(data) == 4
    assert texts == [examples[index].prompt + examples[index].completion for index in order]


@pytest.mark.parametrize("lacking", [0, 1], ids=["whole answers", "answers that lack a digit"])
def test_what_one_forward_pass_calls_solved_is_what_greedy_decoding_gives(trained: Path, lacking: int) -> None:
    policy, tasks = fresh(trained), sums(range(1, 5), 64, seed=9)
    wanted = [task.answer[: len(task.answer) - lacking] for task in tasks]
    examples = [Example(task.id, task.level, task.prompt, text, 0) for task, text in zip(tasks, wanted, strict=True)]
    decoded = [rollout for window in draw(policy, tasks, GenerateParams()) for rollout in window]
    exact = [rollout.completion == text and rollout.finished for rollout, text in zip(decoded, wanted, strict=True)]
    levels = [task.level for task in tasks]
    told = solved_by_level(policy, Encoded(policy, examples, range(len(examples))), levels, batch_size=50)
    assert told == {
        level: fmean(ok for ok, of_level in zip(exact, levels, strict=True) if of_level == level)
        for level in range(1, 5)
    }
    solved = fmean(told.values())
    assert (0.2 < solved < 0.8) if lacking == 0 else solved < 0.1


def test_what_is_trained_on_is_learnt(trained: Path, tmp_path: Path) -> None:
    few = solutions([3], 4)
    sources = dict.fromkeys(("newest", "replay_pool", "seed_data"), sealed_table(tmp_path / "few", Example, few))
    made = finetuned(trained, tmp_path / "candidate", sources, steps=100, batch_size=16, lr=2e-2)
    before, after = (
        solved_by_level(policy, Encoded(policy, few, range(4)), [3] * 4)
        for policy in (fresh(trained), fresh(made.path))
    )
    assert before[3] < after[3] == 1


def test_weights_are_kept_in_the_policy_s_precision_or_in_float32(
    plain: Path, finetuned: Finetuned, tmp_path: Path
) -> None:
    policy = fresh(plain)
    save(Policy(policy.model.to(torch.bfloat16), policy.tokenizer), tmp_path / "half")
    seal(tmp_path / "half", "Model")
    small = {"steps": 1, "lr": 1e-6, "weight_decay": 0.0}
    made = {
        kept: finetuned(tmp_path / "half", kept, tried(), weights=kept, **small) for kept in ("as before", "float32")
    }
    changed, half = {}, load(tmp_path / "half").model.state_dict()
    for kept, candidate in made.items():
        weights = load(candidate.path).model.state_dict()
        changed[kept] = sum(int((weights[name] != half[name]).sum()) for name in half)
        assert {each.dtype for each in weights.values()} == {torch.bfloat16 if kept == "as before" else torch.float32}
    assert changed["float32"] > 10 * changed["as before"]
