"""Turns, tools and forms: what is laid out how, and who waits for whom."""

import itertools
import json
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from selfloop.errors import UserError
from selfloop.generate import GenerateParams, draw
from selfloop.generate.protocols import Ask, Call, Steps, between
from selfloop.generate.protocols.correct import Correct
from selfloop.generate.protocols.tools import called
from selfloop.generate.tools import Tool
from selfloop.generate.tools.calc import Calc
from selfloop.generate.tools.op import Op
from selfloop.policy import Policy
from selfloop.records import PROTOCOL, Rollout, Task, final_text, non_policy_spans, segments_of
from selfloop.verify import VerifyParams, judge

TASKS = [Task(f"t{number}", 1, "", "ab" * (number % 3 + 1), "", max_tokens=20) for number in range(8)]
CALL: dict[str, Any] = {"form": "regex", "greedy_first": False}


def drawn(policy: Policy, protocol: Any = "single", tasks: list[Task] = TASKS, **params: Any) -> list[Rollout]:
    params = {"protocol": protocol} | params
    return [rollout for window in draw(policy, tasks, GenerateParams(**params)) for rollout in window]


def by_others(rollout: Rollout) -> list[str]:
    return [rollout.completion[start:end] for start, end in non_policy_spans(rollout.segments, rollout.role)]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("6*7", "42"), (" (1 + 2) * -3 ", "-9"), ("7/2", "3.5"), ("8/2", "4"), ("7//2", "3"), ("7%4", "3"),
        ("2**10", "1024"),
        ("1/0", "error: division by zero"), ("2**9999", "error: an exponent above 64"),
        ("__import__('os').system('true')", "error: Call is not arithmetic"), ("a+1", "error: Name is not arithmetic"),
        ("1+", "error: not an expression"), ("'a'*9", "error: Constant is not arithmetic"),
        ("True", "error: Constant is not arithmetic"),
        ("(-8)**0.5", "error: no real number"), ("1" * 300, "error: longer than 200 characters"),
        ("((9**64)**64)**64", "error: too large a number"), ("1e308*10", "inf"), ("\x00", "error: not an expression"),
    ],
)  # fmt: skip
def test_the_calculator_calculates_and_says_why_not(expression: str, value: str) -> None:
    assert Calc()(expression) == value


@pytest.mark.parametrize(
    ("operation", "value"),
    [
        ("3+4", "7"), ("-7*2", "-14"), ("5--3", "8"), (" 5-3 ", "2"), ("-5+-3", "-8"), ("07*3", "21"),
        *((wrong, "error: not one operation on two whole numbers") for wrong in (
            "", "3", "3+", "+3", "3+4+5", "(3+4)", "3/4", "3**4", "3 + 4", "3.5+1", "٣+4", "3+4\n5", "9" * 19 + "+1",
        )),
    ],
)  # fmt: skip
def test_the_tool_op_works_out_one_operation_alone(operation: str, value: str) -> None:
    assert Op()(operation) == value


def test_a_call_is_what_stands_between_the_last_marks() -> None:
    assert called("so <calc>1</calc> and <calc>2+3</calc>", ("calc",)) == Call("calc", "2+3")
    assert called("2+3</calc>", ("calc",)) == Call("calc", "2+3")
    assert called("<calc>2+3</calc> is five", ("calc",)) is None


def test_a_tool_s_answer_is_read_and_is_marked_as_not_the_policy_s(wild: Policy) -> None:
    for rollout in drawn(wild, "tools,turns=3", pattern=r"<calc>[0-9]\*[0-9]</calc>", **CALL):
        first = re.match(r"<calc>(\d)\*(\d)</calc><result>(\d+)</result><calc>", rollout.completion)
        assert first is not None
        assert int(first[1]) * int(first[2]) == int(first[3])
        assert [text.startswith("<result>") for text in by_others(rollout)] == [True, True]
        assert rollout.turns == 3
        written = rollout.completion
        for text in by_others(rollout):
            written = written.replace(text, "", 1)
        assert rollout.tokens == len(written)  # a token a character; no end token: each turn ended at a mark
        assert not rollout.finished  # it still waits for an answer


