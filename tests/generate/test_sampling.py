"""How tokens are chosen, and what is noted of them."""

import math
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
import torch
from selfloop.generate import GenerateParams, draw
from selfloop.generate.engines import Sampling
from selfloop.generate.engines.sampling import certainty, picked, shaped
from selfloop.generate.protocols.correct import Correct
from selfloop.policy import Policy
from selfloop.records import Rollout, Task, non_policy_spans
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

TASKS = [Task(f"t{number}", 1, "", "ab" * (number % 3 + 1), "", max_tokens=20) for number in range(12)]
LOGITS = torch.randn(50, 40, generator=torch.Generator().manual_seed(0)) * 3


def drawn(policy: Policy, tasks: list[Task] = TASKS, **params: Any) -> list[Rollout]:
    return [rollout for window in draw(policy, tasks, GenerateParams(**params)) for rollout in window]


@pytest.mark.parametrize(
    ("sampling", "theirs"),
    [
        (Sampling(temperature=0.7), [TemperatureLogitsWarper(0.7)]),
        (Sampling(top_k=5), [TopKLogitsWarper(5)]),
        (Sampling(top_p=0.8), [TopPLogitsWarper(0.8)]),
        (Sampling(min_p=0.1), [MinPLogitsWarper(0.1)]),
        (
            Sampling(temperature=1.5, min_p=0.01, top_k=9, top_p=0.9),
            [TemperatureLogitsWarper(1.5), MinPLogitsWarper(0.01), TopKLogitsWarper(9), TopPLogitsWarper(0.9)],
        ),
    ],
)
def test_the_distribution_is_cut_as_transformers_cuts_it(sampling: Sampling, theirs: list[Any]) -> None:
    expected = LOGITS
    for warper in theirs:
        expected = warper(None, expected)
    torch.testing.assert_close(shaped(LOGITS, sampling, None), expected)


def test_the_repetition_penalty_is_that_of_transformers() -> None:
    seen = torch.tensor([[3, 5, 5, 7]] * len(LOGITS))
    marked = torch.zeros_like(LOGITS, dtype=torch.bool).scatter(1, seen, True)
    expected = RepetitionPenaltyLogitsProcessor(1.3)(seen, LOGITS.clone())
    torch.testing.assert_close(shaped(LOGITS, Sampling(greedy=True, repetition_penalty=1.3), marked), expected)


def test_tokens_are_picked_as_often_as_they_are_likely() -> None:
    logits = torch.tensor([[0.5, 0.0, 0.3, 0.2]]).log().expand(10_000, -1)
    uniforms = torch.arange(10_000) / 10_000
    counts = Counter(picked(logits, uniforms).tolist())
    assert all(
        counts[token] == pytest.approx(share, abs=2) for token, share in ((0, 5000), (1, 0), (2, 3000), (3, 2000))
    )


def test_the_ends_of_the_unit_interval_pick_possible_tokens() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, 1.0, -torch.inf]]).expand(2, -1)
    assert picked(logits, torch.tensor([0.0, 1.0 - 2**-24])).tolist() == [1, 2]


def test_certainty_is_the_divergence_of_the_uniform_distribution_from_the_policy_s() -> None:
    logprobs = LOGITS.log_softmax(-1)
    uniform = torch.full_like(LOGITS, 1 / LOGITS.shape[1])
    expected = torch.nn.functional.kl_div(logprobs, uniform, reduction="none").sum(-1)
    torch.testing.assert_close(certainty(logprobs), expected)
    assert certainty(torch.zeros(1, 8).log_softmax(-1)).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    "params", [{}, {"greedy_first": False, "temperature": 2.0, "top_k": 5, "repetition_penalty": 2.0}]
)
def test_scores_are_those_of_the_policy_read_at_once_whatever_was_sampled_from(
    wild: Policy, params: dict[str, Any]
) -> None:
    for rollout in drawn(wild, score="self_certainty", **params):
        prompt, text = (wild.tokenizer(part)["input_ids"] for part in (rollout.prompt, rollout.completion))
        written = text + [wild.tokenizer.eos_token_id] * rollout.finished
        assert len(written) == rollout.tokens
        with torch.inference_mode():
            logits = wild.model(torch.tensor([prompt + written])).logits[0, len(prompt) - 1 : -1].float()
        logprobs = logits.log_softmax(-1)
        expected = logprobs.gather(1, torch.tensor(written)[:, None]).sum().item()
        assert rollout.logprob == pytest.approx(expected, abs=1e-3)
        certain = -(logprobs + math.log(logits.shape[1])).mean().item()
        assert rollout.self_certainty == pytest.approx(certain, abs=1e-4)


def test_what_is_noted_is_what_was_asked_for(wild: Policy) -> None:
    made = {score: drawn(wild, TASKS[:1], score=score)[0] for score in ("nothing", "logprob", "self_certainty")}
    known = {score: [one.logprob is not None, one.self_certainty is not None] for score, one in made.items()}
    assert known == {"nothing": [False, False], "logprob": [True, False], "self_certainty": [True, True]}


