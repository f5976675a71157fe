from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kfp.dsl import Artifact, Dataset, Model
from selfloop.environments import Environment, Grade, find_environment
from selfloop.environments.arithmetic import Arithmetic
from selfloop.errors import UserError
from selfloop.finetune import PretrainParams, pretrain_policy
from selfloop.generate import GenerateParams, draw
from selfloop.guards.contamination import HeldOut, listed
from selfloop.policy import load
from selfloop.propose import (
    BaseParams,
    LearnedParams,
    ProposalArchiveParams,
    draw_base,
    init_proposal_archive,
    propose_by_policy,
)
from selfloop.propose.learned import Refused, Sieve, funnel
from selfloop.records import ENVIRONMENT, Example, Task, final_text, non_policy_spans, rows
from selfloop.split import draw_training, trains

from ..conftest import sealed_table

pytestmark = pytest.mark.slow

NUMBER = 200
Propose = Callable[..., tuple[Dataset, list[Task], list[Task]]]


def base(place: Path, **params: Any) -> dict[str, Dataset]:
    outputs = {name: Dataset(uri=str(place / name)) for name in ("examples", "held_out", "replay_pool")}
    chosen = {"environment": "arithmetic", "levels": 2, "per_level": 1000} | params
    draw_base.into(draw_base.out(**outputs, progress=Artifact(uri=str(place / "progress"))), BaseParams(**chosen))
    return outputs


