"""Attempts at tasks with one engine: every attempt follows its protocol, and none waits for another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, NamedTuple

from selfloop.chats import CUT, as_data, encode, refuse_unknown, tokens_of
from selfloop.errors import UserError
from selfloop.generate.engines import Completion, Engine, Request, Sampling
from selfloop.generate.params import GenerateParams
from selfloop.generate.protocols import Ask, Call, Reward, Steps, Wrote, between
from selfloop.generate.tools import Tool
from selfloop.lookup import unknown
from selfloop.metering import drew
from selfloop.policy import Policy, check_room
from selfloop.records import PROTOCOL, Rollout, Segment, Task, batched
from selfloop.seeds import seed_for

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CALLS_AT_ONCE = 8

Listener = Callable[[Sequence[Rollout]], None]


def draw(
    policy: Policy | Engine, tasks: Iterable[Task], params: GenerateParams, listener: Listener = lambda rollouts: None
) -> Iterator[list[Rollout]]:
    """Rollouts in the order of the tasks and their attempts, a list for each window of tasks. An attempt has one, or
    one for each role that its protocol asks for.

    ``listener`` hears of each attempt as it ends.
    """
    if isinstance(policy, Engine):
        engine = policy
    else:
        from selfloop.generate.engines.transformers import Transformers

        engine = Transformers(policy, params.batch_size)
    for window in batched(tasks, params.window):
        yield Window(engine, window, params, listener).rollouts()


class TokenizedRollout(NamedTuple):
    """An attempt as a training needs it: the record, its tokens, and which of the completion's the policy wrote."""

    rollout: Rollout
    prompt: list[int]
    completion: list[int]
    own: list[bool]


def one_role(rollouts: Sequence[Rollout]) -> Sequence[Rollout]:
    """The same rollouts, one of each attempt. Raises ``UserError`` where the attempts have several roles."""
    roles = dict.fromkeys(f"'{rollout.role}'" for rollout in rollouts if rollout.episode)
    if roles:
        raise UserError(
            f"The protocol asks for the roles {' and '.join(roles)}, and one rollout of each attempt is wanted here: "
            "choose a protocol that asks for one role."
        )
    return rollouts


class Window:
    """Tasks that are drawn together. Tools answer in threads while the engine continues with the other attempts."""

    def __init__(
        self,
        engine: Engine,
        tasks: Sequence[Task],
        params: GenerateParams,
        listener: Listener = lambda rollouts: None,
    ) -> None:
        self._engine, self._params, self._listener = engine, params, listener
        self._tools = params.protocol.toolbox
        self._sampling = cache(partial(_sampling, params))
        self._calls: dict[Future[str], tuple[int, str]] = {}
        prompts = encode(engine.tokenizer, [task.prompt for task in tasks])
        self._attempts = [
            Attempt(engine.tokenizer, task, number, prompt, params.protocol(task), params.keep_tokens)
            for task, prompt in zip(tasks, prompts, strict=True)
            for number in range(params.attempts_at(task))
        ]

    def rollouts(self) -> list[Rollout]:
        """The records of every attempt, when all have ended."""
        return [rollout for attempt in self._ended() for rollout in attempt.rollouts]

    def tokenized(self) -> list[TokenizedRollout]:
        """The records of every attempt with their tokens, when all have ended."""
        return [each for attempt in self._ended() for each in attempt.tokenized]

    def _ended(self) -> list[Attempt]:
        with ThreadPoolExecutor(CALLS_AT_ONCE) as pool:
            for key in range(len(self._attempts)):
                self._proceed(key, None, pool)
            while True:
                completions = self._engine.step()
                drew(sum(completion.written for completion in completions))
                for completion in completions:
                    self._proceed(completion.key, self._attempts[completion.key].hear(completion), pool)
                if not completions and not self._calls:
                    break
                for key, answer in self._answers(wait_for_one=not completions):
                    self._proceed(key, answer, pool)
        return self._attempts

    def _proceed(self, key: int, sent: Wrote | str | None, pool: ThreadPoolExecutor) -> None:
        attempt = self._attempts[key]
        wanted = attempt.next(sent)
        while isinstance(wanted, Call) and (tool := self._tool(wanted.tool)).at_once:
            wanted = attempt.next(_answer(wanted.tool, partial(tool, wanted.argument)))
        if isinstance(wanted, Ask):
            attempt.tell(wanted)
            self._engine.add(self._request(key, attempt, wanted))
        elif isinstance(wanted, Call):
            self._calls[pool.submit(self._tool(wanted.tool), wanted.argument)] = (key, wanted.tool)
        else:
            self._listener(attempt.rollouts)

    def _tool(self, name: str) -> Tool:
        if name not in self._tools:
            raise unknown(f"tool of the protocol '{self._params.protocol.spelling()}'", name, self._tools or ["none"])
        return self._tools[name]

    def _request(self, key: int, attempt: Attempt, asked: Ask) -> Request:
        params, task = self._params, attempt.task
        if task.temperature is not None and not task.temperature > 0:
            raise UserError(
                f"The task '{task.id}' has the temperature {task.temperature}: give it one above 0, or none."
            )
        sampling = self._sampling(params.greedy_first and attempt.number == 0, asked.stop_after, task.temperature)
        seed = seed_for(params, params.round, "generate", task.id, attempt.number, attempt.turns)
        limit = min(task.max_tokens, params.max_tokens)
        check_room(attempt.context, limit, self._engine.context)
        return Request(key, attempt.context, limit, seed, sampling)

    def _answers(self, wait_for_one: bool) -> list[tuple[int, str]]:
        """What tools have answered by now, in the order of the calls."""
        if wait_for_one:
            wait(self._calls, return_when=FIRST_COMPLETED)
        ready = [call for call in self._calls if call.done()]
        return [(key, _answer(name, call.result)) for call in ready for key, name in [self._calls.pop(call)]]


