"""An optimizer that goes on where the last round left it: one long training in two parts."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kfp.dsl import Artifact
from selfloop.errors import UserError
from selfloop.finetune.running.moments import moments_of, read_moments, set_moments, steps_behind, write_moments
from selfloop.finetune.running.training import rate_at
from selfloop.records import Example

from .conftest import Finetuned

ONE = [Example("a", 2, "12+34=", "460", 0)]
CONTINUED = {"optimizer": "continued", "batch_size": 2}


def left(place: Path, name: str) -> Artifact:
    return Artifact(uri=str(place / f"{name} state"))


def test_two_rounds_with_one_optimizer_are_one_long_training(
    trained: Path, finetuned: Finetuned, tmp_path: Path
) -> None:
    whole = finetuned(trained, "whole", ONE, steps=6, **CONTINUED)
    first = finetuned(trained, "first", ONE, steps=3, **CONTINUED)
    assert steps_behind(read_moments(tmp_path / "first state")) == 3
    second = finetuned(first.path, "second", ONE, left(tmp_path, "first"), steps=3, **CONTINUED)
    anew = finetuned(first.path, "anew", ONE, left(tmp_path, "first"), steps=3, batch_size=2)
    assert second.metadata["digest"] == whole.metadata["digest"] != anew.metadata["digest"]
    assert not read_moments(tmp_path / "anew state")


def test_what_is_not_trained_on_hands_the_optimizer_on(trained: Path, finetuned: Finetuned, tmp_path: Path) -> None:
    finetuned(trained, "first", ONE, **CONTINUED)
    finetuned(trained, "none", [], left(tmp_path, "first"), when_nothing="keep policy", **CONTINUED)
    before, after = (read_moments(tmp_path / f"{name} state") for name in ("first", "none"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_an_optimizer_of_other_weights_is_refused(tmp_path: Path) -> None:
    small, large = torch.nn.Linear(2, 2), torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(small.parameters())
    small(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    write_moments(tmp_path, moments_of(optimizer, dict(small.named_parameters())))
    other = torch.optim.AdamW(large.parameters())
    with pytest.raises(UserError, match="of other weights than those that are trained now: set 'optimizer' to 'anew'"):
        set_moments(other, dict(large.named_parameters()), read_moments(tmp_path))


@given(st.integers(0, 20), st.integers(0, 30), st.integers(1, 30))
def test_a_warm_up_is_not_begun_again(warmup: int, behind: int, steps: int) -> None:
    whole = [rate_at(step, behind + steps, warmup, "constant") for step in range(behind + steps)]
    assert [rate_at(step, steps, warmup, "constant", behind) for step in range(steps)] == whole[behind:]


@given(st.integers(0, 5), st.integers(5, 50), st.integers(2, 30))
def test_a_rate_that_falls_falls_from_1_where_the_warm_up_is_over(warmup: int, behind: int, steps: int) -> None:
    rates = [rate_at(step, steps, warmup, "linear", behind) for step in range(steps)]
    assert rates[0] == 1
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(1 / steps)