@pytest.mark.parametrize("batch_size", [1, 5, 100])
@pytest.mark.parametrize(
    "params", [{}, {"greedy_first": False, "temperature": 2.0}, {"protocol": Correct(turns=2, follow_up="+a")}]
)
def test_tokens_are_kept_with_their_log_probabilities(wild: Policy, params: dict[str, Any], batch_size: int) -> None:
    for rollout in drawn(wild, keep_tokens=True, batch_size=batch_size, **params):
        prompt, text = (wild.tokenizer(part)["input_ids"] for part in (rollout.prompt, rollout.completion))
        tokens = text + [wild.tokenizer.eos_token_id] * rollout.finished
        assert rollout.token_ids == tuple(tokens)
        with torch.inference_mode():
            logits = wild.model(torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1].float()
        expected = logits.log_softmax(-1).gather(1, torch.tensor(tokens)[:, None])[:, 0].tolist()
        spans = non_policy_spans(rollout.segments)
        by_others = [any(first <= place < last for first, last in spans) for place in range(len(tokens))]
        assert rollout.logprobs is not None
        assert [logprob is None for logprob in rollout.logprobs] == by_others
        for logprob, read_at_once in zip(rollout.logprobs, expected, strict=True):
            assert logprob is None or logprob == pytest.approx(read_at_once, abs=1e-3)


def test_tokens_without_scores_have_no_log_probabilities_and_nothing_is_kept_unasked(wild: Policy) -> None:
    assert all(one.token_ids and one.logprobs is None for one in drawn(wild, keep_tokens=True, score="nothing"))
    assert all(one.token_ids is one.logprobs is None for one in drawn(wild))


def test_tokens_that_a_stop_string_cut_through_have_no_log_probability(wild: Policy) -> None:
    stops = ["7", "a", "+"]
    for one in drawn(wild, keep_tokens=True, stop=stops):
        assert one.token_ids is not None
        assert one.logprobs is not None
        assert len(one.token_ids) == len(one.logprobs) >= len(one.completion)
        cut = one.finished and one.token_ids[-1:] != (wild.tokenizer.eos_token_id,)
        assert {logprob is None for logprob in one.logprobs} <= {cut}


def test_a_cut_distribution_comes_to_the_greedy_text(wild: Policy) -> None:
    greedy = [rollout.completion for rollout in drawn(wild)]
    for given in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 0.999}):
        params: dict[str, Any] = {"greedy_first": False, **given}
        assert [rollout.completion for rollout in drawn(wild, **params)] == greedy


def test_a_strong_repetition_penalty_repeats_no_token_before_all_were_used(wild: Policy) -> None:
    for rollout in drawn(wild, repetition_penalty=1e6):
        assert all(one != other for one, other in pairwise(rollout.completion))
        assert len(set(rollout.completion)) == len(rollout.completion)


def test_nothing_but_the_end_tokens_of_a_policy_s_own_configuration_counts(wild: Policy) -> None:
    expected, configuration = drawn(wild, greedy_first=False), wild.model.generation_config
    before = configuration.to_dict()
    configuration.update(
        do_sample=True,
        temperature=0.1,
        top_k=1,
        repetition_penalty=9.0,
        min_p=0.9,
        no_repeat_ngram_size=1,
        max_length=3,
    )
    try:
        assert drawn(wild, greedy_first=False) == expected
        configuration.eos_token_id = [1, wild.tokenizer.convert_tokens_to_ids("7")]
        assert any("7" in rollout.completion for rollout in expected)
        assert not any("7" in rollout.completion for rollout in drawn(wild, greedy_first=False))
    finally:
        configuration.update(**before)


@pytest.mark.parametrize("params", [{}, {"greedy_first": False}])
def test_a_text_ends_where_the_first_of_its_stop_strings_begins(wild: Policy, params: dict[str, Any]) -> None:
    whole, stops = drawn(wild, **params), ["a", "9(", "="]
    cut = drawn(wild, stop=stops, **params)
    for one, other in zip(whole, cut, strict=True):
        at = min((one.completion.index(stop) for stop in stops if stop in one.completion), default=None)
        assert other.completion == (one.completion if at is None else one.completion[:at])
        assert other.finished == (one.finished or at is not None)
    assert any(len(one.completion) > len(other.completion) for one, other in zip(whole, cut, strict=True))


def test_a_result_depends_on_its_task_s_seed_and_not_on_what_is_decoded_beside_it(wild: Policy) -> None:
    given: dict[str, Any] = {"greedy_first": False, "score": "nothing"}
    together = drawn(wild, **given)
    assert [drawn(wild, [task], **given)[0] for task in TASKS] == together
    assert len({rollout.completion for rollout in together}) == len(TASKS)


def test_a_fixed_number_of_attempts_takes_the_place_of_the_tasks_own(wild: Policy) -> None:
    made = drawn(wild, TASKS[:2], attempts="fixed", samples=3)
    assert [(rollout.task, rollout.attempt) for rollout in made] == [(t, n) for t in ("t0", "t1") for n in range(3)]