def _sampling(params: GenerateParams, greedy: bool, stop_after: tuple[str, ...], temperature: float | None) -> Sampling:
    made = params.sampling(greedy)._replace(stop_after=stop_after, keep_tokens=params.keep_tokens)
    return made if greedy or temperature is None else made._replace(temperature=temperature)


def _answer(tool: str, call: Callable[[], str]) -> str:
    try:
        return call()
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"The tool '{tool}' raised {error!r}: let it answer with a text instead.") from error


class Attempt:
    """An attempt at work: its protocol, and a transcript for each role that it asked for."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        task: Task,
        number: int,
        prompt: list[int],
        steps: Steps,
        keep_tokens: bool,
    ) -> None:
        self.task, self.number, self._prompt = task, number, prompt
        self._tokenizer, self._steps, self._keep_tokens = tokenizer, steps, keep_tokens
        self._transcripts: dict[str, Transcript] = {}
        self._asked = self._new_transcript(Ask())

    def _new_transcript(self, asked: Ask) -> Transcript:
        if asked.prompt is None:
            return Transcript(self._tokenizer, asked.role, self.task.prompt, self._prompt)
        [tokens] = encode(self._tokenizer, [asked.prompt])
        return Transcript(self._tokenizer, asked.role, asked.prompt, tokens)

    @property
    def turns(self) -> int:
        """How often the policy has written, in any role."""
        return sum(len(each.turns) for each in self._transcripts.values())

    @property
    def context(self) -> list[int]:
        """The tokens that the role stands on that was asked last."""
        return self._asked.context

    def next(self, sent: Wrote | str | None) -> Ask | Call | None:
        """What the protocol wants after what it is sent; none where the attempt has ended."""
        try:
            wanted = self._steps.send(sent)
            while isinstance(wanted, Reward):
                self._reward(wanted)
                wanted = self._steps.send(None)
        except StopIteration:
            return None
        return wanted

    def _reward(self, given: Reward) -> None:
        if given.role not in self._transcripts:
            raise UserError(
                f"The protocol rewards the role '{given.role}', which wrote nothing: let it be asked first."
            )
        self._transcripts[given.role].reward(given.value)

    def tell(self, asked: Ask) -> None:
        """Turn to a role, and put what it is told behind what it read and wrote."""
        if asked.role not in self._transcripts:
            self._transcripts[asked.role] = self._new_transcript(asked)
        self._asked = self._transcripts[asked.role]
        self._asked.tell(asked)

    def hear(self, completion: Completion) -> Wrote:
        """Take what the policy wrote."""
        self._asked.hear(completion)
        return Wrote(completion.text, completion.finished)

    @property
    def rollouts(self) -> list[Rollout]:
        """The records of it, when it has ended, in the order in which the roles were first asked."""
        return [each.rollout for each in self.tokenized]

    @cached_property
    def tokenized(self) -> list[TokenizedRollout]:
        """The records and the tokens, end tokens among them."""
        transcripts = self._transcripts.values() or [self._asked]
        episode = f"{self.task.id}-{self.number}" if len(transcripts) > 1 else ""
        return [each.ended(self.task, self.number, episode, self._keep_tokens) for each in transcripts]


class Transcript:
    """What one role read and wrote in an attempt: as tokens, and as segments by their authors."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, role: str, prompt: str, tokens: list[int]) -> None:
        self._tokenizer, self._role, self._prompt, self.context = tokenizer, role, prompt, tokens
        self._begins, self._own, self._logprobs = len(tokens), list[bool](), list[float | None]()
        self._segments, self.turns = list[Segment](), list[Completion]()
        self._stop_after, self._finished = tuple[str, ...](), False

    def tell(self, asked: Ask) -> None:
        """Put what the role is told behind what was written; a message before that belongs to the prompt."""
        self._stop_after = asked.stop_after
        if asked.as_message and not self._segments:
            self._prompt += asked.text
            [self.context] = encode(self._tokenizer, [self._prompt])
            self._begins = len(self.context)
            return
        text = self._marked(asked)
        if text:
            self._segments.append(Segment(asked.author, text.replace(CUT, "")))
            [tokens] = tokens_of(self._tokenizer, [text])
            if asked.author == PROTOCOL:
                refuse_unknown(self._tokenizer, [text], [tokens])
            self._lengthen(tokens, own=asked.author == self._role)

    def _marked(self, asked: Ask) -> str:
        """What the role is told, marked where data spells control tokens."""
        if asked.as_message:
            return between(self._tokenizer, self._prompt, asked.text)
        return asked.text if asked.author == PROTOCOL else as_data(self._tokenizer, asked.text)

    def hear(self, completion: Completion) -> None:
        """Take what the policy wrote. It continues from its own tokens, unless a stop string cut through them."""
        if completion.whole:
            self._lengthen(completion.tokens, True, completion.logprobs)
        else:
            self._lengthen(self._tokenizer(completion.text, add_special_tokens=False)["input_ids"], own=True)
        self._segments.append(Segment(self._role, completion.text))
        self.turns.append(completion)
        waits = completion.text.endswith(self._stop_after) if self._stop_after else False
        self._finished = completion.finished and not waits

    def _lengthen(self, tokens: list[int], own: bool, logprobs: Sequence[float | None] | None = None) -> None:
        self.context = self.context + tokens
        self._own += [own] * len(tokens)
        self._logprobs += (logprobs or [None] * len(tokens))[: len(tokens)]

    def reward(self, value: float) -> None:
        """Add to what the role's last text is worth."""
        place = max(n for n, segment in enumerate(self._segments) if segment.author == self._role)
        segment = self._segments[place]
        self._segments[place] = segment._replace(reward=(segment.reward or 0.0) + value)

    def ended(self, task: Task, number: int, episode: str, keep_tokens: bool) -> TokenizedRollout:
        """The record and the tokens of it."""
        last = self.turns[-1] if self.turns else None
        end = [] if last is None or last.end is None else [last.end]
        completion, own = self.context[self._begins :] + end, self._own + [True] * len(end)
        rollout = self._rollout(task, number)._replace(episode=episode)
        if keep_tokens:
            of_end = last.logprobs[-1:] if last and last.logprobs else [None]
            logprobs = None if rollout.logprob is None else (*self._logprobs, *of_end[: len(end)])
            rollout = rollout._replace(token_ids=tuple(completion), logprobs=logprobs)
        return TokenizedRollout(rollout, self.context[: self._begins], completion, own)

    def _rollout(self, task: Task, number: int) -> Rollout:
        written = sum(turn.written for turn in self.turns)
        logprobs = [turn.logprob for turn in self.turns if turn.logprob is not None]
        certain = [turn.self_certainty * turn.written for turn in self.turns if turn.self_certainty is not None]
        plain = len(self._segments) == len(self.turns) == 1 and self._segments[0].reward is None
        return Rollout(
            task.id,
            task.level,
            number,
            self._prompt,
            "".join(segment.text for segment in self._segments),
            self._finished,
            written,
            logprob=sum(logprobs) if logprobs else None,
            self_certainty=sum(certain) / written if certain else None,
            turns=len(self.turns),
            role=self._role,
            segments=() if plain else tuple(self._segments),
        )
