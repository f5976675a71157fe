"""Attempts at tasks with one engine: every attempt follows its protocol, and none waits for another."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, NamedTuple

from selfloop.errors import UserError
from selfloop.generate.engines import Completion, Engine, Request
from selfloop.generate.params import GenerateParams
from selfloop.generate.protocols import Ask, Call, Rules, Steps, Wrote, between, find_protocol
from selfloop.generate.tools import answers_at_once, find_tools
from selfloop.policy import Policy, encode
from selfloop.records import Rollout, Task, batched
from selfloop.seeds import seed_for

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CALLS_AT_ONCE = 8

Told = Callable[[Rollout], None]


def draw(
    policy: Policy | Engine, tasks: Iterable[Task], params: GenerateParams, told: Told = lambda rollout: None
) -> Iterator[list[Rollout]]:
    """Rollouts in the order of the tasks and their attempts, a list for each window of tasks.

    ``told`` hears of each rollout as it ends. Raises ``UserError`` for a protocol or a tool that there is not.
    """
    if isinstance(policy, Engine):
        engine = policy
    else:
        from selfloop.generate.engines.transformers import Transformers

        engine = Transformers(policy, params.batch_size)
    for window in batched(tasks, params.window):
        yield Window(engine, window, params, told).rollouts()


class Drawn(NamedTuple):
    """An attempt as a training needs it: the record, its tokens, and which of the completion's the policy wrote."""

    rollout: Rollout
    prompt: list[int]
    completion: list[int]
    own: list[bool]


class Window:
    """Tasks that are drawn together. Tools answer in threads while the engine goes on with the other attempts."""

    def __init__(self, engine: Engine, tasks: Sequence[Task], params: GenerateParams, told: Told) -> None:
        self._engine, self._params, self._told = engine, params, told
        self._tools = find_tools(params.tools)
        self._sampling = cache(lambda greedy, marks: params.sampling(greedy)._replace(marks=marks))
        self._calls: dict[Future[str], tuple[int, str]] = {}
        protocol, rules = find_protocol(params.protocol), Rules(params.turns, params.follow_up, tuple(self._tools))
        prompts = encode(engine.tokenizer, [task.prompt for task in tasks])
        self._attempts = [
            Attempt(engine.tokenizer, task, number, prompt, protocol(rules))
            for task, prompt in zip(tasks, prompts, strict=True)
            for number in range(params.attempts_at(task))
        ]

    def rollouts(self) -> list[Rollout]:
        """The record of every attempt, when all have ended."""
        return [attempt.rollout for attempt in self._ended()]

    def drawn(self) -> list[Drawn]:
        """Every attempt with its tokens, when all have ended."""
        return [attempt.drawn for attempt in self._ended()]

    def _ended(self) -> list[Attempt]:
        with ThreadPoolExecutor(CALLS_AT_ONCE) as pool:
            for key in range(len(self._attempts)):
                self._go_on(key, None, pool)
            while True:
                completions = self._engine.step()
                for completion in completions:
                    self._go_on(completion.key, self._attempts[completion.key].hear(completion), pool)
                if not completions and not self._calls:
                    break
                for key, answer in self._answers(wait_for_one=not completions):
                    self._go_on(key, answer, pool)
        return self._attempts

    def _go_on(self, key: int, sent: Wrote | str | None, pool: ThreadPoolExecutor) -> None:
        attempt = self._attempts[key]
        wanted = attempt.next(sent)
        while isinstance(wanted, Call) and answers_at_once(tool := self._tools[wanted.tool]):
            wanted = attempt.next(_answer(wanted.tool, partial(tool, wanted.argument)))
        if isinstance(wanted, Ask):
            attempt.tell(wanted)
            self._engine.add(self._request(key, attempt, wanted))
        elif isinstance(wanted, Call):
            self._calls[pool.submit(self._tools[wanted.tool], wanted.argument)] = (key, wanted.tool)
        else:
            self._told(attempt.rollout)

    def _request(self, key: int, attempt: Attempt, asked: Ask) -> Request:
        params, task = self._params, attempt.task
        sampling = self._sampling(params.greedy_first and attempt.number == 0, asked.marks)
        seed = seed_for(params, params.round, "generate", task.id, attempt.number, attempt.turns)
        return Request(key, attempt.context, min(task.max_tokens, params.max_tokens), seed, sampling)

    def _answers(self, wait_for_one: bool) -> list[tuple[int, str]]:
        """What tools have answered by now, in the order of the calls."""
        if wait_for_one:
            wait(self._calls, return_when=FIRST_COMPLETED)
        ready = [call for call in self._calls if call.done()]
        return [(key, _answer(name, call.result)) for call in ready for key, name in [self._calls.pop(call)]]