def test_a_policy_that_calls_nothing_has_one_turn(wild: Policy) -> None:
    single = drawn(wild, greedy_first=False)
    assert drawn(wild, "tools", greedy_first=False) == single


def test_self_correction_asks_again_and_the_last_answer_counts(wild: Policy) -> None:
    tasks = [task._replace(max_tokens=20 if number % 2 else 1) for number, task in enumerate(TASKS)]
    first = drawn(wild, tasks=tasks, stop=["="])
    twice = drawn(wild, Correct(turns=2, follow_up=" again "), tasks, stop=["="])
    assert {rollout.turns for rollout in twice} == {1, 2}  # who was cut at the limit is not asked again
    for one, other in zip(first, twice, strict=True):
        assert other.turns == 1 + one.finished
        if not one.finished:
            assert other == one
            continue
        assert other.completion.startswith(one.completion + " again ")
        assert by_others(other) == [" again "]
        assert final_text(other.completion, other.segments) == other.completion[len(one.completion + " again ") :]
        asked = Task("", 1, "", one.prompt + one.completion + " again ", "", max_tokens=20)
        [alone] = drawn(wild, tasks=[asked], stop=["="])
        assert (alone.completion, alone.finished) == (final_text(other.completion, other.segments), other.finished)
        assert other.logprob == pytest.approx((one.logprob or 0) + (alone.logprob or 0), abs=1e-3)


def test_a_verifier_judges_the_last_answer() -> None:
    task = Task("t", 1, "", "1+1=", "2")
    told = Rollout("t", 1, 0, "1+1=", "3 again 2", True, 2, segments=segments_of("3 again 2", [(1, 8)], PROTOCOL))
    [right, wrong] = judge([told, told._replace(segments=())], [task], VerifyParams(verifier="exact"))
    assert (right.ok, wrong.ok) == (True, False)


def test_a_chat_template_s_own_words_stand_between_the_turns(wild: Policy) -> None:
    template = "{% for m in messages %}({{ m.role[0] }}{{ m.content }}){% endfor %}{{ '(a' if add_generation_prompt }}"
    wild.tokenizer.chat_template = template
    try:
        assert between(wild.tokenizer, "12", "again") == ")(uagain)(a"
        wild.tokenizer.chat_template = template.replace("m.content", "'' if m.role == 'assistant' else m.content")
        with pytest.raises(UserError, match="leaves out earlier answers"):
            between(wild.tokenizer, "12", "again")
    finally:
        wild.tokenizer.chat_template = None


OTHERS_ENDED, ATTEMPT = threading.Event(), itertools.count()


def slow(argument: str) -> str:
    """A tool that answers when all other attempts have ended."""
    assert OTHERS_ENDED.wait(60), "the other attempts waited for this one"
    return argument


def the_first_calls(task: Task, *, tools: list[Tool]) -> Steps:
    number = next(ATTEMPT)
    yield Ask()
    if number == 0:
        answer = yield Call("slow", "7")
        yield Ask(answer)


def test_no_rollout_waits_for_another_s_tool(wild: Policy) -> None:
    ended: list[Rollout] = []

    def told(rollouts: Sequence[Rollout]) -> None:
        ended.extend(rollouts)
        if len(ended) == len(TASKS) - 1:
            OTHERS_ENDED.set()

    params = GenerateParams(protocol=f"{__name__}:the_first_calls,tools={__name__}:slow", batch_size=2)
    [made] = draw(wild, TASKS, params, told)
    assert [rollout.turns for rollout in made] == [2] + [1] * (len(TASKS) - 1)
    assert ended[-1] == made[0]
    assert by_others(made[0]) == ["7"]


def failing(argument: str) -> str:
    raise RuntimeError("out of order")