@pytest.fixture(scope="module")
def proposer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed policy that was shown solutions with a tool, and proposals of two levels."""
    root = tmp_path_factory.mktemp("proposer")
    made = base(root, proposals=300, held_out_per_level=32)
    size = {"hidden_size": 32, "heads": 2, "intermediate_size": 64}
    pretrain_policy.into(
        pretrain_policy.out(policy=Model(uri=str(root / "policy"))),
        PretrainParams(
            environment="arithmetic", **size, steps=250, batch_size=32, lr=1e-2, warmup_steps=20, decay_steps=80
        ),
        examples=made["examples"],
        held_out=made["held_out"],
    )
    return root / "policy"


@pytest.fixture
def propose(tmp_path: Path, proposer: Path) -> Propose:
    def run(name: str, known: Dataset, items: list[Task], **params: Any) -> tuple[Dataset, list[Task], list[Task]]:
        tasks, after = (Dataset(uri=str(tmp_path / name / output)) for output in ("tasks", "next_known"))
        chosen = {"number": NUMBER, "max_tokens": 16, "protocol": "tools,tools=op"} | params
        propose_by_policy.into(
            propose_by_policy.out(tasks=tasks, proposal_archive=after),
            LearnedParams(**chosen),
            policy=Model(uri=str(proposer)),
            proposal_archive=known,
            eval_items=sealed_table(tmp_path / name / "eval_items", Task, items),
        )
        return tasks, list(rows(tasks.path, Task)), list(rows(after.path, Task))

    return run


@pytest.fixture
def nothing(tmp_path: Path) -> Dataset:
    known = Dataset(uri=str(tmp_path / "known"))
    init_proposal_archive.into(init_proposal_archive.out(proposal_archive=known), ProposalArchiveParams())
    return known


def test_the_base_data_show_proposals_and_leave_results_to_the_tool(tmp_path: Path) -> None:
    made = base(tmp_path, proposals=30, per_level=20, held_out_per_level=10)
    examples = list(rows(made["examples"].path, Example))
    shown = [example for example in examples if example.prompt == "<new>"]
    assert [example.level for example in shown] == [1] * 30 + [2] * 30
    assert all(Arithmetic().parse_proposal(example.completion, "x").level == example.level for example in shown)
    for example in examples:
        by_the_tool = [segment.text for segment in example.segments if segment.author == ENVIRONMENT]
        assert len(by_the_tool) == (example not in shown) * example.level
        assert all(text.startswith("<result>") and text.endswith("</result>") for text in by_the_tool)
    assert "<new>" not in {example.prompt for example in rows(made["held_out"].path, Example)}


def test_proposals_of_an_environment_that_takes_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'countdown' takes no proposals: set base\.proposals to 0"):
        base(tmp_path, environment="countdown", proposals=1)


def test_a_policy_proposes_tasks_that_are_sound_and_different(propose: Propose, nothing: Dataset) -> None:
    table, tasks, after = propose("once", nothing, [], attempts=5)
    assert len(tasks) > NUMBER / 10
    assert len({task.prompt for task in tasks}) == len({task.id for task in tasks}) == len(tasks)
    for task in tasks:
        assert eval(task.prompt.removesuffix("=")) == int(task.answer)
        assert (task.suite, task.attempts) == ("train", 5)
        assert trains(Arithmetic(), task)
    assert [task.prompt for task in after] == [task.prompt for task in tasks]
    counts = table.metadata["funnel"]
    assert counts["sampled"] == NUMBER
    assert counts["clean"] == len(tasks)
    assert counts["sampled"] >= counts["parsed"] >= counts["solvable"] >= counts["new"] >= counts["clean"]
    assert counts["sampled"] - counts["clean"] == sum(table.metadata["refused"].values())
    assert sum(table.metadata["levels"].values()) == len(tasks)


def test_what_was_proposed_is_not_proposed_again(propose: Propose, nothing: Dataset, tmp_path: Path) -> None:
    _, first, after = propose("first", nothing, [])
    _, second, at_last = propose("second", Dataset(uri=str(tmp_path / "first" / "next_known")), [], round=1)
    assert second
    assert not {task.prompt for task in first} & {task.prompt for task in second}
    assert at_last[: len(after)] == after
    assert len({task.id for task in at_last}) == len(first + second)


def test_a_held_out_item_is_not_proposed(propose: Propose, nothing: Dataset) -> None:
    _, tasks, _ = propose("free", nothing, [])
    judged_by = tasks[::2]
    table, left, _ = propose("judged", nothing, judged_by)
    assert [task.prompt for task in left] == [task.prompt for task in tasks[1::2]]
    assert table.metadata["refused"]["a held-out item"] >= len(judged_by)


def test_the_same_seed_gives_the_same_tasks_and_another_round_others(propose: Propose, nothing: Dataset) -> None:
    tables = [propose(name, nothing, [], round=number)[0] for name, number in (("a", 1), ("b", 1), ("c", 2))]
    digests = [table.metadata["digest"] for table in tables]
    assert digests[0] == digests[1] != digests[2]


def test_a_round_without_a_task_stops_the_loop_or_continues(propose: Propose, nothing: Dataset) -> None:
    with pytest.raises(UserError) as refused:
        propose("stops", nothing, [], max_tokens=1)
    assert str(refused.value).startswith(f"None of the {NUMBER} texts that the policy wrote at '<new>' in round 0 is")
    assert "cut at its limit" in str(refused.value)
    table, tasks, after = propose("continues", nothing, [], max_tokens=1, when_empty="continue")
    assert (tasks, after) == ([], [])
    assert table.metadata["funnel"] == {"sampled": NUMBER, "parsed": 0, "solvable": 0, "new": 0, "clean": 0}


def test_an_environment_without_proposals_is_refused(propose: Propose, nothing: Dataset, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'reverse' takes no proposals: choose one that does, such as 'arithmetic'"):
        propose("none", nothing, [], environment="reverse")
    with pytest.raises(UserError, match="'reverse' takes no proposals"):
        init_proposal_archive.into(
            init_proposal_archive.out(proposal_archive=Dataset(uri=str(tmp_path / "other"))),
            ProposalArchiveParams(environment="reverse"),
        )


class Guesses(Environment):
    """Any word may be proposed; of one that begins with a capital the environment knows a wrong answer."""

    name, summary, proposal_prompt, apart = "guesses", "words", "word?", True

    def tasks(self, level: int, count: int, seed: int) -> list[Task]:
        return []

    def parse_proposal(self, text: str, id: str) -> Task:
        return Task(id, 1, "", text.strip().lower(), "wrong" if text[0].isupper() else "")

    def check(self, task: Task, completion: str) -> Grade:
        return Grade(completion == task.prompt, 1.0, "compared")


def judged_by(*prompts: str) -> HeldOut:
    import pyarrow as pa

    return listed(pa.array(prompts, pa.string()), pa.array([""] * len(prompts), pa.string()))


def test_the_sieve_counts_a_text_at_the_first_gate_that_it_does_not_pass() -> None:
    sieve = Sieve(Guesses(), ["old"], judged_by("kept"))
    texts = ["new", "Capital", "old", " new", "kept", "newer"]
    results = [sieve.task(text, str(number)) for number, text in enumerate(texts)]
    assert [one.gate if isinstance(one, Refused) else one.id for one in results] == [
        "0", "solvable", "new", "new", "clean", "5"
    ]  # fmt: skip
    assert funnel(results) == {"sampled": 6, "parsed": 6, "solvable": 5, "new": 3, "clean": 2}
    assert Sieve(find_environment("arithmetic"), [], judged_by()).task("1+", "x") == Refused(
        "parsed", "not an expression"
    )


@given(st.lists(st.one_of(st.text("12+*()= ", max_size=7), st.sampled_from(["1+2", "(1+2)", "2*2=4"])), max_size=20))
@settings(deadline=None)
def test_whatever_is_written_no_task_comes_twice_and_the_counts_add_up(texts: list[str]) -> None:
    sieve = Sieve(Arithmetic(), ["1+1="], judged_by("2*2="))
    results = [sieve.task(text, str(number)) for number, text in enumerate(texts)]
    prompts = [one.prompt for one in results if isinstance(one, Task)]
    assert len(set(prompts)) == len(prompts)
    assert not {"1+1=", "2*2="} & set(prompts)
    counts = list(funnel(results).values())
    assert counts == sorted(counts, reverse=True)
    assert (counts[0], counts[-1]) == (len(texts), len(prompts))


def test_a_policy_trained_on_marks_solves_by_calling_the_tool(proposer: Path) -> None:
    tasks = draw_training(Arithmetic(), 1, 20, 5)
    params = GenerateParams(protocol="tools,tools=op,turns=3")
    [drawn] = draw(load(proposer), tasks, params)
    right = [
        Arithmetic().check(task, final_text(rollout.completion, rollout.segments)).ok and rollout.turns == 2
        for task, rollout in zip(tasks, drawn, strict=True)
    ]
    assert sum(right) >= 5
    for task, rollout, good in zip(tasks, drawn, right, strict=True):
        if good:
            assert rollout.completion == Arithmetic().demonstration(task)
            assert non_policy_spans(rollout.segments) == Arithmetic().non_policy_spans(rollout.completion)
