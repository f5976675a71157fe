"""A step's gradient in two parts: the same from one process and from two, and an honest end where one is killed."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from selfloop import machine, progress
from selfloop.errors import UserError
from selfloop.finetune.running import halves
from selfloop.finetune.running.checkpoints import latest
from selfloop.finetune.running.halves import Batch, Halves, halved
from selfloop.policy import fresh

from .. import forked
from .conftest import Finetuned, tried

lengths_of_rows = st.lists(st.integers(1, 12), min_size=2, max_size=9)


@pytest.fixture(autouse=True)
def cut_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halves, "LEAST", 1)
    monkeypatch.setattr(machine, "cores", lambda: 2)


def batch_of(lengths: list[int], seed: int = 0) -> dict[str, torch.Tensor]:
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    tokens = torch.randint(2, 14, mask.shape, generator=torch.Generator().manual_seed(seed)) * mask
    return {"input_ids": tokens, "attention_mask": mask, "labels": tokens.where(mask == 1, -100)}


@given(lengths_of_rows)
def test_parts_hold_each_row_once_and_the_larger_one_is_as_small_as_it_can_be(lengths: list[int]) -> None:
    batch = batch_of(lengths) | {"row": torch.arange(len(lengths))[:, None].expand(-1, max(lengths))}
    parts = halved(batch)
    assert sorted(int(row) for part in parts for row in part["row"][:, 0]) == list(range(len(lengths)))
    for part in parts:
        assert part["attention_mask"].shape[1] == part["attention_mask"].sum(1).max()
        for row, tokens in zip(part["row"][:, 0], part["input_ids"], strict=True):
            assert torch.equal(tokens[: lengths[row]], batch["input_ids"][row, : lengths[row]])
    ordered = sorted(lengths, reverse=True)
    sizes = [max(n * ordered[0], (len(ordered) - n) * ordered[n]) for n in range(1, len(ordered))]
    assert max(part["input_ids"].numel() for part in parts) == min(sizes)


def test_a_small_batch_is_one_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(halves, "LEAST", 13)
    assert len(halved(batch_of([6, 6]))) == 1
    assert len(halved(batch_of([7, 6]))) == 2


Made = tuple[Halves, Halves, list[torch.Tensor]]


@pytest.fixture(scope="module")
def one_and_two(trained: Path) -> Iterator[Made]:
    """Two that add up gradients of the same weights: in one process, and in two."""
    model = fresh(trained).model
    weights = list(model.parameters())

    def loss(part: Batch, items: int) -> torch.Tensor:
        made: torch.Tensor = model(**part, num_items_in_batch=items).loss
        return made

    made = Halves(weights, loss), Halves(weights, loss)
    yield *made, weights
    made[1].close()


@given(lengths=lengths_of_rows, seed=st.integers(0, 2**32))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_two_processes_make_the_gradient_that_one_makes(
    one_and_two: Made, monkeypatch: pytest.MonkeyPatch, lengths: list[int], seed: int
) -> None:
    alone, together, weights = one_and_two
    batch, items = batch_of(lengths, seed), sum(lengths)
    found = []
    for cores, each in ((2, together), (1, alone)):
        monkeypatch.setattr(machine, "cores", lambda cores=cores: cores)
        loss = each.gradient(batch, items)
        found.append((loss, [weight.grad.clone() for weight in weights if weight.grad is not None]))
        with torch.no_grad():  # the fork sees the weights as they become
            for weight in weights if cores == 1 else ():
                weight.sub_(weight.grad, alpha=1e-3) if weight.grad is not None else None
    (loss, gradient), (of_one, gradient_of_one) = found
    assert loss == of_one
    assert len(gradient) == len(weights)
    assert all(map(torch.equal, gradient, gradient_of_one))


def test_the_parts_add_up_to_the_gradient_of_the_whole_batch(
    one_and_two: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, together, weights = one_and_two
    batch = batch_of([12, 3, 7, 7, 1, 5])
    loss = together.gradient(batch, 35)
    gradient = [weight.grad.clone() for weight in weights if weight.grad is not None]
    monkeypatch.setattr(halves, "LEAST", 10**6)
    assert together.gradient(batch, 35) == pytest.approx(loss, rel=1e-5)
    for part, whole in zip(gradient, weights, strict=True):
        torch.testing.assert_close(part, whole.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cores", [1, 2])
def test_an_error_in_a_part_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    monkeypatch.setattr(machine, "cores", lambda: cores)
    weight = torch.ones(1, requires_grad=True)

    def loss(part: Batch, items: int) -> torch.Tensor:
        if len(part["attention_mask"]) == 2:  # the second part: of three rows one is as long as the others together
            raise ValueError("no such token")
        return (weight * items).sum()

    made = Halves([weight], loss)
    with pytest.raises(ValueError, match="no such token"):
        made.gradient(batch_of([14, 7, 7]), 28)
    made.close()


def test_a_policy_is_the_same_on_one_core_and_on_two(
    plain: Path, finetuned: Finetuned, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = finetuned(plain, "two", tried())
    monkeypatch.setattr(machine, "cores", lambda: 1)
    assert finetuned(plain, "one", tried()).metadata["digest"] == some.metadata["digest"]


def test_a_part_whose_process_is_killed_ends_the_training_in_a_sentence_and_a_checkpoint_continues_it(
    plain: Path, tmp_path: Path, finetuned: Finetuned, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, started_pids = Halves._started, list[int]()

    def start(self: Halves) -> object:
        made = started(self)
        started_pids.append(made[0].pid)
        return made

    monkeypatch.setattr(Halves, "_started", start)

    def kill(done: int, total: int, unit: str) -> None:
        if done == 5:
            os.kill(started_pids[0], signal.SIGKILL)

    params = {"steps": 8, "checkpoint_every": 3}
    whole = finetuned(plain, "whole", tried(), **params)
    started_pids.clear()
    with progress.watched_by(kill), pytest.raises(UserError, match=r"half of each step's .* its last checkpoint\.$"):
        finetuned(plain, "broken", tried(), **params)
    [place] = tmp_path.glob(".training-*")
    kept = latest(place)
    assert kept is not None
    assert kept[0].name == "checkpoint-3"
    seen = list[int]()
    with progress.watched_by(lambda done, total, unit: seen.append(done)):
        again = finetuned(plain, "broken", tried(), **params)
    assert seen == [4, 5, 6, 7, 8]
    assert again.metadata["digest"] == whole.metadata["digest"]
    assert len(started_pids) == 2
    assert not any(map(at_work, started_pids))


PARENT = """
import os, signal, sys
import torch
from selfloop import machine
from selfloop.finetune.running import halves

machine.cores, halves.LEAST = lambda: 2, 1
weight = torch.ones(3, requires_grad=True)
made = halves.Halves([weight], lambda part, items: (part["attention_mask"] * weight).sum() / items)
made.gradient({"attention_mask": torch.ones(4, 3)}, 12)
print(made._fork[0].pid, flush=True)
os.kill(os.getpid(), getattr(signal, sys.argv[1]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_the_fork_ends_with_its_parent_and_says_nothing(how: str) -> None:
    done = forked.run("-c", PARENT, how)
    assert done.returncode != 0
    assert [line for line in done.stderr.splitlines() if "Error" in line] == []
    deadline = time.monotonic() + 60
    while at_work(int(done.stdout)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not at_work(int(done.stdout))


def at_work(pid: int) -> bool:
    """Whether a process is there, and not just not yet waited for."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