def _answer(tool: str, call: Callable[[], str]) -> str:
    try:
        return call()
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"The tool '{tool}' raised {error!r}: let it answer with a text instead.") from error


class Attempt:
    """One rollout at work: its protocol, the tokens that it stands on, and what was written so far, by whom."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, task: Task, number: int, prompt: list[int], steps: Steps
    ) -> None:
        self.task, self.number, self.context = task, number, prompt
        self._prompt, self._own = len(prompt), list[bool]()
        self._tokenizer, self._steps, self._asked = tokenizer, steps, Ask()
        self._text, self._observed, self._turns = "", list[tuple[int, int]](), list[Completion]()
        self._finished = False

    @property
    def turns(self) -> int:
        """How often the policy has written."""
        return len(self._turns)

    def next(self, sent: Wrote | str | None) -> Ask | Call | None:
        """What the protocol wants after what it is sent; none where the attempt has ended."""
        try:
            return self._steps.send(sent)
        except StopIteration:
            return None

    def tell(self, asked: Ask) -> None:
        """Put what the policy is told behind what was written."""
        self._asked = asked
        told = between(self._tokenizer, self.task.prompt, asked.told) if asked.as_message else asked.told
        if told:
            self._observed.append((len(self._text), len(self._text) + len(told)))
            self._text += told
            self._lengthen(self._tokenizer(told, add_special_tokens=False)["input_ids"], own=False)

    def hear(self, completion: Completion) -> Wrote:
        """Take what the policy wrote. It goes on from its own tokens, unless a stop string cut through them."""
        again = [] if completion.whole else self._tokenizer(completion.text, add_special_tokens=False)["input_ids"]
        self._lengthen(completion.tokens if completion.whole else again, own=True)
        self._text += completion.text
        self._turns.append(completion)
        waits = completion.text.endswith(self._asked.marks) if self._asked.marks else False
        self._finished = completion.finished and not waits
        return Wrote(completion.text, completion.finished)

    def _lengthen(self, tokens: list[int], own: bool) -> None:
        self.context = self.context + tokens
        self._own += [own] * len(tokens)

    @property
    def drawn(self) -> Drawn:
        """The record and the tokens, the end token among them."""
        end = [token for token in [self._turns[-1].end if self._turns else None] if token is not None]
        completion = self.context[self._prompt :] + end
        return Drawn(self.rollout, self.context[: self._prompt], completion, self._own + [True] * len(end))

    @cached_property
    def rollout(self) -> Rollout:
        """The record of it, when it has ended."""
        task, written = self.task, sum(turn.written for turn in self._turns)
        logprobs = [turn.logprob for turn in self._turns if turn.logprob is not None]
        certain = [turn.self_certainty * turn.written for turn in self._turns if turn.self_certainty is not None]
        return Rollout(
            task.id,
            task.level,
            self.number,
            task.prompt,
            self._text,
            self._finished,
            written,
            logprob=sum(logprobs) if logprobs else None,
            self_certainty=sum(certain) / written if certain else None,
            observed=json.dumps(self._observed),
            turns=self.turns,
        )
