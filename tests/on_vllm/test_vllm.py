"""The engine vllm says what the engine transformers says, and keeps its seeds, adapters, forms and protocols."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from selfloop.errors import UserError
from selfloop.generate import GenerateParams, draw
from selfloop.generate.engines import Engine, give_back, open_engine
from selfloop.generate.protocols.correct import Correct
from selfloop.records import TOOL, Rollout, Task

pytest.importorskip("vllm", reason="needs vLLM, which has an environment of its own: make test")

TASKS = [Task(f"t{number}", 1, "", f"{'ab' * number}{number}+{number}=", "", max_tokens=24) for number in range(1, 13)]
SHORT = {"context": 256, "batch_size": 64}


def opened(place: Path, **params: Any) -> Engine:
    return open_engine(GenerateParams(**(SHORT | params)), place, str(place))


def drawn(engine: Engine, tasks: list[Task] = TASKS, **params: Any) -> list[Rollout]:
    return [rollout for window in draw(engine, tasks, GenerateParams(**(SHORT | params))) for rollout in window]


def texts(rollouts: list[Rollout]) -> list[tuple[str, bool, int]]:
    return [(rollout.completion, rollout.finished, rollout.tokens) for rollout in rollouts]


def test_greedy_output_is_that_of_transformers_and_so_are_the_scores(base: Path) -> None:
    ours, theirs = (drawn(opened(base, engine=engine), score="self_certainty") for engine in ("transformers", "vllm"))
    assert texts(ours) == texts(theirs)
    assert {rollout.finished for rollout in ours} == {True, False}
    for one, other in zip(ours, theirs, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-3)
        assert one.self_certainty == pytest.approx(other.self_certainty, abs=1e-3)


def test_a_repetition_penalty_and_stop_strings_work_as_with_transformers(base: Path) -> None:
    given: dict[str, Any] = {"repetition_penalty": 1.5, "stop": ["a", "="]}
    ours, theirs = (drawn(opened(base, engine=engine), **given) for engine in ("transformers", "vllm"))
    assert texts(ours) == texts(theirs)
    assert not any("a" in rollout.completion or "=" in rollout.completion for rollout in ours)
    assert texts(ours) != texts(drawn(opened(base, engine="transformers")))


def test_a_seed_gives_the_same_rollouts_whatever_is_decoded_beside_them(base: Path) -> None:
    engine = opened(base, engine="vllm")
    given: dict[str, Any] = {"greedy_first": False, "temperature": 1.5}
    first = drawn(engine, seed=1, **given)
    assert texts(drawn(engine, seed=1, **given)) == texts(first)
    assert texts(drawn(engine, TASKS[5:6], seed=1, **given)) == texts(first[5:6])
    assert texts(drawn(engine, seed=2, **given)) != texts(first)


def test_an_engine_that_gave_its_memory_back_begins_anew(base: Path) -> None:
    before = texts(drawn(opened(base, engine="vllm")))
    give_back()
    assert texts(drawn(opened(base, engine="vllm"))) == before


def test_a_truncated_distribution_comes_to_the_greedy_text(base: Path) -> None:
    engine = opened(base, engine="vllm")
    greedy = texts(drawn(engine))
    of_one: list[dict[str, Any]] = [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 0.999}]
    for given in of_one:
        assert texts(drawn(engine, greedy_first=False, **given)) == greedy


def test_another_policy_of_the_same_shape_is_read_into_the_same_engine(
    base: Path, make_policy: Callable[[int], Path]
) -> None:
    import selfloop.generate.engines.vllm as module

    before = texts(drawn(opened(base, engine="vllm")))
    core, other = module._core, make_policy(7)
    assert texts(drawn(opened(other, engine="vllm"))) == texts(drawn(opened(other, engine="transformers"))) != before
    assert texts(drawn(opened(base, engine="vllm"))) == before
    assert module._core is core


@pytest.mark.parametrize(
    ("form", "fits"),
    [
        ({"form": "regex", "pattern": "[0-9]{3}-[a-f]+"}, "[0-9]{3}-[a-f]*"),
        ({"form": "choice", "choices": ["yes", "no", "(maybe)"]}, r"yes|no|\(maybe\)"),
    ],
)
@pytest.mark.parametrize("engine", ["vllm", "transformers"])
def test_texts_have_the_form_that_is_asked_for(base: Path, engine: str, form: dict[str, Any], fits: str) -> None:
    made = drawn(opened(base, engine=engine), greedy_first=False, **form)
    assert all(re.fullmatch(fits, rollout.completion) for rollout in made)
    assert len({rollout.completion for rollout in made}) > 1


def test_a_tool_is_called_and_its_answer_read(base: Path) -> None:
    form: dict[str, Any] = {"form": "regex", "pattern": r"<calc>[0-9]\+[0-9]</calc>", "protocol": "tools,turns=3"}
    for rollout in drawn(opened(base, engine="vllm"), greedy_first=False, **form):
        called = re.match(r"<calc>(\d)\+(\d)</calc><result>(\d+)</result>", rollout.completion)
        assert called is not None
        assert int(called[1]) + int(called[2]) == int(called[3])
        assert rollout.segments[1] == (TOOL, f"<result>{called[3]}</result>", None)
        assert rollout.turns == 3


def test_a_policy_is_asked_again_as_with_transformers(base: Path) -> None:
    given: dict[str, Any] = {"protocol": Correct(turns=2, follow_up=" again "), "stop": ["="]}
    ours, theirs = (drawn(opened(base, engine=engine), **given) for engine in ("transformers", "vllm"))
    assert [(*said, rollout.segments) for said, rollout in zip(texts(ours), ours, strict=True)] == [
        (*said, rollout.segments) for said, rollout in zip(texts(theirs), theirs, strict=True)
    ]
    assert {rollout.turns for rollout in ours} == {1, 2}


def test_a_policy_that_restarts_its_positions_is_refused(base: Path, tmp_path: Path) -> None:
    config = json.loads((base / "config.json").read_text()) | {"position_restarts": {"at": [1], "after": [2]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="restarts its position ids"):
        opened(tmp_path, engine="vllm")


def test_an_adapter_says_what_the_merged_policy_says_and_the_base_stays(
    base: Path, adapter: Path, merged: Path
) -> None:
    with_adapter = texts(drawn(opened(adapter, engine="vllm")))
    assert with_adapter == texts(drawn(opened(merged, engine="transformers")))
    assert with_adapter == texts(drawn(opened(adapter, engine="transformers")))
    assert texts(drawn(opened(base, engine="vllm"))) != with_adapter