def test_a_tool_that_raises_is_named(wild: Policy) -> None:
    with pytest.raises(UserError, match="The tool 'failing' raised RuntimeError"):
        drawn(wild, f"tools,tools={__name__}:failing", pattern="<failing>1</failing>", **CALL)


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="There is no protocol 'corect': did you mean 'correct'"):
        GenerateParams(protocol="corect")
    with pytest.raises(UserError, match="There is no tool 'calk': did you mean 'calc'"):
        GenerateParams(protocol="tools,tools=calk+op")
    with pytest.raises(UserError, match="There is no parameter of the protocol 'correct' 'turn': did you mean 'turns'"):
        GenerateParams(protocol="correct,turn=2")


def calls_another(task: Task) -> Steps:
    yield Call("calc", "1")


def test_a_tool_that_the_protocol_has_not_is_refused(wild: Policy) -> None:
    with pytest.raises(UserError, match=r"There is no tool of the protocol '.*:calls_another' 'calc': known are: none"):
        drawn(wild, f"{__name__}:calls_another")


PROPERTIES = {"a": {"type": "integer"}, "b": {"enum": ["x", "y"]}}
SCHEMA = json.dumps({"type": "object", "properties": PROPERTIES, "required": ["a", "b"]})


@pytest.mark.parametrize(
    ("form", "fits"),
    [
        ({"form": "regex", "pattern": "[0-9]{3}-[a-f]+"}, "[0-9]{3}-[a-f]*"),
        ({"form": "choice", "choices": ["yes", "no", "(maybe)"]}, r"yes|no|\(maybe\)"),
    ],
)
def test_texts_have_the_form_that_is_asked_for(wild: Policy, form: dict[str, Any], fits: str) -> None:
    made = drawn(wild, greedy_first=False, **form)
    assert all(re.fullmatch(fits, rollout.completion) for rollout in made)
    assert len({rollout.completion for rollout in made}) > 1


def test_a_form_that_the_policy_s_tokens_cannot_write_is_refused(wild: Policy) -> None:
    with pytest.raises(UserError, match="cannot write what 'É"):
        drawn(wild, form="regex", pattern="É+")
    with pytest.raises(UserError, match="JSON schema cannot be followed"):
        drawn(wild, form="json", json_schema="{")


def byte_level(place: Path) -> Any:
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    inner = ByteLevelBPETokenizer()
    inner.train_from_iterator(['{"a": 1, "b": "x"}', "vöila"] * 20, vocab_size=300, special_tokens=["<eos>"])
    return PreTrainedTokenizerFast(tokenizer_object=inner._tokenizer, eos_token="<eos>", pad_token="<eos>")


def test_json_follows_its_schema_with_a_tokenizer_of_bytes(tmp_path: Path) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = byte_level(tmp_path)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer) + 3, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    policy = Policy(LlamaForCausalLM(config).eval(), tokenizer)
    tasks = [task._replace(max_tokens=200) for task in TASKS]
    made = drawn(policy, tasks=tasks, form="json", json_schema=SCHEMA, greedy_first=False, temperature=0.7)
    whole = [json.loads(rollout.completion) for rollout in made if rollout.finished]
    assert whole
    assert all(set(value) == {"a", "b"} and isinstance(value["a"], int) and value["b"] in "xy" for value in whole)


@pytest.mark.debian("bubblewrap")
def test_python_answers_from_the_sandbox() -> None:
    pytest.importorskip("selfloop.sandbox", reason="the sandbox is not here")
    python = Tool.parse("python")
    assert python("print(6 * 7)") == "42"
    assert python("1/0") == "error: ZeroDivisionError: division by zero"
    assert python("while True: pass").startswith("error:")


def test_a_protocol_that_speaks_what_the_policy_cannot_read_is_refused(wild: Policy) -> None:
    with pytest.raises(UserError, match="This policy has no token for 'C', and is asked 'Check this answer"):
        drawn(wild, "correct,follow_up=Check this answer!")
